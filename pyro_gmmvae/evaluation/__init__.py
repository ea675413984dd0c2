"""Evaluation: numbers from arrays and programs, whatever the model."""

from pyro_gmmvae.evaluation.calibration import expected_calibration_error, reliability
from pyro_gmmvae.evaluation.classification import (
    accuracy,
    confusion,
    probe_accuracy,
    wilson_interval,
)
from pyro_gmmvae.evaluation.clustering import clustering_scores
from pyro_gmmvae.evaluation.likelihood import Bounds, log_weights, pareto_k

__all__ = [
    "Bounds",
    "accuracy",
    "clustering_scores",
    "confusion",
    "expected_calibration_error",
    "log_weights",
    "pareto_k",
    "probe_accuracy",
    "reliability",
    "wilson_interval",
]
