"""The autoencoder: the reference without a density."""

from typing import ClassVar

import pyro
from torch import Tensor, nn

from pyro_gmmvae.config import COMMON, SearchSpace
from pyro_gmmvae.models.checks import check_sizes
from pyro_gmmvae.models.observation import Observation, network_pair
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register


class AE(nn.Module):
    """Autoencoder::

        z = encoder(x)                     z (B, d), no distribution
        p(x|z)  likelihood of decoder(z)   x (B, *x_shape)

    It maximises log p(x | z = encoder(x)), which is no bound on log p(x) (x stands on both
    sides of the bar): ``evaluate`` reports none, and what a fit calls its ELBO is this number.
    It has no latent sites: the guide is empty. With input noise it is the denoising autoencoder.

    Args:
        x_shape: shape of one observation, (D,) or (channels, height, width).
        latent_dim: d, the size of z.
        network, likelihood, options: as for :class:`GMMVAE`.

    Reference:
        Hinton, Salakhutdinov 2006, doi:10.1126/science.1127647.
    """

    latents = ()
    label_site = None
    class_conditional = False
    search_space: ClassVar[SearchSpace] = COMMON

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__()
        check_sizes(latent_dim=latent_dim)
        self.x_shape, self.latent_dim = tuple(x_shape), latent_dim
        options = options or NetworkOptions()
        self.encoder = network_pair(network)[0](self.x_shape, latent_dim, options)
        self.observation = Observation(latent_dim, self.x_shape, network, likelihood, options)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        """p(x | encoder(x)) for rows x (B, *x_shape)."""
        register(encoder=self.encoder, observation=self.observation)
        z = self.encoder(x)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", self.observation(z), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """Nothing is drawn."""

    @property
    def knobs(self) -> dict[str, Tensor]:
        """No scalar of this model moves while training."""
        return {}

    def embed(self, x: Tensor) -> Tensor:
        """z, (B, d)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Mean of p(x|z), (B, *x_shape), for z (B, d)."""
        return self.observation(z).mean
