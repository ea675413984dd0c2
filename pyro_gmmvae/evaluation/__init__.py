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
from pyro_gmmvae.evaluation.sequences import (
    detection_auroc,
    mean_by_sequence,
    pool_by_sequence,
)

__all__ = [
    "Bounds",
    "accuracy",
    "clustering_scores",
    "confusion",
    "detection_auroc",
    "expected_calibration_error",
    "log_weights",
    "mean_by_sequence",
    "pareto_k",
    "pool_by_sequence",
    "probe_accuracy",
    "reliability",
    "wilson_interval",
]
