"""Distributions: the Concrete s, the Gaussian products z, and the likelihoods of x."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import PartTable, lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.distributions.column_layout import ColumnLayout
    from pyro_gmmvae.distributions.column_likelihood import ColumnParameters, Columns
    from pyro_gmmvae.distributions.concrete import Concrete, StraightThroughConcrete, Tilted
    from pyro_gmmvae.distributions.full_gaussian_product import FullGaussianProduct
    from pyro_gmmvae.distributions.gaussian_product import GaussianProduct
    from pyro_gmmvae.distributions.level_likelihoods import (
        CategoricalLikelihood,
        DiscretizedLogisticLikelihood,
    )
    from pyro_gmmvae.distributions.likelihoods import (
        BaseLikelihood,
        BernoulliLikelihood,
        BinomialLikelihood,
        ContinuousBernoulliLikelihood,
        NormalLikelihood,
        positive_scale,
        positive_tril,
    )
    from pyro_gmmvae.distributions.stacked_normal import StackedNormal
    from pyro_gmmvae.likelihood_spec import LikelihoodSpec, elbo_scale, parse_likelihood
else:
    __getattr__, __dir__ = lazy_names(__name__)

# parse_likelihood describes them
LIKELIHOODS: "PartTable[type[BaseLikelihood]]" = PartTable(
    __name__,
    {
        "bernoulli": "BernoulliLikelihood",
        "continuous-bernoulli": "ContinuousBernoulliLikelihood",
        "normal": "NormalLikelihood",
        "binomial": "BinomialLikelihood",
        "categorical": "CategoricalLikelihood",
        "discretized-logistic": "DiscretizedLogisticLikelihood",
        "columns": "Columns",
    },
)

__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "BinomialLikelihood",
    "CategoricalLikelihood",
    "ColumnLayout",
    "ColumnParameters",
    "Columns",
    "Concrete",
    "ContinuousBernoulliLikelihood",
    "DiscretizedLogisticLikelihood",
    "FullGaussianProduct",
    "GaussianProduct",
    "LikelihoodSpec",
    "NormalLikelihood",
    "StackedNormal",
    "StraightThroughConcrete",
    "Tilted",
    "elbo_scale",
    "parse_likelihood",
    "positive_scale",
    "positive_tril",
]
