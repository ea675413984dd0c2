"""Metrics from arrays, and bounds and posterior draws from Pyro programs, for any model."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import PartTable, lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.evaluation.annealing import draw_by_annealing
    from pyro_gmmvae.evaluation.calibration import fit_temperature, tempered
    from pyro_gmmvae.evaluation.conformal import (
        check_coverage,
        conformal_sets,
        new_class_shares,
    )
    from pyro_gmmvae.evaluation.disentanglement import disentanglement, total_correlation
    from pyro_gmmvae.evaluation.generation import (
        fit_judge,
        nearest,
        neighbor_measures,
        relative_spread,
        share_recognized,
    )
    from pyro_gmmvae.evaluation.laplace import draw_by_laplace
    from pyro_gmmvae.evaluation.latent_draws import (
        Draws,
        guide_draws,
        posterior_draws,
        predictive_draws,
        prior_draws,
        split_r_hat,
    )
    from pyro_gmmvae.evaluation.latent_units import active_units, kl_of_units
    from pyro_gmmvae.evaluation.likelihood import (
        GOOD_K,
        USABLE_K,
        Bounds,
        log_weights,
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
    from pyro_gmmvae.evaluation.proposals import Proposal, draw_from_guide, draw_tilted
else:
    __getattr__, __dir__ = lazy_names(__name__)

PROPOSALS: "PartTable[Proposal]" = PartTable(
    __name__,
    {
        "guide": "draw_from_guide",
        "tilted": "draw_tilted",
        "laplace": "draw_by_laplace",
        "ais": "draw_by_annealing",
    },
)

__all__ = [
    "GOOD_K",
    "PROPOSALS",
    "USABLE_K",
    "Bounds",
    "Draws",
    "accuracy",
    "active_units",
    "assignment_entropy",
    "check_coverage",
    "clustering_scores",
    "components_in_use",
    "conformal_sets",
    "confusion",
    "contingency",
    "detection_auroc",
    "disentanglement",
    "draw_by_annealing",
    "draw_by_laplace",
    "draw_from_guide",
    "draw_tilted",
    "expected_calibration_error",
    "fit_judge",
    "fit_temperature",
    "guide_draws",
    "kl_of_units",
    "log_loss",
    "log_weights",
    "matching",
    "n_components_used",
    "nearest",
    "neighbor_measures",
    "new_class_shares",
    "pareto_k",
    "posterior_draws",
    "predictive_draws",
    "prior_draws",
    "probe_accuracy",
    "relative_spread",
    "reliability",
    "share_recognized",
    "silhouette",
    "split_r_hat",
    "sum_by_name",
    "tempered",
    "total_correlation",
    "wilson_interval",
]
