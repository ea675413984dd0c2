"""Guides: posteriors q(z,s|x) of the Gaussian-mixture VAE, swappable by name."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import PartTable, lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.guides.base import MixtureGuide, MixtureModel
    from pyro_gmmvae.guides.bayes import BayesGuide
    from pyro_gmmvae.guides.conditional import ConditionalGuide
    from pyro_gmmvae.guides.conjugate import ConjugateGuide
    from pyro_gmmvae.guides.flow import FlowGuide
    from pyro_gmmvae.guides.low_rank import LowRankGuide
    from pyro_gmmvae.guides.mean_field import MeanFieldGuide
    from pyro_gmmvae.guides.product import (
        EnumeratedGuide,
        ProductGuide,
        StraightThroughGuide,
        TiltedGuide,
    )
else:
    __getattr__, __dir__ = lazy_names(__name__)

GUIDES: "PartTable[type[MixtureGuide]]" = PartTable(
    __name__,
    {
        "product": "ProductGuide",
        "conditional": "ConditionalGuide",
        "mean-field": "MeanFieldGuide",
        "bayes": "BayesGuide",
        "conjugate": "ConjugateGuide",
        "enumerated": "EnumeratedGuide",
        "straight-through": "StraightThroughGuide",
        "low-rank": "LowRankGuide",
        "flow": "FlowGuide",
        "tilted": "TiltedGuide",
    },
)

__all__ = [
    "GUIDES",
    "BayesGuide",
    "ConditionalGuide",
    "ConjugateGuide",
    "EnumeratedGuide",
    "FlowGuide",
    "LowRankGuide",
    "MeanFieldGuide",
    "MixtureGuide",
    "MixtureModel",
    "ProductGuide",
    "StraightThroughGuide",
    "TiltedGuide",
]
