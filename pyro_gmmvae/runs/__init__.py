"""The hall: a config becomes data, model, guide and objective, is fitted, and becomes a run folder.

The only place where the parts meet. ``build`` makes the parts, ``training`` fits them and writes
the folder, ``run`` reads it back and puts the model to use.
"""

from pyro_gmmvae.runs.keys import default_config
from pyro_gmmvae.runs.run import Run
from pyro_gmmvae.runs.trainer import resume, train

__all__ = ["Run", "default_config", "resume", "train"]
