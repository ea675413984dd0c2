"""Evaluation: numbers from arrays and programs, whatever the model."""

from pyro_gmmvae.evaluation.calibration import expected_calibration_error, reliability
from pyro_gmmvae.evaluation.classification import (
    accuracy,
    confusion,
    log_loss,
    probe_accuracy,
    wilson_interval,
)
from pyro_gmmvae.evaluation.clustering import (
    assignment_entropy,
    clustering_scores,
    components_used,
    log_probs_of_names,
    silhouette,
    used_components,
)
from pyro_gmmvae.evaluation.likelihood import Bounds, log_weights, pareto_k
from pyro_gmmvae.evaluation.sequences import (
    detection_auroc,
    mean_by_sequence,
    pool_by_sequence,
)

__all__ = [
    "Bounds",
    "accuracy",
    "assignment_entropy",
    "clustering_scores",
    "components_used",
    "confusion",
    "detection_auroc",
    "expected_calibration_error",
    "log_loss",
    "log_probs_of_names",
    "log_weights",
    "mean_by_sequence",
    "pareto_k",
    "pool_by_sequence",
    "probe_accuracy",
    "reliability",
    "silhouette",
    "used_components",
    "wilson_interval",
]
