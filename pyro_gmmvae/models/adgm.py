"""Auxiliary deep generative models: ADGM, and SDGM with a skip connection."""

from typing import ClassVar

import pyro
from pyro.distributions import Normal
from torch import Tensor

from pyro_gmmvae.config import CLASS, SearchSpace, Whole
from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.models.checks import check_sizes
from pyro_gmmvae.models.labels import flat_prior, sample_y, standard_normal
from pyro_gmmvae.models.observation import Observation, feature_encoder, network_pair
from pyro_gmmvae.models.one_hot import OneHotClass
from pyro_gmmvae.networks import JointMLP, NetworkOptions
from pyro_gmmvae.param_store import register


class ADGM(OneHotClass):
    """M2 with an auxiliary latent a that makes its guide more flexible::

        p(x, y, z, a) = p(a|x,y,z) p(x|y,z) p(z) p(y)

        p(y)        Categorical(1 / K)                  y (B, K), one-hot
        p(z)        N(0, I)                             z (B, d)
        p(x|y,z)    likelihood of decoder(z, y)         x (B, *x_shape)
        p(a|x,y,z)  N(loc, scale^2) of (x, y, z)        a (B, d_a)

        q(a|x)      N(loc(x), scale(x)^2)
        q(y|a,x)    Categorical(classifier(a, x)); on a labelled row certain of the label
        q(z|a,x,y)  N(loc, scale^2) of (a, x, y)

    The marginal p(x, y, z) is that of M2; y is summed out on unlabelled rows. ``classify``
    takes a at its mean.

    It departs from Maaløe et al. in that q(y|a,x) and q(z|a,x,y) share their features of x,
    and in drawing a and z once where they average over samples (``particles`` does).

    Args:
        x_shape: shape of one observation, (D,) or (channels, height, width).
        components: K, at least the number of classes.
        latent_dim: d, the size of z.
        auxiliary_dim: d_a, the size of a; None: d.
        network, likelihood, options: as for :class:`GMMVAE`.

    Reference:
        Maaløe, Sønderby, Sønderby, Winther 2016, arXiv:1602.05473.
    """

    latents = ("a", "y", "z")
    label_site = "y"
    default_objective = "trace"  # the model draws a last
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
        super().__init__()
        auxiliary_dim = latent_dim if auxiliary_dim is None else auxiliary_dim
        check_sizes(components=components, latent_dim=latent_dim, auxiliary_dim=auxiliary_dim)
        self.x_shape, self.components, self.latent_dim = tuple(x_shape), components, latent_dim
        self.auxiliary_dim, options = auxiliary_dim, options or NetworkOptions()
        K, d, d_a = components, latent_dim, auxiliary_dim
        self.to_auxiliary = network_pair(network)[0](self.x_shape, 2 * d_a, options)
        self.encoder, features = feature_encoder(network, self.x_shape, options)
        self.classifier = JointMLP([d_a, features], [K], options)
        self.to_z = JointMLP([d_a, features, K], [d, d], options)
        self.build_generative(network, likelihood, options)

    def build_generative(self, network: str, likelihood: str, options: NetworkOptions) -> None:
        """The networks of p(x|.) and p(a|.)."""
        K, d, d_a = self.components, self.latent_dim, self.auxiliary_dim
        self.observation = Observation(d + K, self.x_shape, network, likelihood, options)
        self.features_for_a, features = feature_encoder(network, self.x_shape, options)
        self.to_a = JointMLP([features, K, d], [d_a, d_a], options)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        """p(x, y, z, a) for rows x (B, *x_shape)."""
        register(observation=self.observation, features_for_a=self.features_for_a, to_a=self.to_a)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("y", flat_prior(len(x), self.components, x))
            z = pyro.sample("z", standard_normal((len(x), self.latent_dim), x))
            pyro.sample("x", self.observation(z, s), obs=x)
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
            s = sample_y(self.classifier(a, features)[0], y)
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

    def build_generative(self, network: str, likelihood: str, options: NetworkOptions) -> None:
        """The networks of p(x|.) and p(a|.)."""
        K, d, d_a = self.components, self.latent_dim, self.auxiliary_dim
        self.observation = Observation(d_a + d + K, self.x_shape, network, likelihood, options)
        self.to_a = JointMLP([K, d], [d_a, d_a], options)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        """p(x, y, z, a) for rows x (B, *x_shape)."""
        register(to_a=self.to_a, observation=self.observation)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("y", flat_prior(len(x), self.components, x))
            z = pyro.sample("z", standard_normal((len(x), self.latent_dim), x))
            loc, raw_scale = self.to_a(s, z)
            a = pyro.sample("a", Normal(loc, positive_scale(raw_scale)).to_event(1))
            pyro.sample("x", self.observation(a, z, s), obs=x)

    def decode(self, z: Tensor, s: Tensor) -> Tensor:
        """Mean of p(x|a,y,z), (B, *x_shape), at a's mean given z (B, d) and classes s (B, K)."""
        return self.observation(self.to_a(s, z)[0], z, s).mean
