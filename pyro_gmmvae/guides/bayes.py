"""A guide that infers s from z by Bayes' rule, as in VaDE."""

import pyro
from pyro.distributions import Normal
from torch import Tensor

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.guides.base import MixtureGuide, MixtureModel
from pyro_gmmvae.param_store import register


class BayesGuide(MixtureGuide):
    """q(z, s|x) = q(z|x) q(s|x), with the responsibilities of the mixture for s::

        q(z|x)    N(loc(x), scale(x)^2)                             z (B, d)
        logits_i  log pi_i + E_q(z|x)[ log N(z; loc_i, scale_i^2) ]
        q(s|x)    Concrete(logits, temperature)                     s (B, K)

    It has no classifier: the class of a row is that of the component in which its z lies. For a
    discrete s and a decoder of z alone this q(s|x) is the best one of all factorized guides.

    It departs from VaDE (Jiang et al. 2017, arXiv:1611.05148), whose q(s|x) is p(s|z)
    averaged over draws of z: here the expectation is inside the exponential, where it has
    a closed form. pi is the prior without the label of the row, so that the gradient of a label
    reaches the network.

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior.
    """

    name = "bayes"

    def __init__(self, model: MixtureModel) -> None:
        super().__init__(model)
        self.encoder = model.build_encoder(2 * self.latent_dim)
        # in a tuple: the mixture belongs to the model, and is not a submodule of the guide
        self._mixture = (model.mixture,)

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        register(encoder=self.encoder)
        loc, scale = self.z_given(x)
        with pyro.plate("rows", len(x)):
            self.sample_s(self._mixture[0].class_scores(loc, scale))
            pyro.sample("z", Normal(loc, scale).to_event(1))

    def z_given(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """loc and scale of q(z|x), both (B, d)."""
        loc, raw_scale = self.encoder(x).chunk(2, -1)
        return loc, positive_scale(raw_scale)

    def class_logits(self, x: Tensor) -> Tensor:
        return self._mixture[0].class_scores(*self.z_given(x))

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d)."""
        return self.z_given(x)[0]
