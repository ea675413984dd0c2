"""The Gaussian-mixture variational autoencoder."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import pyro
from torch import Tensor, nn

from pyro_gmmvae.config import MIXTURE, RELAXED, SearchSpace
from pyro_gmmvae.guides import ProductGuide
from pyro_gmmvae.models.checks import check_range, check_sizes
from pyro_gmmvae.models.mixture import MixtureVAE, build_mixture
from pyro_gmmvae.models.observation import Observation
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import register


class GMMVAE(MixtureVAE):
    """Gaussian-mixture VAE with a relaxed one-hot s::

        p(x, z, s) = p(x|z,s) p(z|s) p(s)

        p(s)      Concrete(pi_y, prior_temperature)            s (B, K)
        p(z|s)    prod_i N(z; loc_i, scale_i^2)^(s_i) / const  z (B, d)
        p(x|z,s)  likelihood of decoder(z, s)                  x (B, *x_shape)

    A label enters as the prior of s: pi_y holds ``1 - label_eps`` on class y and shares the
    rest; a row with y = -1 (or no y at all) gets pi, flat or learnt. Labelled and unlabelled
    rows mix freely in one batch. The posterior q(z,s|x) is ``self.guide``; assign another one
    (``model.guide = ConditionalGuide(model)``) to swap it. Under a guide whose s is discrete
    (``EnumeratedGuide``) p(s) is the Categorical of the same weights.

    Args:
        x_shape: shape of one observation, (D,) or (channels, height, width).
        components: K, at least the number of classes.
        latent_dim: d, the size of z.
        network: key of ``networks.NETWORKS`` for encoder and decoder.
        likelihood: "bernoulli" (x in [0, 1]) or "normal" (learnt scale).
        guide: called with this model, gives the posterior.
        temperature: of q(s|x); the guide holds it as a buffer that schedules can move.
        prior_temperature: of p(s); not above ``temperature`` is what works.
        label_eps: probability a labelled row's prior leaves to the other classes, in (0, 1).
        learn_prior: learn pi instead of keeping it as it is.
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

    relaxed = True
    search_space: ClassVar[SearchSpace] = {**MIXTURE, **RELAXED}

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
        super().__init__()
        check_sizes(components=components, latent_dim=latent_dim)
        check_range("temperature", temperature, temperature > 0, "positive")
        check_range("prior_temperature", prior_temperature, prior_temperature > 0, "positive")
        check_range("label_eps", label_eps, 0 < label_eps < 1, "between 0 and 1")
        self.x_shape, self.components, self.latent_dim = tuple(x_shape), components, latent_dim
        self.network, self.options = network, options or NetworkOptions()
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
        self.observation = Observation(
            latent_dim + components, self.x_shape, network, likelihood, self.options
        )
        self.guide = guide(self)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z, s) for rows x (B, *x_shape) and labels y (B,), -1 or None: unlabelled."""
        register(mixture=self.mixture, observation=self.observation)
        with pyro.plate("rows", len(x)):
            s = pyro.sample("s", self.prior(len(x), y))
            z = pyro.sample("z", self.mixture(s))
            pyro.sample("x", self.observation(z, s), obs=x)

    def decode(self, z: Tensor, s: Tensor) -> Tensor:
        """Mean of p(x|z,s), (B, *x_shape), for z (B, d) and s (B, K)."""
        return self.observation(z, s).mean

    @property
    def knobs(self) -> dict[str, Tensor]:
        """The scalars a schedule may move while training, as 0-dimensional buffers."""
        return {
            "temperature": self.guide.temperature,
            "prior_temperature": self.mixture.prior_temperature,
        }
