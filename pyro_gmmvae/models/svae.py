"""Structured VAE whose graphical model is a mixture of Gaussians."""

from collections.abc import Callable, Sequence

from torch import nn

from pyro_gmmvae.guides import ConjugateGuide
from pyro_gmmvae.models.gmmvae import GMMVAE, GMVAEDiscrete
from pyro_gmmvae.networks import NetworkOptions


class SVAE(GMVAEDiscrete):
    """VAE whose prior of z is a mixture of Gaussians, with a posterior from conjugate potentials::

        p(x, z, s) = p(x|z) p(z|s) p(s)

        p(s)    Categorical(pi_y)              s (B, K), one-hot
        p(z|s)  N(z; loc_s, scale_s^2)         z (B, d)
        p(x|z)  likelihood of decoder(z)       x (B, *x_shape)

    The model is :class:`GMVAEDiscrete`; its guide is :class:`~pyro_gmmvae.guides.ConjugateGuide`,
    with the departures from Johnson et al. that are listed there.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        guide: called with this model, returns the posterior.
        label_eps, learn_prior, class_prior, covariance: as for :class:`GMMVAE`.

    Reference:
        Johnson et al. 2016, arXiv:1603.06277.
    """

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        guide: Callable[[GMMVAE], nn.Module] = ConjugateGuide,
        label_eps: float = 1e-3,
        learn_prior: bool = False,
        class_prior: Sequence[float] | None = None,
        covariance: str = "diagonal",
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape,
            components,
            latent_dim,
            network=network,
            likelihood=likelihood,
            guide=guide,
            label_eps=label_eps,
            learn_prior=learn_prior,
            class_prior=class_prior,
            covariance=covariance,
            options=options,
        )
