"""Objectives: losses of a model and a guide, for any two Pyro programs with the same latents."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import PartTable, lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.objectives.adversaries import (
        Adversary,
        ClassAdversary,
        TotalCorrelationAdversary,
    )
    from pyro_gmmvae.objectives.elbo import (
        AnalyticObjective,
        CategoricalObjective,
        Objective,
        Terms,
        TraceObjective,
    )
    from pyro_gmmvae.objectives.iwae import IWAEObjective
    from pyro_gmmvae.objectives.kernel_terms import HSIC, MMD
    from pyro_gmmvae.objectives.latent_terms import (
        DIP,
        Capacity,
        ClassCapacity,
        FreeBits,
        LatentSite,
        LatentTerm,
        TotalCorrelation,
        WithinGroups,
    )
    from pyro_gmmvae.objectives.regularizers import (
        VAT,
        Assignment,
        Balance,
        Consistency,
        Entropy,
        Regularizer,
        Sparsity,
    )
    from pyro_gmmvae.objectives.row_adversaries import PairAdversary, RowAdversary
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

LATENT_TERMS: "PartTable[type[LatentTerm]]" = PartTable(
    __name__,
    {
        "adversary": "Adversary",
        "capacity": "Capacity",
        "class_adversary": "ClassAdversary",
        "class_capacity": "ClassCapacity",
        "dip": "DIP",
        "free_bits": "FreeBits",
        "hsic": "HSIC",
        "mmd": "MMD",
        "pair_adversary": "PairAdversary",
        "tc": "TotalCorrelation",
        "tc_adversary": "TotalCorrelationAdversary",
        "tc_within": "WithinGroups",
        "x_adversary": "RowAdversary",
    },
)

__all__ = [
    "DIP",
    "HSIC",
    "LATENT_TERMS",
    "MMD",
    "OBJECTIVES",
    "REGULARIZERS",
    "VAT",
    "Adversary",
    "AnalyticObjective",
    "Assignment",
    "Balance",
    "Capacity",
    "CategoricalObjective",
    "ClassAdversary",
    "ClassCapacity",
    "Consistency",
    "Entropy",
    "FreeBits",
    "IWAEObjective",
    "LatentSite",
    "LatentTerm",
    "Objective",
    "PairAdversary",
    "Regularizer",
    "RowAdversary",
    "Sparsity",
    "Terms",
    "TotalCorrelation",
    "TotalCorrelationAdversary",
    "TraceObjective",
    "WithinGroups",
]
