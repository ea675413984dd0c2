"""M2: a VAE beside a class, summed out where it is not known; and its Gumbel variant."""

from typing import ClassVar

import pyro
import torch
from pyro import poutine
from pyro.distributions import Normal
from torch import Tensor

from pyro_gmmvae.config import CLASS, RELAXED, SearchSpace
from pyro_gmmvae.distributions import Concrete, positive_scale
from pyro_gmmvae.models.checks import check_range, check_sizes
from pyro_gmmvae.models.labels import flat_prior, sample_y, standard_normal, vertices
from pyro_gmmvae.models.observation import Observation, feature_encoder, network_pair
from pyro_gmmvae.models.one_hot import OneHotClass
from pyro_gmmvae.networks import JointMLP, NetworkOptions
from pyro_gmmvae.param_store import register


class M2(OneHotClass):
    """Semi-supervised VAE with a class y and a z that knows nothing of it::

        p(x, y, z) = p(x|y,z) p(z) p(y)

        p(y)      Categorical(1 / K)             y (B, K), one-hot
        p(z)      N(0, I)                        z (B, d)
        p(x|y,z)  likelihood of decoder(z, y)    x (B, *x_shape)

        q(y|x)    Categorical(classifier(x)); on a labelled row certain of the label
        q(z|x,y)  N(loc(features(x), y), scale(features(x), y)^2)

    y is summed out exactly on unlabelled rows::

        -U(x) = sum_y q(y|x) [-L(x,y)] + H(q(y|x)),   -L(x,y) the labelled bound

    It departs from Kingma et al. in mixing labelled and unlabelled rows in one batch, and in
    that the networks, alpha and batch sizes are the configuration's.

    Args:
        x_shape: shape of one observation, (D,) or (channels, height, width).
        components: K, at least the number of classes.
        latent_dim: d, the size of z.
        network, likelihood, options: as for :class:`GMMVAE`.

    Reference:
        Kingma et al. 2014, arXiv:1406.5298.
    """

    latents = ("y", "z")
    label_site = "y"
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
        super().__init__()
        check_sizes(components=components, latent_dim=latent_dim)
        self.x_shape, self.components, self.latent_dim = tuple(x_shape), components, latent_dim
        options, K, d = options or NetworkOptions(), components, latent_dim
        self.classifier = network_pair(network)[0](self.x_shape, K, options)
        self.encoder, features = feature_encoder(network, self.x_shape, options)
        self.to_z = JointMLP([features, K], [d, d], options)
        self.observation = Observation(d + K, self.x_shape, network, likelihood, options)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        """p(x, y, z) for rows x (B, *x_shape)."""
        register(observation=self.observation)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("y", flat_prior(len(x), self.components, x))
            z = pyro.sample("z", standard_normal((len(x), self.latent_dim), x))
            pyro.sample("x", self.observation(z, s), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(y, z|x), with labels y (B,), -1 or None: unlabelled."""
        register(classifier=self.classifier, encoder=self.encoder, to_z=self.to_z)
        with pyro.plate("rows", len(x)):
            s = sample_y(self.classifier(x), y)
            loc, scale = self.z_given(x, s)
            pyro.sample("z", Normal(loc, scale).to_event(1))

    def z_given(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """loc and scale of q(z|x,y), (..., d), for classes s (..., K)."""
        loc, raw_scale = self.to_z(self.encoder(x), s)
        return loc, positive_scale(raw_scale)

    def classify(self, x: Tensor) -> Tensor:
        """log q(y|x), (B, K), in nats."""
        return self.classifier(x).log_softmax(-1)

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d), at y = the class probabilities of x."""
        return self.z_given(x, self.classifier(x).softmax(-1))[0]


class M2Gumbel(M2):
    """M2 with a relaxed y that is drawn once, instead of summed out::

        p(y)    Concrete(1 / K, prior_temperature)
        q(y|x)  Concrete(classifier(x), temperature)

    On labelled rows y is the label, and no term of y is counted.

    It departs from Jang et al. in the term of y: the Concretes' density ratio, with which the
    ELBO is a bound (the objective ``categorical`` gives theirs).

    Args:
        temperature: of q(y|x); schedules can move it.
        prior_temperature: of p(y).
        Others: as for :class:`M2`.

    Reference:
        Jang, Gu, Poole 2017, arXiv:1611.01144.
    """

    search_space: ClassVar[SearchSpace] = {**CLASS, **RELAXED}
    temperature: Tensor
    prior_temperature: Tensor

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        temperature: float = 0.5,
        prior_temperature: float = 0.5,
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape,
            components,
            latent_dim,
            network=network,
            likelihood=likelihood,
            options=options,
        )
        check_range("temperature", temperature, temperature > 0, "positive")
        check_range("prior_temperature", prior_temperature, prior_temperature > 0, "positive")
        self.register_buffer("temperature", torch.tensor(temperature))
        self.register_buffer("prior_temperature", torch.tensor(prior_temperature))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, y, z) for rows x (B, *x_shape) with labels y (B,), -1 or None: unlabelled."""
        register(observation=self.observation)
        with pyro.plate("rows", len(x)):
            s = self._class_site(x.new_zeros(len(x), self.components), self.prior_temperature, y)
            z = pyro.sample("z", standard_normal((len(x), self.latent_dim), x))
            pyro.sample("x", self.observation(z, s), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(y, z|x)."""
        register(classifier=self.classifier, encoder=self.encoder, to_z=self.to_z)
        with pyro.plate("rows", len(x)):
            s = self._class_site(self.classifier(x), self.temperature, y)
            loc, scale = self.z_given(x, s)
            pyro.sample("z", Normal(loc, scale).to_event(1))

    @staticmethod
    def _class_site(logits: Tensor, temperature: Tensor, y: Tensor | None) -> Tensor:
        """The site y: a relaxed draw; the label where there is one, which counts no term."""
        concrete = Concrete(temperature, logits=logits)
        if y is None:
            return pyro.sample("y", concrete)
        with poutine.mask(mask=y < 0):
            s = pyro.sample("y", concrete)
        return torch.where((y >= 0).unsqueeze(-1), vertices(y.clamp_min(0), logits), s)

    @property
    def knobs(self) -> dict[str, Tensor]:
        """Both temperatures, as 0-dimensional buffers."""
        return {"temperature": self.temperature, "prior_temperature": self.prior_temperature}
