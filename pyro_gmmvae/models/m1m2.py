"""M1+M2: M2 on the latent of M1, stacked."""

from typing import ClassVar

import pyro
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyro_gmmvae.distributions import StackedNormal, positive_scale
from pyro_gmmvae.models.base import CLASS
from pyro_gmmvae.models.labels import OneHotClass, sample_y
from pyro_gmmvae.networks import JointMLP, NetworkOptions
from pyro_gmmvae.param_store import register
from pyro_gmmvae.ranges import SearchSpace


class M1M2(OneHotClass):
    """M1 and M2 stacked::

        p(x, z1, y, z2) = p(x|z1) p(z1|y,z2) p(z2) p(y)

        p(y)        Categorical(1 / K)             y (B, K), one-hot
        p(z2)       N(0, I)                        z2 (B, d)
        p(z1|y,z2)  N(loc(y, z2), scale(y, z2)^2)  z1 (B, d)
        p(x|z1)     likelihood of decoder(z1)      x (B, *x_shape)

        q(z1|x)  N(loc(x), scale(x)^2)
        q(y|z1)  Categorical(classifier(z1)); certain of the label on a labelled row
        q(z2|z1,y)  N(loc(z1, y), scale(z1, y)^2)

    The layers are stacked: M1 (x and z1) learns as a VAE of its own, and M2 (z1, y, z2) on
    samples of z1 that it can't change; see :class:`StackedNormal`. The ELBO is that of the whole
    model, with y summed out.

    It departs from Kingma et al. in training both layers at once, M2 on the current z1 of M1,
    where they train M1 to the end first.

    Args:
        x_shape, components, network, likelihood, options: as for :class:`GMMVAE`.
        latent_dim: d, the size of z1 and of z2.

    Reference:
        Kingma et al. 2014, arXiv:1406.5298.
    """

    latents = ("z1", "y", "z2")
    class_site = "y"
    class_conditional = True
    default_objective = "trace"  # the model samples z1 last
    search_space: ClassVar[SearchSpace] = CLASS

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape, components=components, latent_dim=latent_dim, network=network, options=options
        )
        K, d = components, latent_dim
        self.encoder = self.build_encoder(2 * d)
        self.observation = self.build_observation(d, likelihood)
        self.classifier = JointMLP([d], [K], self.options)
        self.to_z2 = JointMLP([d, K], [d, d], self.options)
        self.to_z1 = JointMLP([K, d], [d, d], self.options)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z1, y, z2) for rows x (B, *x_shape)."""
        register(to_z1=self.to_z1, observation=self.observation)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("y", self.label_prior(y, x))
            z2 = pyro.sample("z2", self.prior_of_z(x.new_zeros(len(x), 0)))
            loc, raw_scale = self.to_z1(s, z2)
            z1 = pyro.sample("z1", StackedNormal(loc, positive_scale(raw_scale)))
            pyro.sample("x", self.observation(z1, given=x), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(z1, y, z2|x), with labels y (B,), -1 or None: unlabelled."""
        register(encoder=self.encoder, classifier=self.classifier, to_z2=self.to_z2)
        loc, raw_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("rows", len(x)):
            z1 = pyro.sample("z1", Normal(loc, positive_scale(raw_scale)).to_event(1)).detach()
            s = sample_y(self.classifier(z1)[0], y, self.label_prior)
            loc, raw_scale = self.to_z2(z1, s)
            pyro.sample("z2", Normal(loc, positive_scale(raw_scale)).to_event(1))

    def classify(self, x: Tensor) -> Tensor:
        """log q(y|z1), (B, K), in nats, at z1's mean."""
        return self.classifier(self._z1(x))[0].log_softmax(-1)

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z2, (B, d), at z1's mean and y = the class probabilities of x."""
        return self.to_z2(self._z1(x), self.classify(x).exp())[0]

    def _z1(self, x: Tensor) -> Tensor:
        return self.encoder(x).chunk(2, -1)[0]

    def observe(
        self, z: Tensor, s: Tensor | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|z1) at z1's mean given z2 = z (B, d) and s (B, K)."""
        return self.observation(self.to_z1(self.require_class(s), z)[0], given=given)

    def observe_draws(
        self, n: int, label: int | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|z1) at n draws z1 ~ p(z1|y,z2) with z2 ~ N(0, I); y as for :meth:`generate`."""
        s = self.draw_class(n) if label is None else self.one_hot(label, n)
        loc, raw_scale = self.to_z1(s, self.prior_of_z(s).sample())
        return self.observation(Normal(loc, positive_scale(raw_scale)).sample(), given=given)
