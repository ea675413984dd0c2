"""JMVAE: rows and their labels as two views of one z, of which either can be missing."""

from dataclasses import replace
from typing import ClassVar

import pyro
import torch
from pyro import poutine
from pyro.distributions import Categorical, Normal, TorchDistribution
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.errors import GMMVAEError, check_range
from pyro_gmmvae.models.base import COMMON, LatentModel
from pyro_gmmvae.models.labels import one_hot
from pyro_gmmvae.networks import JointMLP, NetworkOptions
from pyro_gmmvae.networks.mlp import without_statistics
from pyro_gmmvae.param_store import register
from pyro_gmmvae.ranges import Real, SearchSpace


class JMVAE(LatentModel):
    """Joint multimodal VAE of rows x and labels y::

        p(x, y, z) = p(x|z) p(y|z) p(z)

        p(z)    N(0, I)                      z (B, d)
        p(x|z)  likelihood of decoder(z)     x (B, *x_shape)
        p(y|z)  Categorical(to_y(z))         y (B,), of labelled rows

        q(z|x,y)  N(loc(features(x), y), scale(features(x), y)^2), of labelled rows
        q(z|x)    N(loc(features(x)), scale(features(x))^2), of the other rows
        q(z|y)    N(loc(y), scale(y)^2)

    While training, labelled rows also have -match (KL(q(z|x,y) || q(z|x)) + KL(q(z|x,y) ||
    q(z|y))), so that each view alone gives the z of both, and log p(y|z) has the weight
    ``label_weight``. ``classify`` takes z from x alone, ``generate`` with a class from y alone.

    It departs from Suzuki et al. in rows without a label, and in the weight of p(y|z), with which
    the number that is maximized, which training shows as the ELBO, is no bound; ``evaluate``
    measures the bound of rows x alone. With dropout the two KL terms are of other features of x
    than the z that is drawn.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        match: the weight of the two KL terms between posteriors.
        label_weight: the weight of log p(y|z), whose y is one number beside many of x.

    Reference:
        Suzuki, Nakayama, Matsuo 2017, arXiv:1611.01891 (JMVAE-kl).
    """

    latents = ("z",)
    needs_labels = True
    search_space: ClassVar[SearchSpace] = {
        **COMMON,
        "match": Real(0.01, 1.0, log=True),
        "label_weight": Real(1.0, 100.0, log=True),
    }

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        match: float = 1.0,
        label_weight: float = 100.0,
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape, latent_dim=latent_dim, components=components, network=network, options=options
        )
        check_range("match", match, 0 <= match <= 1e6, "from 0 to 1000000")
        fits = 0 < label_weight <= 1e6
        check_range("label_weight", label_weight, fits, "positive, and at most 1000000")
        self.match, self.label_weight = match, label_weight
        K, d = self.components, latent_dim
        self.encoder, features = self.build_features()
        # without noise and statistics: rows without a label take part, as if of class 0
        plain = replace(self.options, batch_norm=False, dropout=0.0)
        self.from_both = JointMLP([features, K], [d, d], plain)
        self.from_x = nn.Linear(features, 2 * d)
        self.from_y = JointMLP([K], [d, d], plain)
        self.to_y = JointMLP([d], [K], self.options)
        self.observation = self.build_observation(d, likelihood)

    @property
    def draws_of_class(self) -> bool:
        return True

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, y, z) for rows x (B, *x_shape) with labels y (B,), -1 or None: unlabelled."""
        register(observation=self.observation, to_y=self.to_y)
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", self.prior_of_z(x.new_zeros(len(x), 0)))
            pyro.sample("x", self.observation(z, given=x), obs=x)
            if y is None:
                return
            weight = self.label_weight if self.training else 1.0
            with poutine.mask(mask=y >= 0), poutine.scale(scale=weight):
                pyro.sample("y", Categorical(logits=self.to_y(z)[0]), obs=y.clamp_min(0))
            if self.training:
                with without_statistics(self.encoder):
                    features = self.encoder(x)
                both = self._of_both(features, y)
                others = self._of_x(features), self._of_y(y)
                kl = sum(kl_divergence(both, one) for one in others)
                pyro.factor("match", torch.where(y >= 0, -self.match * kl, 0.0))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(z|x,y) of labelled rows, and q(z|x) of the others."""
        register(encoder=self.encoder, both=self.from_both, x=self.from_x, y=self.from_y)
        features = self.encoder(x)
        q = self._of_x(features)
        if y is not None:
            one, other, labelled = self._of_both(features, y), q, (y >= 0).unsqueeze(-1)
            loc = torch.where(labelled, one.mean, other.mean)
            scale = torch.where(labelled, one.stddev, other.stddev)
            q = Normal(loc, scale).to_event(1)
        with pyro.plate("rows", len(x)):
            pyro.sample("z", q)

    def _of_both(self, features: Tensor, y: Tensor) -> TorchDistribution:
        return _gaussian(*self.from_both(features, self._one_hot(y, features)))

    def _of_x(self, features: Tensor) -> TorchDistribution:
        return _gaussian(*self.from_x(features).chunk(2, -1))

    def _of_y(self, y: Tensor) -> TorchDistribution:
        return _gaussian(*self.from_y(self._one_hot(y, next(self.parameters()))))

    def _one_hot(self, y: Tensor, like: Tensor) -> Tensor:
        return one_hot(y.clamp_min(0), self.components, like)

    def classify(self, x: Tensor) -> Tensor:
        """log p(y|z), (B, K), in nats, at the mean of q(z|x)."""
        return self.to_y(self.embed(x))[0].log_softmax(-1)

    def embed(self, x: Tensor) -> Tensor:
        """Mean of q(z|x), (B, d)."""
        return self._of_x(self.encoder(x)).mean

    def observe_draws(
        self, n: int, label: int | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|z) at n draws of z, from p(z), or from q(z|y) of a class; batch shape (n,)."""
        if label is None:
            return super().observe_draws(n, None, given)
        if not 0 <= label < self.components:
            raise GMMVAEError(f"class {label} is out of range 0..{self.components - 1}")
        device = next(self.parameters()).device
        z = self._of_y(torch.full((n,), label, device=device)).sample()
        return self.observe(z, None, given)


def _gaussian(loc: Tensor, raw_scale: Tensor) -> TorchDistribution:
    """N(loc, scale^2) of z, event shape (d,)."""
    return Normal(loc, positive_scale(raw_scale)).to_event(1)
