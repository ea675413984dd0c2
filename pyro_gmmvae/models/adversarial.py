"""VAE-GAN and ALI: decoders that are fitted against a discriminator of rows."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pyro
from pyro import poutine
from torch import Tensor

from pyro_gmmvae.errors import check_range
from pyro_gmmvae.models.base import COMMON
from pyro_gmmvae.models.vae import VAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import refuse_plain_svi, register
from pyro_gmmvae.ranges import Real, SearchSpace


class VAEGAN(VAE):
    """VAE whose decoder is fitted against a discriminator::

        p(x, z) = p(x|z) p(z)

        p(z)    N(0, I), or another prior   z (B, d)
        p(x|z)  likelihood of decoder(z)    x (B, *x_shape)

        q(z|x)  N(loc(x), scale(x)^2)

    The model is :class:`VAE`, with the key ``x_adversary`` at 10, and ``x_weight`` as the weight of
    log p(x|z) while training: with 0 the distance of features takes its place. The ELBO shown
    while training is then no bound; ``evaluate`` measures the bound. A discriminator distinguishes
    rows of 0 and 1 from means at once: take a likelihood of other entries, such as ``normal`` or
    ``binomial(16)``.

    Its departures from Larsen et al. are those of ``x_adversary``, and a weight of log p(x|z).

    Args:
        x_shape, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        prior, prior_components: as for :class:`VAE`.
        x_weight: the weight of log p(x|z) while training.

    Reference:
        Larsen et al. 2016, arXiv:1512.09300.
    """

    key_defaults: ClassVar[Mapping[str, Any]] = {"x_adversary": 10}
    search_space: ClassVar[SearchSpace] = {**COMMON, "x_adversary": Real(0.1, 100.0, log=True)}

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        prior: str = "normal",
        prior_components: int = 100,
        x_weight: float = 1.0,
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape,
            latent_dim,
            network=network,
            likelihood=likelihood,
            prior=prior,
            prior_components=prior_components,
            options=options,
        )
        check_range("x_weight", x_weight, 0 <= x_weight <= 1e6, "from 0 to 1000000")
        self.x_weight = x_weight

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z) for rows x (B, *x_shape)."""
        refuse_plain_svi(self, "VAE")
        register(observation=self.observation)
        if self.prior is not None:
            register(prior=self.prior)
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", self.prior_of_z(x.new_zeros(len(x), 0)))
            with self._weighted():
                pyro.sample("x", self.observation(z, given=x), obs=x)

    def _weighted(self) -> AbstractContextManager[Any]:
        weight = self.x_weight if self.training else 1.0
        # poutine.scale takes no 0
        return poutine.scale(scale=weight) if weight else poutine.mask(mask=False)


class ALI(VAEGAN):
    """Adversarially learned inference: encoder and decoder against a discriminator of pairs::

        p(x, z) = p(x|z) p(z)

        p(z)    N(0, I), or another prior   z (B, d)
        p(x|z)  likelihood of decoder(z)    x (B, *x_shape)

        q(z|x)  N(loc(x), scale(x)^2)

    The model is :class:`VAEGAN`, with the key ``pair_adversary`` at 1 instead of the ELBO: the keys
    ``x_weight`` and ``kl_z`` are 0. The ELBO is not maximized. That shown while training is not a
    bound; ``evaluate`` measures the bound. The scale of the likelihood ``normal`` is not fitted,
    and neither are the priors ``mixture`` and ``vamp``, whose draws have no gradient. The model
    needs more steps than a VAE, ``learning_rate=5e-4`` and ``discriminator_rate=3``.

    Its departures from Dumoulin et al. are those of ``pair_adversary``.

    Args:
        x_shape, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        prior, prior_components: as for :class:`VAE`.
        x_weight: the weight of log p(x|z) while training.

    References:
        Dumoulin et al. 2017, arXiv:1606.00704; Donahue, Krähenbühl, Darrell 2017,
        arXiv:1605.09782 (BiGAN).
    """

    key_defaults: ClassVar[Mapping[str, Any]] = {"pair_adversary": 1, "kl_z": 0, "x_weight": 0}
    search_space: ClassVar[SearchSpace] = COMMON
