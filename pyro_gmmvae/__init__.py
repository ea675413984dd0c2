"""Gaussian-mixture variational autoencoders in Pyro.

``import pyro_gmmvae`` imports neither torch nor a part of the package: a name, and each part, is
imported when it is first used.
"""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae import config as config
    from pyro_gmmvae import data as data
    from pyro_gmmvae import datasets as datasets
    from pyro_gmmvae import distributions as distributions
    from pyro_gmmvae import estimators as estimators
    from pyro_gmmvae import evaluation as evaluation
    from pyro_gmmvae import explorer as explorer
    from pyro_gmmvae import figures as figures
    from pyro_gmmvae import guides as guides
    from pyro_gmmvae import inference_data as inference_data
    from pyro_gmmvae import models as models
    from pyro_gmmvae import networks as networks
    from pyro_gmmvae import objectives as objectives
    from pyro_gmmvae import runs as runs
    from pyro_gmmvae import skeletons as skeletons
    from pyro_gmmvae import sweeps as sweeps
    from pyro_gmmvae import training as training
    from pyro_gmmvae.config import Config
    from pyro_gmmvae.estimators import GMMVAEClassifier
    from pyro_gmmvae.models import GMMVAE
    from pyro_gmmvae.runs import Run, default_config, resume, train
else:
    __getattr__, __dir__ = lazy_names(__name__)

__version__ = "0.1.0"

__all__ = [
    "GMMVAE",
    "Config",
    "GMMVAEClassifier",
    "Run",
    "default_config",
    "resume",
    "train",
]
