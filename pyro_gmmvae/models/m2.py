"""CVAE, M2 and M2 with a relaxed class: a one-hot y and a standard normal z generate x."""

import math
from typing import Any, ClassVar

import pyro
import torch
from pyro import poutine
from pyro.distributions import Normal
from torch import Tensor

from pyro_gmmvae.distributions import Concrete, positive_scale
from pyro_gmmvae.errors import check_range
from pyro_gmmvae.models.base import CLASS, RELAXED, LatentModel
from pyro_gmmvae.models.labels import OneHotClass, one_hot, sample_y
from pyro_gmmvae.networks import JointMLP, NetworkOptions
from pyro_gmmvae.param_store import register
from pyro_gmmvae.ranges import SearchSpace


class _ClassAndNormal(LatentModel):
    """p(x|y,z) with z ~ N(0, I), and q(z|x,y) by a network of features of x, and of y."""

    class_conditional = True

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
        self.build_networks(likelihood)

    def build_networks(self, likelihood: str) -> None:
        """Build the networks of q(z|x,y) and p(x|y,z)."""
        K, d = self.components, self.latent_dim
        self.encoder, features = self.build_features()
        self.to_z = JointMLP([features, K], [d, d], self.options)
        self.observation = self.build_observation(d + K, likelihood)

    def z_given(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """loc and scale of q(z|x,y), (..., d), for classes s (..., K)."""
        loc, raw_scale = self.to_z(self.encoder(x), s)
        return loc, positive_scale(raw_scale)


class CVAE(_ClassAndNormal):
    """Conditional variational autoencoder::

        p(x, z|y) = p(x|z,y) p(z)

        p(z)      N(0, I)                       z (B, d)
        p(x|z,y)  likelihood of decoder(z, y)   x (B, *x_shape)

        q(z|x,y)  N(loc(features(x), y), scale(features(x), y)^2)

    y is given, never inferred: rows without a label are masked (they count as zeros in the means
    that training reports), and the bound is one on log p(x|y). A row is classified by Bayes'
    rule, with the ELBO at the mean of z in the place of log p(x|y).

    It departs from Sohn et al. 2015 in a prior of z that does not depend on y, as in Doersch.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.

    References:
        Doersch 2016, arXiv:1606.05908; Sohn, Lee, Yan 2015.
    """

    latents = ("z",)
    needs_labels = True
    given_class = True

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z|y) for rows x (B, *x_shape) with labels y (B,); rows with -1 are masked."""
        register(observation=self.observation)
        s, labelled = self._classes(x, y)
        with pyro.plate("rows", len(x)), poutine.mask(mask=labelled):
            z = pyro.sample("z", self.prior_of_z(s))
            pyro.sample("x", self.observation(z, s, given=x), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(z|x,y)."""
        register(encoder=self.encoder, to_z=self.to_z)
        s, labelled = self._classes(x, y)
        loc, scale = self.z_given(x, s)
        with pyro.plate("rows", len(x)), poutine.mask(mask=labelled):
            pyro.sample("z", Normal(loc, scale).to_event(1))

    def _classes(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """One-hot classes (B, K), class 0 where there is no label, and which have one (B,)."""
        y = torch.full((len(x),), -1, device=x.device) if y is None else y
        return one_hot(y.clamp_min(0), self.components, x), y >= 0

    def classify(self, x: Tensor) -> Tensor:
        """log p(y|x), (B, K), in nats: Bayes' rule, with the ELBO at z's mean for log p(x|y)."""
        each = torch.eye(self.components, dtype=x.dtype, device=x.device).unsqueeze(1)
        loc, scale = self.z_given(x, each)
        kl = torch.distributions.kl_divergence(Normal(loc, scale).to_event(1), self.prior_of_z(loc))
        bound = self.observation(loc, each, given=x).log_prob(x) - kl
        return bound.T.log_softmax(-1)

    def embed(self, x: Tensor) -> Tensor:
        """Mean of q(z|x,y), (B, d), at the most probable class."""
        return self.z_given(x, one_hot(self.classify(x).argmax(-1), self.components, x))[0]


class M2(_ClassAndNormal, OneHotClass):
    """Semi-supervised VAE with a class y and a z that is independent of it::

        p(x, y, z) = p(x|y,z) p(z) p(y)

        p(y)      Categorical(1 / K)             y (B, K), one-hot
        p(z)      N(0, I)                        z (B, d)
        p(x|y,z)  likelihood of decoder(z, y)    x (B, *x_shape)

        q(y|x)    Categorical(classifier(x)); certain of the label on a labelled row
        q(z|x,y)  N(loc(features(x), y), scale(features(x), y)^2)

    y is summed out exactly on unlabelled rows::

        -U(x) = sum_y q(y|x) [-L(x,y)] + H(q(y|x)),   -L(x,y) the labelled bound

    It departs from Kingma et al. in mixing labelled and unlabelled rows in one batch, and in
    that the networks, alpha and batch sizes are the configuration's.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.

    Reference:
        Kingma et al. 2014, arXiv:1406.5298.
    """

    latents = ("y", "z")
    class_site = "y"
    search_space: ClassVar[SearchSpace] = CLASS

    def build_networks(self, likelihood: str) -> None:
        """Build the networks of q(y|x), q(z|x,y) and p(x|y,z)."""
        self.classifier = self.build_encoder(self.components)
        super().build_networks(likelihood)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, y, z) for rows x (B, *x_shape)."""
        register(observation=self.observation)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("y", self.label_prior(y, x))
            z = pyro.sample("z", self.prior_of_z(x.new_zeros(len(x), 0)))
            pyro.sample("x", self.observation(z, s, given=x), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(y, z|x), with labels y (B,), -1 or None: unlabelled."""
        register(classifier=self.classifier, encoder=self.encoder, to_z=self.to_z)
        with pyro.plate("rows", len(x)):
            s = sample_y(self.classifier(x), y, self.label_prior)
            loc, scale = self.z_given(x, s)
            pyro.sample("z", Normal(loc, scale).to_event(1))

    def classify(self, x: Tensor) -> Tensor:
        """log q(y|x), (B, K), in nats."""
        return self.classifier(x).log_softmax(-1)

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d), at y = the class probabilities of x."""
        return self.z_given(x, self.classifier(x).softmax(-1))[0]


class M2Gumbel(M2):
    """M2 with a relaxed y that is sampled once, instead of summed out::

        p(x, y, z) = p(x|y,z) p(z) p(y)

        p(y)      Concrete(1 / K, prior_temperature)    y (B, K)
        p(z)      N(0, I)                               z (B, d)
        p(x|y,z)  likelihood of decoder(z, y)           x (B, *x_shape)

        q(y|x)    Concrete(classifier(x), temperature)
        q(z|x,y)  N(loc(features(x), y), scale(features(x), y)^2)

    On labelled rows y is the label, and the bound's term of y is log p(y) = -log K.

    It departs from Jang et al. in the term of y: the density ratio of the Concretes, with which
    the ELBO is a bound (the objective ``categorical`` gives theirs).

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        temperature: of q(y|x); schedules can move it.
        prior_temperature: of p(y).

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
            label, logits = self._label(y), self.label_prior.logits(y, x)
            prior = _PriorOfLabels(self.prior_temperature, logits=logits, y=label)
            s = _label_or(pyro.sample("y", prior), label)
            z = pyro.sample("z", self.prior_of_z(s))
            pyro.sample("x", self.observation(z, s, given=x), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(y, z|x)."""
        register(classifier=self.classifier, encoder=self.encoder, to_z=self.to_z)
        with pyro.plate("rows", len(x)):
            label = self._label(y)
            concrete = Concrete(self.temperature, logits=self.classifier(x))
            with poutine.mask(mask=True if label is None else label < 0):
                s = _label_or(pyro.sample("y", concrete), label)
            loc, scale = self.z_given(x, s)
            pyro.sample("z", Normal(loc, scale).to_event(1))

    def _label(self, y: Tensor | None) -> Tensor | None:
        """Labels of one class; -1 for unlabelled rows and soft labels."""
        return None if y is None else self.label_prior.classes(y)


class _PriorOfLabels(Concrete):
    """p(y) of M2 with a relaxed class; 1 / K at the label y of a row, where it is one class."""

    def __init__(self, *args: Any, y: Tensor | None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.y = y

    def expand(self, batch_shape: Any, _instance: Any = None) -> "_PriorOfLabels":
        new = self._get_checked_instance(_PriorOfLabels, _instance)
        new.y = self.y
        return super().expand(batch_shape, _instance=new)

    def log_prob(self, value: Tensor) -> Tensor:
        relaxed = super().log_prob(value)
        if self.y is None:
            return relaxed
        return torch.where(self.y >= 0, -math.log(self.event_shape[-1]), relaxed)


def _label_or(s: Tensor, y: Tensor | None) -> Tensor:
    """s (B, K), and the one-hot label of a row that has one."""
    if y is None:
        return s
    return torch.where((y >= 0).unsqueeze(-1), one_hot(y.clamp_min(0), s.shape[-1], s), s)
