"""DC-IGN: entries of z that rows of one class share, and entries that move within a class."""

from typing import ClassVar

import pyro
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError, check_range
from pyro_gmmvae.models.base import COMMON
from pyro_gmmvae.models.vae import VAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register
from pyro_gmmvae.ranges import Real, SearchSpace


class DCIGN(VAE):
    """VAE with entries of z for the class of a row, and others for the rest::

        p(x, z) = p(x|z) p(z)

        p(z)    N(0, I), or another prior    z (B, d), of which the first class_dim are of the class
        p(x|z)  likelihood of decoder(z)     x (B, *x_shape)

        q(z|x)  N(loc(x), scale(x)^2)

    While training, the entries of the class of a labelled row are clamped to their mean over the
    rows of the batch with its label, so that the other entries have to carry all that differs
    within a class. -invariance / 2 |entry - mean|^2 is added, which moves the entries of rows of a
    class together. The number that is maximized, which training shows as the ELBO, is then no
    bound; ``evaluate`` measures the bound, without labels.

    It departs from Kulkarni et al., who make batches in which one factor of a generated image
    moves: here it is the factors other than the class, in batches of any rows. The gradient of the
    mean reaches the encoder, where there it does not.

    Args:
        x_shape, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        prior, prior_components: as for :class:`VAE`.
        class_dim: the number of entries of z that are clamped; none: half of them.
        invariance: the weight of the squared distance from the mean.

    Raises:
        GMMVAEError: a z of one entry.

    Reference:
        Kulkarni et al. 2015, arXiv:1503.03167.
    """

    needs_labels = True
    search_space: ClassVar[SearchSpace] = {**COMMON, "invariance": Real(0.01, 100.0, log=True)}

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        prior: str = "normal",
        prior_components: int = 100,
        class_dim: int | None = None,
        invariance: float = 1.0,
        options: NetworkOptions | None = None,
    ) -> None:
        if latent_dim < 2:
            raise GMMVAEError("dc-ign needs two or more entries of z, and latent_dim is 1")
        own = latent_dim // 2 if class_dim is None else class_dim
        fits = 1 <= own < latent_dim
        check_range("class_dim", own, fits, f"from 1 to below latent_dim {latent_dim}")
        check_range("invariance", invariance, 0 <= invariance <= 1e6, "from 0 to 1000000")
        self.class_dim, self.invariance = own, invariance
        super().__init__(
            x_shape,
            latent_dim,
            network=network,
            likelihood=likelihood,
            prior=prior,
            prior_components=prior_components,
            options=options,
        )

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z) for rows x (B, *x_shape); while training with clamped entries, by labels y (B,).

        A label of -1, or no y, is no label.
        """
        register(observation=self.observation)
        if self.prior is not None:
            register(prior=self.prior)
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", self.prior_of_z(x.new_zeros(len(x), 0)))
            if self.training and y is not None:
                z, distance = self.clamped(z, y)
                pyro.factor("invariance", -self.invariance / 2 * distance)
            pyro.sample("x", self.observation(z, given=x), obs=x)

    def clamped(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """z with clamped entries, (B, d), and the squared distance of these from their mean, (B,).

        Args:
            z: (B, d).
            y: (B,) labels; -1: none, and then nothing is clamped.
        """
        own, others = z.split([self.class_dim, self.latent_dim - self.class_dim], -1)
        labelled = (y >= 0).unsqueeze(-1)
        alike = ((y.unsqueeze(-1) == y) & labelled).to(z)
        mean = alike @ own / alike.sum(-1, keepdim=True).clamp_min(1)
        mean = torch.where(labelled, mean, own)
        return torch.cat([mean, others], -1), (own - mean.detach()).square().sum(-1)
