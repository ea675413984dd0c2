"""Objectives: what is optimised, built from a model and a guide and knowing neither's class."""

from pyro_gmmvae.objectives.analytic import AnalyticObjective
from pyro_gmmvae.objectives.base import Objective, Terms
from pyro_gmmvae.objectives.categorical import CategoricalObjective
from pyro_gmmvae.objectives.iwae import IWAEObjective
from pyro_gmmvae.objectives.regularizers import (
    REGULARIZERS,
    Assignment,
    Balance,
    Consistency,
    Regularizer,
    Sparsity,
)
from pyro_gmmvae.objectives.trace import TraceObjective

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
