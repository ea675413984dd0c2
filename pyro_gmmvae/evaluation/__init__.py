"""Metrics from arrays, and bounds and posterior draws from Pyro programs, for any model."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.evaluation.latent_draws import (
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
    from pyro_gmmvae.evaluation.metrics import (
        accuracy,
        assignment_entropy,
        clustering_scores,
        components_in_use,
        confusion,
        contingency,
        detection_auroc,
        expected_calibration_error,
        log_loss,
        matching,
        n_components_used,
        probe_accuracy,
        reliability,
        silhouette,
        sum_by_name,
        wilson_interval,
    )
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "GOOD_K",
    "USABLE_K",
    "Bounds",
    "Draws",
    "accuracy",
    "assignment_entropy",
    "clustering_scores",
    "components_in_use",
    "confusion",
    "contingency",
    "detection_auroc",
    "expected_calibration_error",
    "guide_draws",
    "log_loss",
    "log_weights",
    "matching",
    "n_components_used",
    "one_draw",
    "pareto_k",
    "posterior_draws",
    "predictive_draws",
    "prior_draws",
    "probe_accuracy",
    "reliability",
    "silhouette",
    "sum_by_name",
    "wilson_interval",
]
