"""What a guide asks of the model it is built for, and the s that all of them draw."""

from typing import Protocol

import pyro
import torch
from pyro.distributions import OneHotCategorical
from torch import Tensor, nn

from pyro_gmmvae.distributions import Concrete
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.networks import NetworkOptions


class MixturePrior(Protocol):
    """p(s) and p(z|s), as the guide of responsibilities sees them."""

    def class_scores(self, loc: Tensor, scale: Tensor) -> Tensor: ...


class MixtureModel(Protocol):
    """The part of a Gaussian-mixture VAE that its guides see."""

    components: int
    latent_dim: int
    initial_temperature: float
    relaxed: bool
    options: NetworkOptions

    @property
    def mixture(self) -> MixturePrior: ...

    def build_encoder(self, out_size: int) -> nn.Module: ...


class MixtureGuide(nn.Module):
    """A posterior of z and s for one Gaussian-mixture VAE.

    Where the model's s is relaxed, s is a Concrete; else it is one-hot and, under objectives
    that enumerate, summed out.

    Args:
        model: the Gaussian-mixture VAE this is a posterior of.

    Raises:
        GMMVAEError: naming guide and model, for a model that has no s.
    """

    name: str
    family: type[Concrete] = Concrete
    default_objective = "analytic"
    temperature: Tensor

    def __init__(self, model: MixtureModel) -> None:
        super().__init__()
        wanted = ("components", "latent_dim", "initial_temperature", "relaxed", "mixture")
        if not all(hasattr(model, name) for name in wanted):
            raise GMMVAEError(
                f"the guide {self.name!r} is a posterior of z and s, and {type(model).__name__} "
                "has no s; use it with the models gmmvae and gmvae-discrete"
            )
        self.components, self.latent_dim = model.components, model.latent_dim
        self.relaxed = model.relaxed
        self.register_buffer("temperature", torch.tensor(model.initial_temperature))

    def sample_s(self, logits: Tensor) -> Tensor:
        """The site s (..., K), from class logits (B, K)."""
        if self.relaxed:
            return pyro.sample("s", self.family(self.temperature, logits=logits))
        return pyro.sample("s", OneHotCategorical(logits=logits), infer={"sum_out": True})
