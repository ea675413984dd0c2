"""Auxiliary deep generative models: ADGM, and SDGM with a skip connection."""

from typing import ClassVar

import pyro
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.errors import check_range
from pyro_gmmvae.models.base import CLASS
from pyro_gmmvae.models.labels import OneHotClass, sample_y
from pyro_gmmvae.networks import JointMLP, NetworkOptions
from pyro_gmmvae.param_store import register
from pyro_gmmvae.ranges import SearchSpace, Whole


class ADGM(OneHotClass):
    """M2 with an auxiliary latent a that makes its guide more flexible::

        p(x, y, z, a) = p(a|x,y,z) p(x|y,z) p(z) p(y)

        p(y)        Categorical(1 / K)                  y (B, K), one-hot
        p(z)        N(0, I)                             z (B, d)
        p(x|y,z)    likelihood of decoder(z, y)         x (B, *x_shape)
        p(a|x,y,z)  N(loc, scale^2) of (x, y, z)        a (B, d_a)

        q(a|x)      N(loc(x), scale(x)^2)
        q(y|a,x)    Categorical(classifier(a, x)); certain of the label on a labelled row
        q(z|a,x,y)  N(loc, scale^2) of (a, x, y)

    The marginal p(x, y, z) is that of M2; y is summed out on unlabelled rows. ``classify``
    uses the mean of a.

    It departs from Maaløe et al. in that q(y|a,x) and q(z|a,x,y) share their features of x,
    and in sampling a and z once, where they average over samples (``particles`` does).

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        auxiliary_dim: d_a, the size of a; None: d.

    Reference:
        Maaløe, Sønderby, Sønderby, Winther 2016, arXiv:1602.05473.
    """

    latents = ("a", "y", "z")
    class_site = "y"
    class_conditional = True
    default_objective = "trace"  # the model samples a last
    search_space: ClassVar[SearchSpace] = {**CLASS, "auxiliary_dim": Whole(2, 64, log=True)}

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        auxiliary_dim: int | None = None,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape, components=components, latent_dim=latent_dim, network=network, options=options
        )
        d_a = latent_dim if auxiliary_dim is None else auxiliary_dim
        check_range("auxiliary_dim", d_a, d_a >= 1, "at least 1")
        self.auxiliary_dim, K, d = d_a, components, latent_dim
        self.to_auxiliary = self.build_encoder(2 * d_a)
        self.encoder, features = self.build_features()
        self.classifier = JointMLP([d_a, features], [K], self.options)
        self.to_z = JointMLP([d_a, features, K], [d, d], self.options)
        self.build_generative(likelihood)

    def build_generative(self, likelihood: str) -> None:
        """Build the networks of p(x|.) and p(a|.)."""
        K, d, d_a = self.components, self.latent_dim, self.auxiliary_dim
        self.observation = self.build_observation(d + K, likelihood)
        self.features_for_a, features = self.build_features()
        self.to_a = JointMLP([features, K, d], [d_a, d_a], self.options)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, y, z, a) for rows x (B, *x_shape)."""
        register(observation=self.observation, features_for_a=self.features_for_a, to_a=self.to_a)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("y", self.label_prior(y, x))
            z = pyro.sample("z", self.prior_of_z(x.new_zeros(len(x), 0)))
            pyro.sample("x", self.observation(z, s, given=x), obs=x)
            loc, raw_scale = self.to_a(self.features_for_a(x), s, z)
            pyro.sample("a", Normal(loc, positive_scale(raw_scale)).to_event(1))

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(a, y, z|x), with labels y (B,), -1 or None: unlabelled."""
        register(
            to_auxiliary=self.to_auxiliary,
            encoder=self.encoder,
            classifier=self.classifier,
            to_z=self.to_z,
        )
        loc, raw_scale = self.to_auxiliary(x).chunk(2, -1)
        features = self.encoder(x)
        with pyro.plate("rows", len(x)):
            a = pyro.sample("a", Normal(loc, positive_scale(raw_scale)).to_event(1))
            s = sample_y(self.classifier(a, features)[0], y, self.label_prior)
            loc, raw_scale = self.to_z(a, features, s)
            pyro.sample("z", Normal(loc, positive_scale(raw_scale)).to_event(1))

    def classify(self, x: Tensor) -> Tensor:
        """log q(y|a,x), (B, K), in nats, at a's mean."""
        a = self.to_auxiliary(x).chunk(2, -1)[0]
        return self.classifier(a, self.encoder(x))[0].log_softmax(-1)

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d), at a's mean and y = the class probabilities of x."""
        a, features = self.to_auxiliary(x).chunk(2, -1)[0], self.encoder(x)
        probs = self.classifier(a, features)[0].softmax(-1)
        return self.to_z(a, features, probs)[0]


class SDGM(ADGM):
    """ADGM whose auxiliary latent also generates x::

        p(x, y, z, a) = p(x|a,y,z) p(a|y,z) p(z) p(y)

        p(a|y,z)    N(loc, scale^2) of (y, z)        a (B, d_a)
        p(x|a,y,z)  likelihood of decoder(a, z, y)   x (B, *x_shape)

    The guide is that of :class:`ADGM`, and the departures from the paper are the same.
    """

    def build_generative(self, likelihood: str) -> None:
        """Build the networks of p(x|.) and p(a|.)."""
        K, d, d_a = self.components, self.latent_dim, self.auxiliary_dim
        self.observation = self.build_observation(d_a + d + K, likelihood)
        self.to_a = JointMLP([K, d], [d_a, d_a], self.options)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, y, z, a) for rows x (B, *x_shape)."""
        register(to_a=self.to_a, observation=self.observation)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("y", self.label_prior(y, x))
            z = pyro.sample("z", self.prior_of_z(x.new_zeros(len(x), 0)))
            loc, raw_scale = self.to_a(s, z)
            a = pyro.sample("a", Normal(loc, positive_scale(raw_scale)).to_event(1))
            pyro.sample("x", self.observation(a, z, s, given=x), obs=x)

    def observe(
        self, z: Tensor, s: Tensor | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|a,y,z) at a's mean given z (B, d) and classes s (B, K)."""
        s = self.require_class(s)
        return self.observation(self.to_a(s, z)[0], z, s, given=given)

    def observe_draws(
        self, n: int, label: int | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|a,y,z) at n draws a ~ p(a|y,z) with z ~ N(0, I); y as for :meth:`generate`."""
        s = self.draw_class(n) if label is None else self.one_hot(label, n)
        z = self.prior_of_z(s).sample()
        loc, raw_scale = self.to_a(s, z)
        a = Normal(loc, positive_scale(raw_scale)).sample()
        return self.observation(a, z, s, given=given)
