"""The Gaussian-mixture VAE with a discrete class that is summed out."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import pyro
from torch import Tensor, nn

from pyro_gmmvae.config import MIXTURE, SearchSpace
from pyro_gmmvae.guides import MeanFieldGuide
from pyro_gmmvae.models.checks import check_range, check_sizes
from pyro_gmmvae.models.mixture import MixtureVAE, build_mixture
from pyro_gmmvae.models.observation import Observation
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register


class GMVAEDiscrete(MixtureVAE):
    """VAE whose prior of z is a mixture of Gaussians::

        p(x, z, s) = p(x|z) p(z|s) p(s)

        p(s)    Categorical(pi_y)              s (B, K), one-hot
        p(z|s)  N(z; loc_s, scale_s^2)         z (B, d)
        p(x|z)  likelihood of decoder(z)       x (B, *x_shape)

    The class acts on x through z alone. Every guide of ``guides.GUIDES`` but the
    straight-through one fits; s is summed out. The default is q(z|x) q(s|x), ``bayes`` is
    that of VaDE. Labels are the prior of s, as in :class:`GMMVAE`.

    It departs from Dilokthanakul et al. in having no noise w below the mixture, and from VaDE
    (whose model this is) in starting from random weights and in knowing labels.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        guide: called with this model, gives the posterior.
        label_eps, learn_prior, class_prior, covariance: as for :class:`GMMVAE`.

    References:
        Jiang et al. 2017, arXiv:1611.05148; Dilokthanakul et al. 2016, arXiv:1611.02648.
    """

    search_space: ClassVar[SearchSpace] = MIXTURE
    relaxed = False

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        guide: Callable[["GMVAEDiscrete"], nn.Module] = MeanFieldGuide,
        label_eps: float = 1e-3,
        learn_prior: bool = False,
        class_prior: Sequence[float] | None = None,
        covariance: str = "diagonal",
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__()
        check_sizes(components=components, latent_dim=latent_dim)
        check_range("label_eps", label_eps, 0 < label_eps < 1, "between 0 and 1")
        self.x_shape, self.components, self.latent_dim = tuple(x_shape), components, latent_dim
        self.network, self.options = network, options or NetworkOptions()
        self.initial_temperature = 1.0
        self.mixture = build_mixture(
            covariance,
            components,
            latent_dim,
            learn_prior=learn_prior,
            class_prior=class_prior,
            label_eps=label_eps,
            prior_temperature=1.0,
        )
        self.observation = Observation(latent_dim, self.x_shape, network, likelihood, self.options)
        self.guide = guide(self)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z, s) for rows x (B, *x_shape) and labels y (B,), -1 or None: unlabelled."""
        register(mixture=self.mixture, observation=self.observation)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("s", self.prior(len(x), y))
            z = pyro.sample("z", self.mixture(s))
            pyro.sample("x", self.observation(z), obs=x)

    def decode(self, z: Tensor, s: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Mean of p(x|z), (B, *x_shape), for z (B, d); s has no part in it."""
        return self.observation(z).mean

    @property
    def knobs(self) -> dict[str, Tensor]:
        """No scalar of this model moves while training."""
        return {}
