"""Gaussian-mixture VAEs, with a relaxed class or a discrete class that is summed out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import pyro
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyro_gmmvae.errors import check_range
from pyro_gmmvae.guides import MeanFieldGuide, MixtureGuide, MixtureModel, ProductGuide
from pyro_gmmvae.models.base import MIXTURE, RELAXED, LatentModel
from pyro_gmmvae.models.mixture import Mixture, build_mixture
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register
from pyro_gmmvae.ranges import SearchSpace


class GMMVAE(LatentModel, MixtureModel):
    """Gaussian-mixture VAE with a relaxed one-hot s::

        p(x, z, s) = p(x|z,s) p(z|s) p(s)

        p(s)      Concrete(pi_y, prior_temperature)            s (B, K)
        p(z|s)    prod_i N(z; loc_i, scale_i^2)^(s_i) / const  z (B, d)
        p(x|z,s)  likelihood of decoder(z, s)                  x (B, *x_shape)

    A label enters as the prior of s: pi_y holds ``1 - label_eps`` on class y and shares the
    rest; a row with y = -1 (or no y at all) gets pi, flat or learned. Labelled and unlabelled
    rows mix freely in one batch. The posterior q(z,s|x) is ``self.guide``; assign another one
    (``model.guide = ConditionalGuide(model)``) to swap it. Under a guide whose s is discrete
    (``EnumeratedGuide``) p(s) is the Categorical of the same weights.

    Args:
        x_shape: shape of one observation, (D,) or (channels, height, width).
        components: K, at least the number of classes.
        latent_dim: d, the size of z.
        network: key of ``networks.NETWORKS`` for encoder and decoder.
        likelihood: of x, such as "bernoulli" or "binomial(16)"; see
            :func:`pyro_gmmvae.distributions.parse_likelihood`.
        guide: called with this model, returns the posterior.
        temperature: of q(s|x); the guide holds it as a buffer that schedules can move.
        prior_temperature: of p(s); values up to ``temperature`` work.
        label_eps: probability that the prior of a labelled row leaves to the other classes, in
            (0, 1).
        learn_prior: learn pi instead of keeping it fixed.
        class_prior: pi, K positive numbers; None: flat.
        covariance: of p(z|s), "diagonal" or "full".
        options: hidden sizes, activation, batch norm, dropout, input noise.

    Raises:
        GMMVAEError: sizes, temperatures or names out of range.

    References:
        SSII 2020 (person identification from OpenPose skeletons); Concrete: Maddison et al.
        2017, arXiv:1611.00712; auto-encoding variational Bayes: arXiv:1312.6114.

    Example:
        >>> import torch
        >>> from pyro.infer import SVI, Trace_ELBO
        >>> from pyro.optim import Adam
        >>> model = GMMVAE(x_shape=(64,), components=10, latent_dim=8)
        >>> svi = SVI(model.model, model.guide, Adam({"lr": 2e-3}), Trace_ELBO())
        >>> x, y = torch.rand(6, 64), torch.tensor([3, -1, -1, 0, -1, 9])
        >>> loss = svi.step(x, y)
        >>> model.eval().classify(x).shape
        torch.Size([6, 10])
    """

    latents = ("s", "z")
    class_site = "s"
    class_conditional = True
    search_space: ClassVar[SearchSpace] = {**MIXTURE, **RELAXED}
    relaxed: ClassVar[bool] = True
    decodes_s: ClassVar[bool] = True
    """Whether p(x|z,s) depends on s."""
    mixture: Mixture
    guide: Any

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        guide: Callable[["GMMVAE"], nn.Module] = ProductGuide,
        temperature: float = 0.5,
        prior_temperature: float = 0.5,
        label_eps: float = 1e-3,
        learn_prior: bool = False,
        class_prior: Sequence[float] | None = None,
        covariance: str = "diagonal",
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(
            x_shape, components=components, latent_dim=latent_dim, network=network, options=options
        )
        check_range("temperature", temperature, temperature > 0, "positive")
        check_range("prior_temperature", prior_temperature, prior_temperature > 0, "positive")
        check_range("label_eps", label_eps, 0 < label_eps < 1, "between 0 and 1")
        self.initial_temperature = temperature
        self.mixture = build_mixture(
            covariance,
            components,
            latent_dim,
            learn_prior=learn_prior,
            class_prior=class_prior,
            label_eps=label_eps,
            prior_temperature=prior_temperature,
        )
        in_size = latent_dim + components if self.decodes_s else latent_dim
        self.observation = self.build_observation(in_size, likelihood)
        self.guide = guide(self)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z, s) for rows x (B, *x_shape) and labels y (B,), -1 or None: unlabelled."""
        register(mixture=self.mixture, observation=self.observation)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("s", self.prior_of_s(len(x), y))
            z = pyro.sample("z", self.prior_of_z(s))
            pyro.sample("x", self.observe(z, s, x), obs=x)

    def prior_of_s(self, rows: int, y: Tensor | None = None) -> TorchDistribution:
        """p(s), batch shape (rows,): pi, flat or learned, and pi_y where y >= 0."""
        guide: nn.Module = self.guide
        relaxed = guide.relaxed if isinstance(guide, MixtureGuide) else self.relaxed
        return self.mixture.prior(rows, y, relaxed=relaxed)

    def prior_of_z(self, s: Tensor) -> TorchDistribution:
        """p(z|s), event shape (d,), for s (..., K) on the simplex."""
        return self.mixture(s)

    def observe(
        self, z: Tensor, s: Tensor | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|z,s), batch shape (...), for z (..., d) and s (..., K)."""
        latents = (z, self.require_class(s)) if self.decodes_s else (z,)
        return self.observation(*latents, given=given)

    def draw_class(self, n: int) -> Tensor:
        """s (n, K), drawn from p(s)."""
        return self.prior_of_s(n).sample()

    def classify(self, x: Tensor) -> Tensor:
        """log q(y|x), (B, K), in nats; exact for a Concrete s too: argmax s ~ Categorical."""
        return self.guide.class_logits(x).log_softmax(-1)

    def embed(self, x: Tensor) -> Tensor:
        """Posterior mean of z, (B, d), at s = the class probabilities of x."""
        return self.guide.embed(x)

    @property
    def mixture_priors(self) -> Mapping[str, Mixture]:
        return {"": self.mixture}

    @property
    def scheduled(self) -> dict[str, Tensor]:
        """The temperatures: that of the guide, where it has one, and that of the prior."""
        of_prior = {"prior_temperature": self.mixture.prior_temperature}
        if isinstance(self.guide, MixtureGuide) and "temperature" in self.guide.unused_keys:
            return of_prior
        return {"temperature": self.guide.temperature} | of_prior


class GMVAEDiscrete(GMMVAE):
    """VAE whose prior of z is a mixture of Gaussians::

        p(x, z, s) = p(x|z) p(z|s) p(s)

        p(s)    Categorical(pi_y)              s (B, K), one-hot
        p(z|s)  N(z; loc_s, scale_s^2)         z (B, d)
        p(x|z)  likelihood of decoder(z)       x (B, *x_shape)

    The class acts on x through z alone, and s is summed out. Every guide of ``guides.GUIDES``
    fits whose s may be discrete. The default is q(z|x) q(s|x), ``bayes`` is the guide of
    VaDE. Labels are the prior of s, as in :class:`GMMVAE`.

    It departs from Dilokthanakul et al. in having no noise w below the mixture, and from VaDE
    (whose model this is) in starting from random weights and in accepting labels.

    Args:
        x_shape, components, latent_dim, network, likelihood, options: as for :class:`GMMVAE`.
        guide: called with this model, returns the posterior.
        label_eps, learn_prior, class_prior, covariance: as for :class:`GMMVAE`.

    References:
        Jiang et al. 2017, arXiv:1611.05148; Dilokthanakul et al. 2016, arXiv:1611.02648.
    """

    search_space: ClassVar[SearchSpace] = MIXTURE
    relaxed = False
    decodes_s = False

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        guide: Callable[["GMMVAE"], nn.Module] = MeanFieldGuide,
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
            temperature=1.0,
            prior_temperature=1.0,
            label_eps=label_eps,
            learn_prior=learn_prior,
            class_prior=class_prior,
            covariance=covariance,
            options=options,
        )

    @property
    def scheduled(self) -> dict[str, Tensor]:
        """Nothing: a discrete s has no temperature."""
        return {}
