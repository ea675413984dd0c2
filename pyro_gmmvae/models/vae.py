"""The variational autoencoder, also known as M1."""

from typing import ClassVar

import pyro
import torch
from pyro.distributions import Normal
from torch import Tensor, nn

from pyro_gmmvae.config import COMMON, SearchSpace
from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.models.checks import check_sizes
from pyro_gmmvae.models.labels import standard_normal
from pyro_gmmvae.models.observation import Observation, network_pair
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register


class VAE(nn.Module):
    """Variational autoencoder::

        p(x, z) = p(x|z) p(z)

        p(z)    N(0, I)                          z (B, d)
        p(x|z)  likelihood of decoder(z)         x (B, *x_shape)

        q(z|x)  N(loc(x), scale(x)^2)

    It has no class: labels are accepted and ignored, so that it trains on the same batches.

    Args:
        x_shape: shape of one observation, (D,) or (channels, height, width).
        latent_dim: d, the size of z.
        network, likelihood, options: as for :class:`GMMVAE`.

    Reference:
        Kingma, Welling 2014, arXiv:1312.6114; "M1" in Kingma et al. 2014, arXiv:1406.5298.
    """

    latents = ("z",)
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
        self.encoder = network_pair(network)[0](self.x_shape, 2 * latent_dim, options)
        self.observation = Observation(latent_dim, self.x_shape, network, likelihood, options)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        """p(x, z) for rows x (B, *x_shape)."""
        register(observation=self.observation)
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", standard_normal((len(x), self.latent_dim), x))
            pyro.sample("x", self.observation(z), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        """q(z|x)."""
        register(encoder=self.encoder)
        loc, raw_scale = self.encoder(x).chunk(2, -1)
        with pyro.plate("rows", len(x)):
            pyro.sample("z", Normal(loc, positive_scale(raw_scale)).to_event(1))

    @property
    def knobs(self) -> dict[str, Tensor]:
        """No scalar of this model moves while training."""
        return {}

    def embed(self, x: Tensor) -> Tensor:
        """Posterior mean of z, (B, d)."""
        return self.encoder(x).chunk(2, -1)[0]

    def decode(self, z: Tensor) -> Tensor:
        """Mean of p(x|z), (B, *x_shape), for z (B, d)."""
        return self.observation(z).mean

    def generate(self, n: int) -> Tensor:
        """n draws of E[x|z] with z ~ N(0, I)."""
        parameter = next(self.observation.parameters())
        return self.decode(torch.randn(n, self.latent_dim).to(parameter))
