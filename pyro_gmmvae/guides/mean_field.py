"""A guide in which z and s are independent given x."""

import pyro
from pyro.distributions import Normal
from torch import Tensor

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.guides.base import MixtureGuide, MixtureModel
from pyro_gmmvae.param_store import register


class MeanFieldGuide(MixtureGuide):
    """q(z, s|x) = q(z|x) q(s|x)::

        q(s|x)  Concrete(logits(x), temperature)   s (B, K)
        q(z|x)  N(loc(x), scale(x)^2)              z (B, d)

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior.
    """

    name = "mean-field"

    def __init__(self, model: MixtureModel) -> None:
        super().__init__(model)
        self.encoder = model.build_encoder(self.components + 2 * self.latent_dim)

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        register(encoder=self.encoder)
        logits, loc, scale = self.heads(x)
        with pyro.plate("rows", len(x)):
            self.sample_s(logits)
            pyro.sample("z", Normal(loc, scale).to_event(1))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """logits (B, K), loc (B, d) and scale (B, d)."""
        K, d = self.components, self.latent_dim
        logits, loc, raw_scale = self.encoder(x).split([K, d, d], -1)
        return logits, loc, positive_scale(raw_scale)

    def class_logits(self, x: Tensor) -> Tensor:
        return self.heads(x)[0]

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d)."""
        return self.heads(x)[1]
