"""Distributions: the Concrete s, the Gaussian products z, and the likelihoods of x."""

from pyro_gmmvae.distributions.concrete import Concrete, StraightThroughConcrete
from pyro_gmmvae.distributions.full_gaussian_product import FullGaussianProduct
from pyro_gmmvae.distributions.gaussian_product import GaussianProduct
from pyro_gmmvae.distributions.likelihoods import (
    BernoulliLikelihood,
    NormalLikelihood,
    positive_scale,
    positive_tril,
)

LIKELIHOODS: dict[str, type[BernoulliLikelihood] | type[NormalLikelihood]] = {
    "bernoulli": BernoulliLikelihood,
    "normal": NormalLikelihood,
}

__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "Concrete",
    "FullGaussianProduct",
    "GaussianProduct",
    "NormalLikelihood",
    "StraightThroughConcrete",
    "positive_scale",
    "positive_tril",
]
