"""Tuning: settings searched by validation rows; a Gaussian process, TPE or random draws choose.

``tune`` runs a study in a folder, ``space`` says what it searches, ``study`` keeps it in a journal
that processes and machines share, ``trial`` runs one trial, ``report`` writes what was found.
"""

from pyro_gmmvae.sweeps.samplers import SAMPLERS
from pyro_gmmvae.sweeps.trial import METRICS
from pyro_gmmvae.sweeps.tune_report import Tuned
from pyro_gmmvae.sweeps.tuner import tune

__all__ = ["METRICS", "SAMPLERS", "Tuned", "tune"]
