"""Objectives: losses of a model and a guide, for any two Pyro programs with the same latents."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import PartTable, lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.objectives.elbo import (
        AnalyticObjective,
        CategoricalObjective,
        Objective,
        Terms,
        TraceObjective,
    )
    from pyro_gmmvae.objectives.iwae import IWAEObjective
    from pyro_gmmvae.objectives.regularizers import (
        VAT,
        Assignment,
        Balance,
        Consistency,
        Entropy,
        Regularizer,
        Sparsity,
    )
else:
    __getattr__, __dir__ = lazy_names(__name__)

OBJECTIVES: "PartTable[type[Objective]]" = PartTable(
    __name__,
    {
        "trace": "TraceObjective",
        "analytic": "AnalyticObjective",
        "categorical": "CategoricalObjective",
        "iwae": "IWAEObjective",
    },
)

REGULARIZERS: "PartTable[type[Regularizer]]" = PartTable(
    __name__,
    {
        "balance": "Balance",
        "consistency": "Consistency",
        "entropy": "Entropy",
        "sparsity": "Sparsity",
        "vat": "VAT",
    },
)

__all__ = [
    "OBJECTIVES",
    "REGULARIZERS",
    "VAT",
    "AnalyticObjective",
    "Assignment",
    "Balance",
    "CategoricalObjective",
    "Consistency",
    "Entropy",
    "IWAEObjective",
    "Objective",
    "Regularizer",
    "Sparsity",
    "Terms",
    "TraceObjective",
]
