"""What a guide asks of the model it is built for."""

from typing import Protocol, TypeVar

from torch import nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.networks import NetworkOptions


class MixtureModel(Protocol):
    """The part of a Gaussian-mixture VAE that its guides see."""

    components: int
    latent_dim: int
    initial_temperature: float
    options: NetworkOptions

    def build_encoder(self, out_size: int) -> nn.Module: ...


Model = TypeVar("Model")


def require_mixture(model: Model, guide: str) -> Model:
    """Refuse, before training, a model that has no s for a guide of s.

    Raises:
        GMMVAEError: naming the guide and the model's class.
    """
    wanted = ("components", "latent_dim", "initial_temperature", "build_encoder")
    if not all(hasattr(model, name) for name in wanted):
        raise GMMVAEError(
            f"the guide {guide!r} is a posterior of z and s, and {type(model).__name__} has no s; "
            "use it with the gmmvae model"
        )
    return model
