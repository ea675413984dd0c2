"""A guide that is the best factorized posterior for a Gaussian potential of z, as in SVAE."""

import pyro
import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyro_gmmvae.distributions import GaussianProduct, positive_scale
from pyro_gmmvae.errors import GMMVAEError, check_range
from pyro_gmmvae.guides.base import MixtureGuide, MixtureModel
from pyro_gmmvae.param_store import register


class ConjugateGuide(MixtureGuide):
    """q(z, s|x) = q(z|x) q(s|x), of a network's potential and the mixture::

        potential  N(z; loc(x), scale(x)^2), in the place of p(x|z)
        q(z|x)     potential prod_i N(z; loc_i, scale_i^2)^(r_i) / const     z (B, d)
        r_i        pi_i exp( E_q(z|x)[ log N(z; loc_i, scale_i^2) ] ) / const
        q(s|x)     Concrete(log r, temperature)                              s (B, K)

    q(z|x) and r are computed in turn, ``iterations`` times: each is the best one given the other,
    were p(x|z) the potential. The network gives no class and no posterior, only the potential. pi
    is the prior without the label of the row, so that the gradient of a label reaches the network.

    It departs from Johnson et al. in the parameters of the mixture, which have point values that
    Adam fits, instead of a posterior that natural gradients fit, and in diagonal covariances.

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior.
        iterations: how often q(z|x) and q(s|x) are computed, each from the other.

    Raises:
        GMMVAEError: a mixture of full covariances.

    Reference:
        Johnson et al. 2016, arXiv:1603.06277.
    """

    name = "conjugate"

    def __init__(self, model: MixtureModel, *, iterations: int = 5) -> None:
        super().__init__(model)
        check_range("iterations", iterations, 1 <= iterations <= 1000, "from 1 to 1000")
        one_hot = torch.eye(self.components)
        if type(model.mixture(one_hot)) is not GaussianProduct:
            raise GMMVAEError("the guide 'conjugate' needs covariance=diagonal")
        self.iterations = iterations
        self.encoder = model.build_encoder(2 * self.latent_dim)
        # in a tuple: the mixture belongs to the model, and is not a submodule of the guide
        self._mixture = (model.mixture,)

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        register(encoder=self.encoder)
        q, logits = self.posterior(x)
        with pyro.plate("rows", len(x)):
            self.sample_s(logits)
            pyro.sample("z", q)

    def posterior(self, x: Tensor) -> tuple[TorchDistribution, Tensor]:
        """q(z|x), event shape (d,), and log r up to a constant, (B, K), in nats."""
        loc, raw_scale = self.encoder(x).chunk(2, -1)
        scale, mixture = positive_scale(raw_scale), self._mixture[0]
        q, logits = Normal(loc, scale), mixture.class_scores(loc, scale)
        for _ in range(self.iterations):
            p = mixture(logits.softmax(-1))
            locs, scales = torch.stack([loc, p.mean], -2), torch.stack([scale, p.stddev], -2)
            product = GaussianProduct(loc.new_ones(len(loc), 2), locs, scales)
            q = Normal(product.mean, product.stddev)
            logits = mixture.class_scores(q.loc, q.scale)
        return q.to_event(1), logits

    def class_logits(self, x: Tensor) -> Tensor:
        return self.posterior(x)[1]

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d)."""
        mean: Tensor = self.posterior(x)[0].mean
        return mean
