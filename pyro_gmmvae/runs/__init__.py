"""Train a configuration into a run folder, and load it back."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.runs.build import resolve
    from pyro_gmmvae.runs.data import TrainingData
    from pyro_gmmvae.runs.initialize import AUTOENCODER_KL
    from pyro_gmmvae.runs.keys import LABEL_KEYS, default_config, own_keys
    from pyro_gmmvae.runs.run import Run
    from pyro_gmmvae.runs.trainer import resume, train
    from pyro_gmmvae.training.devices import machine, processor
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "AUTOENCODER_KL",
    "LABEL_KEYS",
    "Run",
    "TrainingData",
    "default_config",
    "machine",
    "own_keys",
    "processor",
    "resolve",
    "resume",
    "train",
]
