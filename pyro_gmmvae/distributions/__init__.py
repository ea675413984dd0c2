"""Distributions: the Concrete s, the Gaussian products z, and the likelihoods of x."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import PartTable, lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.distributions.concrete import Concrete, StraightThroughConcrete
    from pyro_gmmvae.distributions.full_gaussian_product import FullGaussianProduct
    from pyro_gmmvae.distributions.gaussian_product import GaussianProduct
    from pyro_gmmvae.distributions.likelihoods import (
        BernoulliLikelihood,
        NormalLikelihood,
        positive_scale,
        positive_tril,
    )
    from pyro_gmmvae.distributions.stacked_normal import StackedNormal
    from pyro_gmmvae.distributions.tilted_concrete import Tilted
else:
    __getattr__, __dir__ = lazy_names(__name__)

LIKELIHOODS: "PartTable[type[BernoulliLikelihood] | type[NormalLikelihood]]" = PartTable(
    __name__,
    {
        "bernoulli": "BernoulliLikelihood",
        "normal": "NormalLikelihood",
    },
)

__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "Concrete",
    "FullGaussianProduct",
    "GaussianProduct",
    "NormalLikelihood",
    "StackedNormal",
    "StraightThroughConcrete",
    "Tilted",
    "positive_scale",
    "positive_tril",
]
