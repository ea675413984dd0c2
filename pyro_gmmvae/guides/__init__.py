"""Guides: posteriors q(z,s|x) of the Gaussian-mixture VAE, swappable by name."""

from pyro_gmmvae.guides.base import MixtureGuide, MixtureModel
from pyro_gmmvae.guides.bayes import BayesGuide
from pyro_gmmvae.guides.conditional import ConditionalGuide
from pyro_gmmvae.guides.flow import FlowGuide
from pyro_gmmvae.guides.low_rank import LowRankGuide
from pyro_gmmvae.guides.mean_field import MeanFieldGuide
from pyro_gmmvae.guides.product import EnumeratedGuide, ProductGuide, StraightThroughGuide

GUIDES: dict[str, type[MixtureGuide]] = {
    guide.name: guide
    for guide in (
        ProductGuide,
        ConditionalGuide,
        MeanFieldGuide,
        BayesGuide,
        EnumeratedGuide,
        StraightThroughGuide,
        LowRankGuide,
        FlowGuide,
    )
}

__all__ = [
    "GUIDES",
    "BayesGuide",
    "ConditionalGuide",
    "EnumeratedGuide",
    "FlowGuide",
    "LowRankGuide",
    "MeanFieldGuide",
    "MixtureGuide",
    "MixtureModel",
    "ProductGuide",
    "StraightThroughGuide",
]
