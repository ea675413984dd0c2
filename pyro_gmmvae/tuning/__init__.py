"""Tuning: settings searched by validation rows; a Gaussian process, TPE or random draws choose.

``tune`` runs a study in a folder, ``space`` says what it searches, ``study`` keeps it in a journal
that processes and machines share, ``trial`` runs one trial, ``report`` writes what was found.
"""

from pyro_gmmvae.tuning.report import Tuned
from pyro_gmmvae.tuning.samplers import SAMPLERS
from pyro_gmmvae.tuning.trial import METRICS
from pyro_gmmvae.tuning.tuner import tune

__all__ = ["METRICS", "SAMPLERS", "Tuned", "tune"]
