"""A guide with a network of x and s for z."""

import pyro
from pyro.distributions import Normal
from torch import Tensor, nn

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.errors import check_range
from pyro_gmmvae.guides.base import MixtureGuide, MixtureModel
from pyro_gmmvae.networks import joined
from pyro_gmmvae.param_store import register


class ConditionalGuide(MixtureGuide):
    """q(z, s|x) = q(z|s,x) q(s|x), with one network of s and of features of x::

        q(s|x)    Concrete(logits(x), temperature)               s (B, K)
        q(z|s,x)  N(loc(features(x), s), scale(features(x), s)^2)  z (B, d)

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior.
        feature_size: number of features of x that both parts share.
    """

    name = "conditional"

    def __init__(self, model: MixtureModel, *, feature_size: int = 128) -> None:
        super().__init__(model)
        check_range("feature_size", feature_size, feature_size >= 1, "at least 1")
        self.encoder = model.build_encoder(feature_size)
        self.activation = model.options.new_activation()
        self.to_logits = nn.Linear(feature_size, model.components)
        self.to_z = nn.Sequential(
            nn.Linear(feature_size + model.components, feature_size),
            self.activation,
            nn.Linear(feature_size, 2 * model.latent_dim),
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        register(encoder=self.encoder, to_logits=self.to_logits, to_z=self.to_z)
        h = self.activation(self.encoder(x))
        with pyro.plate("rows", len(x)):
            s = self.sample_s(self.to_logits(h))
            loc, scale = self.z_given(h, s)
            pyro.sample("z", Normal(loc, scale).to_event(1))

    def z_given(self, h: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """loc and scale of q(z|s,x), both (..., d), from features h (B, F) and s (..., K)."""
        loc, raw_scale = self.to_z(joined(h, s)).chunk(2, -1)
        return loc, positive_scale(raw_scale)

    def class_logits(self, x: Tensor) -> Tensor:
        return self.to_logits(self.activation(self.encoder(x)))

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d), at s = softmax(logits(x))."""
        h = self.activation(self.encoder(x))
        return self.z_given(h, self.to_logits(h).softmax(-1))[0]
