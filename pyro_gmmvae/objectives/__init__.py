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
        Assignment,
        Balance,
        Consistency,
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
    __name__, {"balance": "Balance", "consistency": "Consistency", "sparsity": "Sparsity"}
)

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
