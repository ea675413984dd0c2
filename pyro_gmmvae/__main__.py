"""``python -m pyro_gmmvae`` is ``gmmvae``."""

from pyro_gmmvae.cli import main

main()
