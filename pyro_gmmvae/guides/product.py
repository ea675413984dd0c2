"""The default guide: a Gaussian product of K heads."""

import pyro
import torch
from torch import Tensor, nn

from pyro_gmmvae.distributions import Concrete, GaussianProduct, positive_scale
from pyro_gmmvae.guides.base import MixtureModel, require_mixture
from pyro_gmmvae.params import register


class ProductGuide(nn.Module):
    """q(z, s|x) = q(z|s,x) q(s|x), with K heads that s multiplies::

        q(s|x)    Concrete(logits(x), temperature)                    s (B, K)
        q(z|s,x)  prod_i N(z; loc_i(x), scale_i(x)^2)^(s_i) / const   z (B, d)

    One network of x gives logits and all heads: O(B K d) memory.

    Args:
        model: the Gaussian-mixture VAE this is a posterior of.
    """

    temperature: Tensor

    def __init__(self, model: MixtureModel) -> None:
        super().__init__()
        model = require_mixture(model, "product")
        self.components, self.latent_dim = model.components, model.latent_dim
        self.register_buffer("temperature", torch.tensor(model.initial_temperature))
        self.encoder = model.build_encoder(self.components * (1 + 2 * self.latent_dim))

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        register(encoder=self.encoder)
        logits, loc, scale = self.heads(x)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("s", Concrete(self.temperature, logits=logits))
            pyro.sample("z", GaussianProduct(s, loc, scale))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """logits (B, K), loc (B, K, d) and scale (B, K, d)."""
        K, d = self.components, self.latent_dim
        logits, loc, raw_scale = self.encoder(x).split([K, K * d, K * d], -1)
        return logits, loc.view(-1, K, d), positive_scale(raw_scale.view(-1, K, d))

    def class_logits(self, x: Tensor) -> Tensor:
        """Unnormalized log q(y|x), (B, K)."""
        return self.heads(x)[0]

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d), at s = softmax(logits(x))."""
        logits, loc, scale = self.heads(x)
        return GaussianProduct(logits.softmax(-1), loc, scale).mean
