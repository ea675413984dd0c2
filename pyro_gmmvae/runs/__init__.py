"""Train a configuration into a run folder, and load it back."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.runs.keys import default_config
    from pyro_gmmvae.runs.run import Run
    from pyro_gmmvae.runs.trainer import resume, train
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["Run", "default_config", "resume", "train"]
