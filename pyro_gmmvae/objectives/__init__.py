"""Objectives: losses of a model and a guide, for any two Pyro programs with the same latents."""

from pyro_gmmvae.objectives.elbo import (
    AnalyticObjective,
    CategoricalObjective,
    Objective,
    Terms,
    TraceObjective,
)
from pyro_gmmvae.objectives.iwae import IWAEObjective
from pyro_gmmvae.objectives.regularizers import (
    REGULARIZERS,
    Assignment,
    Balance,
    Consistency,
    Regularizer,
    Sparsity,
)

OBJECTIVES: dict[str, type[Objective]] = {
    "trace": TraceObjective,
    "analytic": AnalyticObjective,
    "categorical": CategoricalObjective,
    "iwae": IWAEObjective,
}

__all__ = [
    "OBJECTIVES",
    "REGULARIZERS",
    "AnalyticObjective",
    "Assignment",
    "Balance",
    "CategoricalObjective",
    "Consistency",
    "IWAEObjective",
    "Objective",
    "Regularizer",
    "Sparsity",
    "Terms",
    "TraceObjective",
]
