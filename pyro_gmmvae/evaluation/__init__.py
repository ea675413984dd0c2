"""Evaluation: numbers from arrays and programs, whatever the model."""

from pyro_gmmvae.evaluation.arviz_versions import inference_data, write_netcdf
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
    contingency,
    log_probs_of_names,
    matching,
    silhouette,
    used_components,
)
from pyro_gmmvae.evaluation.draws import (
    Draws,
    guide_draws,
    posterior_draws,
    predictive_draws,
    prior_draws,
)
from pyro_gmmvae.evaluation.likelihood import (
    GOOD_K,
    USABLE_K,
    Bounds,
    log_weights,
    one_draw,
    pareto_k,
)
from pyro_gmmvae.evaluation.sequences import (
    detection_auroc,
)

__all__ = [
    "GOOD_K",
    "USABLE_K",
    "Bounds",
    "Draws",
    "accuracy",
    "assignment_entropy",
    "clustering_scores",
    "components_used",
    "confusion",
    "contingency",
    "detection_auroc",
    "expected_calibration_error",
    "guide_draws",
    "inference_data",
    "log_loss",
    "log_probs_of_names",
    "log_weights",
    "matching",
    "one_draw",
    "pareto_k",
    "posterior_draws",
    "predictive_draws",
    "prior_draws",
    "probe_accuracy",
    "reliability",
    "silhouette",
    "used_components",
    "wilson_interval",
    "write_netcdf",
]
