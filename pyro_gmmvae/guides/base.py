"""The contract of a guide: a posterior of z and s for a Gaussian-mixture VAE."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import pyro
import torch
from pyro.distributions import OneHotCategorical
from torch import Tensor, nn

from pyro_gmmvae.distributions import Concrete
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.networks import NetworkOptions


class MixturePrior(Protocol):
    """p(s) and p(z|s), as far as a guide uses them."""

    def prior(self, rows: int, y: Tensor | None, *, relaxed: bool) -> Any:
        """p(s), batch shape (rows,), with the labels y (B,) of rows, -1 or None: unlabelled."""

    def class_scores(self, loc: Tensor, scale: Tensor) -> Tensor:
        """log pi_i + E[log p(z|s = i)] for z ~ N(loc, scale^2), (B, K), in nats."""

    def __call__(self, s: Tensor) -> Any:
        """p(z|s), event shape (d,), for s (..., K) on the simplex."""


class MixtureModel:
    """The part of a Gaussian-mixture VAE that its guides use.

    Attributes:
        components, latent_dim: K, and d of z.
        relaxed: whether s is a Concrete; otherwise it is one-hot.
        initial_temperature: temperature of q(s|x) before training.
        options: hidden sizes, activation, batch norm, dropout, input noise.
        mixture: p(s) and p(z|s).
    """

    components: int
    latent_dim: int
    relaxed: ClassVar[bool]
    initial_temperature: float
    options: NetworkOptions
    mixture: MixturePrior

    def build_encoder(self, out_size: int) -> nn.Module:
        """An encoder x -> (B, out_size) of this model's kind of network."""
        raise NotImplementedError


class MixtureGuide(nn.Module, ABC):
    """A posterior q(z, s|x) of one Gaussian-mixture VAE.

    A subclass writes ``forward``, ``class_logits`` and ``embed``. Where the model's s is relaxed,
    s is a Concrete; otherwise it is one-hot and, under objectives that enumerate, summed out. The
    keyword-only parameters of a subclass's constructor are its configuration keys.

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior.

    Attributes:
        components, latent_dim: K, and d of z.
        relaxed: whether s is a Concrete.
        temperature: 0-dimensional buffer, the temperature of q(s|x); absent where it is one of
            ``unused_keys``.

    Raises:
        GMMVAEError: a model that is not a :class:`MixtureModel`, or whose s is discrete where the
            guide needs a relaxed one.
    """

    name: ClassVar[str]
    """Key of ``guides.GUIDES``."""
    family: ClassVar[type[Concrete]] = Concrete
    """The distribution of a relaxed s."""
    default_objective: ClassVar[str] = "analytic"
    """Key of ``objectives.OBJECTIVES``; "trace" where z has no closed-form KL to p(z|s)."""
    relaxed_only: ClassVar[bool] = False
    """Whether the guide needs a model with a relaxed s."""
    unused_keys: ClassVar[tuple[str, ...]] = ()
    """Configuration keys of the model that have no meaning under this guide."""
    temperature: Tensor

    def __init__(self, model: MixtureModel) -> None:
        super().__init__()
        if not isinstance(model, MixtureModel):
            raise GMMVAEError(
                f"the guide {self.name!r} is a posterior of z and s, and {type(model).__name__} "
                "has no s; use it with the models gmmvae and gmvae-discrete"
            )
        self.components, self.latent_dim = model.components, model.latent_dim
        self.relaxed = model.relaxed
        if self.relaxed_only and not self.relaxed:
            raise GMMVAEError(
                f"the guide {self.name!r} needs a relaxed s, and that of {type(model).__name__} is "
                "discrete; use it with the model gmmvae"
            )
        if "temperature" not in self.unused_keys:
            self.register_buffer("temperature", torch.tensor(model.initial_temperature))

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        """Sample "s" (B, K) and "z" (B, d), in this order, in a plate over the rows of x.

        Args:
            x: rows, (B, *x_shape).
            y: labels; a guide need not use them, because they enter through the prior of s.
        """

    @abstractmethod
    def class_logits(self, x: Tensor) -> Tensor:
        """log q(y|x) up to a constant for each row, (B, K), in nats."""

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d), at s = the class probabilities of x."""

    def sample_s(self, logits: Tensor) -> Tensor:
        """Sample the site s, (..., K), from class logits (B, K)."""
        if self.relaxed:
            return pyro.sample("s", self.family(self.temperature, logits=logits))
        return pyro.sample("s", OneHotCategorical(logits=logits), infer={"sum_out": True})
