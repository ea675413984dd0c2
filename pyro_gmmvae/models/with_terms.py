"""Models that are another one, with other defaults of the terms of the objective."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from pyro_gmmvae.models.base import ALPHA, CLASS, COMMON, RELAXED
from pyro_gmmvae.models.joint_vae import JointVAE
from pyro_gmmvae.models.m2 import M2Gumbel
from pyro_gmmvae.models.vae import VAE
from pyro_gmmvae.param_store import refuse_plain_svi
from pyro_gmmvae.ranges import Real, SearchSpace


class FactorVAE(VAE):
    """VAE whose entries of z are independent over all rows::

        p(x, z) = p(x|z) p(z)

        p(z)    N(0, I), or another prior   z (B, d)
        p(x|z)  likelihood of decoder(z)    x (B, *x_shape)

        q(z|x)  N(loc(x), scale(x)^2)

    The model is :class:`VAE`, with the key ``tc_adversary`` at 10: the total correlation of z, as a
    discriminator estimates it.

    Args:
        x_shape, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        prior, prior_components: as for :class:`VAE`.

    Reference:
        Kim, Mnih 2018, arXiv:1802.05983.
    """

    key_defaults: ClassVar[Mapping[str, Any]] = {"tc_adversary": 10}
    search_space: ClassVar[SearchSpace] = {**COMMON, "tc_adversary": Real(1.0, 100.0, log=True)}

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z) for rows x (B, *x_shape)."""
        refuse_plain_svi(self, "VAE")
        super().model(x, y)


class Fader(VAE):
    """VAE whose z does not depend on the covariates, which the decoder gets::

        p(x, z|c) = p(x|z,c) p(z)

        p(z)      N(0, I), or another prior   z (B, d)
        p(x|z,c)  likelihood of decoder(z, c)  x (B, *x_shape), the columns that are no covariates

        q(z|x,c)  N(loc(x,c), scale(x,c)^2)

    The model is :class:`VAE` of a table with covariates, with the keys ``adversary`` at 0:50 (it
    grows during the fit, without which z and the discriminator do not settle), ``adversary_of``
    covariates, and ``kl_z`` 0.1.

    It departs from Lample et al. in that z is random, with a KL term, that the encoder gets the
    covariates too, and in the term: z is to leave the discriminator at the shares of the values.

    Args:
        x_shape, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        prior, prior_components: as for :class:`VAE`.

    Reference:
        Lample et al. 2017, arXiv:1706.00409.
    """

    key_defaults: ClassVar[Mapping[str, Any]] = {
        "adversary": "0:50",
        "adversary_of": "covariates",
        "kl_z": 0.1,
    }
    search_space: ClassVar[SearchSpace] = {**COMMON, "adversary": Real(1.0, 300.0, log=True)}

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z|c) for rows x (B, *x_shape)."""
        refuse_plain_svi(self, "VAE")
        super().model(x, y)


class AAE(JointVAE):
    """Adversarial autoencoder with a class::

        p(x, y, z) = p(x|y,z) p(z) p(y)

        p(y)      Concrete(1 / K, prior_temperature)    y (B, K)
        p(z)      N(0, I)                               z (B, d)
        p(x|y,z)  likelihood of decoder(z, y)           x (B, *x_shape)

        q(y|x)    Concrete(logits(x), temperature)
        q(z|x)    N(loc(x), scale(x)^2)

    The model is :class:`JointVAE`, with the keys ``adversary`` and ``class_adversary`` at 30 in the
    place of the KL terms, ``kl_y`` and ``kl_z``, which are 0. ``evaluate`` reports its bound, which
    is not maximized. Without labels all rows can get one class; the key ``balance`` prevents it.

    It departs from Makhzani et al. in that y and z are random, given x, and in the use of labels:
    as the prior of y, and by ``alpha`` in the same step.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        temperature, prior_temperature: as for :class:`M2Gumbel`.

    Reference:
        Makhzani et al. 2015, arXiv:1511.05644.
    """

    key_defaults: ClassVar[Mapping[str, Any]] = {
        "adversary": 30,
        "class_adversary": 30,
        "kl_y": 0,
        "kl_z": 0,
    }
    search_space: ClassVar[SearchSpace] = {
        **COMMON,
        **ALPHA,
        **RELAXED,
        "adversary": Real(1.0, 300.0, log=True),
        "class_adversary": Real(1.0, 300.0, log=True),
    }

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, y, z) for rows x (B, *x_shape) with labels y (B,), -1 or None: unlabelled."""
        refuse_plain_svi(self, "JointVAE")
        super().model(x, y)


class VFAE(M2Gumbel):
    """Variational fair autoencoder: a z that does not depend on the covariates, and a class::

        p(x, y, z|c) = p(x|y,z,c) p(z) p(y)

        p(y)        Concrete(1 / K, prior_temperature)    y (B, K)
        p(z)        N(0, I)                               z (B, d)
        p(x|y,z,c)  likelihood of decoder(z, y, c)        x, the columns that are no covariates

        q(y|x,c)    Concrete(classifier(x,c), temperature)
        q(z|x,y,c)  N(loc(features(x,c), y), scale(features(x,c), y)^2)

    The model is :class:`M2Gumbel` of a table with covariates, with the keys ``mmd`` at 100 and
    ``mmd_of`` covariates.

    It departs from Louizos et al. in that y is inferred from x and c and not from z, so that z
    alone is made independent of c; in a relaxed y; and in one layer of z.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        temperature, prior_temperature: as for :class:`M2Gumbel`.

    Reference:
        Louizos et al. 2016, arXiv:1511.00830.
    """

    key_defaults: ClassVar[Mapping[str, Any]] = {"mmd": 100, "mmd_of": "covariates"}
    search_space: ClassVar[SearchSpace] = {
        **CLASS,
        **RELAXED,
        "mmd": Real(1.0, 1000.0, log=True),
    }
