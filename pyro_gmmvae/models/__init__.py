"""Models: one file each, a generative story and a posterior, as plain Pyro programs."""

from torch import nn

from pyro_gmmvae.models.gmmvae import GMMVAE
from pyro_gmmvae.models.vae import VAE

MODELS: dict[str, type[nn.Module]] = {
    "gmmvae": GMMVAE,
    "vae": VAE,
}

__all__ = ["GMMVAE", "MODELS", "VAE"]
