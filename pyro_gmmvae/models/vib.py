"""Classifiers with a z that is to hold little of x: information bottleneck, information dropout."""

from typing import ClassVar

import pyro
import torch
from pyro import poutine
from pyro.distributions import Categorical
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.errors import check_range
from pyro_gmmvae.models.base import COMMON
from pyro_gmmvae.models.vae import AE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register
from pyro_gmmvae.ranges import Real, SearchSpace

MOST_NOISE = 0.7
"""The largest a(x) of information dropout, as in the paper."""


class VIB(AE):
    """Variational information bottleneck, a classifier by a noisy z::

        q(z|x)  N(loc(x), scale(x)^2)            z (B, d)
        p(y|z)  Categorical(weight z + bias)     y (B,), of labelled rows
        p(x|z)  likelihood of decoder(z)         x (B, *x_shape), which does not change z

    It maximizes log p(y|z) - beta KL(q(z|x) || N(0, I)) on labelled rows. The decoder is fitted to
    z of all rows, and z gets no gradient from it, so that reconstructions show the part of x that
    z holds. In evaluation z is loc(x). As for :class:`AE`, ``evaluate`` reports no bound, and the
    ELBO shown while training is log p(x|z) and the number that is maximized together.

    It departs from Alemi et al. in the decoder, and in one draw of z while training.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        beta: the weight of the information of z, in nats.

    Reference:
        Alemi et al. 2017, arXiv:1612.00410.
    """

    needs_labels = True
    search_space: ClassVar[SearchSpace] = {**COMMON, "beta": Real(1e-5, 1.0, log=True)}

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        beta: float = 1e-3,
        options: NetworkOptions | None = None,
    ) -> None:
        check_range("components", components, components >= 1, "at least 1")
        check_range("beta", beta, 0 <= beta <= 1e6, "from 0 to 1000000")
        super().__init__(
            x_shape, latent_dim, network=network, likelihood=likelihood, options=options
        )
        self.components, self.beta = components, beta
        self.encoder = self.build_encoder(2 * latent_dim)
        self.to_y = nn.Linear(latent_dim, components)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(y|z) and p(x|z) of rows x (B, *x_shape) with labels y (B,), -1 or None: unlabelled."""
        register(encoder=self.encoder, observation=self.observation, to_y=self.to_y)
        z, information = self.noisy(x) if self.training else (self.embed(x), None)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", self.observation(z.detach(), given=x), obs=x)
            if y is None:
                return
            with poutine.mask(mask=y >= 0):
                pyro.sample("y", Categorical(logits=self.to_y(z)), obs=y.clamp_min(0))
            if information is not None:
                pyro.factor("information", torch.where(y >= 0, -self.beta * information, 0.0))

    def noisy(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A draw of z (B, d), and the information in it, (B,) in nats."""
        loc, scale = self.heads(x)
        kl = (loc.square() + scale.square() - 1) / 2 - scale.log()
        return loc + scale * torch.randn_like(loc), kl.sum(-1)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """loc and scale of z, (B, d) each."""
        loc, raw_scale = self.encoder(x).chunk(2, -1)
        return loc, positive_scale(raw_scale)

    def classify(self, x: Tensor) -> Tensor:
        """log p(y|z), (B, K), in nats, at z without noise."""
        return self.to_y(self.embed(x)).log_softmax(-1)

    def embed(self, x: Tensor) -> Tensor:
        """z without noise, (B, d)."""
        return self.heads(x)[0]


class InformationDropout(VIB):
    """Information dropout, a classifier by a z with multiplicative noise that depends on x::

        z = f(x) * noise                         z (B, d), f(x) > 0
        noise   LogNormal(0, a(x)^2)             0 < a(x) <= 0.7
        p(y|z)  Categorical(weight z + bias)     y (B,), of labelled rows
        p(x|z)  likelihood of decoder(z)         x (B, *x_shape), which does not change z

    It maximizes log p(y|z) - beta sum_i -log(a_i(x) / 0.7) on labelled rows; the sum is the KL term
    of z from a log-uniform prior, but for a constant. Otherwise it is :class:`VIB`.

    It departs from Achille, Soatto in that the noise is that of one layer, z, and in the decoder.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        beta: the weight of the information of z, in nats.

    Reference:
        Achille, Soatto 2018, arXiv:1611.01353.
    """

    def noisy(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f, a = self.heads(x)
        return f * (a * torch.randn_like(a)).exp(), (MOST_NOISE / a).log().sum(-1)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f(x) and a(x), (B, d) each."""
        raw, raw_noise = self.encoder(x).chunk(2, -1)
        return softplus(raw), (MOST_NOISE * raw_noise.sigmoid()).clamp_min(1e-4)
