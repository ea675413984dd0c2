"""JointVAE: a relaxed class and a Gaussian z, each with a capacity, that are inferred together."""

from typing import ClassVar

import pyro
from pyro import poutine
from pyro.distributions import Normal
from torch import Tensor

from pyro_gmmvae.distributions import Concrete, positive_scale
from pyro_gmmvae.models.base import CLASS, RELAXED
from pyro_gmmvae.models.m2 import M2Gumbel
from pyro_gmmvae.param_store import register
from pyro_gmmvae.ranges import SearchSpace


class JointVAE(M2Gumbel):
    """VAE with a relaxed class y and a z, from one encoder::

        p(x, y, z) = p(x|y,z) p(z) p(y)

        p(y)      Concrete(1 / K, prior_temperature)    y (B, K)
        p(z)      N(0, I)                               z (B, d)
        p(x|y,z)  likelihood of decoder(z, y)           x (B, *x_shape)

        q(y|x)    Concrete(logits(x), temperature)
        q(z|x)    N(loc(x), scale(x)^2)

    The model is that of :class:`M2Gumbel`; z does not depend on y, given x. The keys ``capacity``
    (of z) and ``class_capacity`` (of y), both growing, give y the part of x that it can carry,
    which z would take over.

    It departs from Dupont in the use of labels, where there are any: they are the prior of y.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        temperature, prior_temperature: as for :class:`M2Gumbel`.

    Reference:
        Dupont 2018, arXiv:1804.00104.
    """

    default_objective = "categorical"  # the KL of y that a capacity bounds is at most log K
    search_space: ClassVar[SearchSpace] = {**CLASS, **RELAXED}

    def build_networks(self, likelihood: str) -> None:
        """Build the networks of q(y|x), q(z|x) and p(x|y,z)."""
        K, d = self.components, self.latent_dim
        self.encoder = self.build_encoder(K + 2 * d)
        self.observation = self.build_observation(d + K, likelihood)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(y, z|x), with labels y (B,), -1 or None: unlabelled."""
        register(encoder=self.encoder)
        logits, loc, scale = self.heads(x)
        with pyro.plate("rows", len(x)):
            label = self._label(y)
            with poutine.mask(mask=True if label is None else label < 0):
                pyro.sample("y", Concrete(self.temperature, logits=logits))
            pyro.sample("z", Normal(loc, scale).to_event(1))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of y (B, K), and loc and scale of z, (B, d) each."""
        d = self.latent_dim
        logits, loc, raw_scale = self.encoder(x).split([self.components, d, d], -1)
        return logits, loc, positive_scale(raw_scale)

    def classify(self, x: Tensor) -> Tensor:
        """log q(y|x), (B, K), in nats."""
        return self.heads(x)[0].log_softmax(-1)

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d)."""
        return self.heads(x)[1]
