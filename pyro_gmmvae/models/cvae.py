"""The conditional variational autoencoder: the class is given."""

from typing import ClassVar

import pyro
import torch
from pyro import poutine
from pyro.distributions import Normal
from torch import Tensor

from pyro_gmmvae.config import COMMON, SearchSpace
from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.models.checks import check_sizes
from pyro_gmmvae.models.labels import standard_normal, vertices
from pyro_gmmvae.models.observation import Observation, feature_encoder
from pyro_gmmvae.models.one_hot import OneHotClass
from pyro_gmmvae.networks import JointMLP, NetworkOptions
from pyro_gmmvae.param_store import register


class CVAE(OneHotClass):
    """Conditional variational autoencoder::

        p(x, z|y) = p(x|z,y) p(z)

        p(z)      N(0, I)                       z (B, d)
        p(x|z,y)  likelihood of decoder(z, y)   x (B, *x_shape)

        q(z|x,y)  N(loc(features(x), y), scale(features(x), y)^2)

    y is given, never inferred: rows without a label carry no term (they are masked, and count
    as zeros in the means that training reports), and the bound is one on log p(x|y). A row is
    classified by Bayes' rule with the ELBO, at z's mean, in the place of log p(x|y).

    It departs from Sohn et al. 2015 in a prior of z that does not see y, as in Doersch.

    Args:
        x_shape: shape of one observation, (D,) or (channels, height, width).
        components: number of classes.
        latent_dim: d, the size of z.
        network, likelihood, options: as for :class:`GMMVAE`.

    References:
        Doersch 2016, arXiv:1606.05908; Sohn, Lee, Yan 2015.
    """

    latents = ("z",)
    label_site = None
    needs_labels = True
    given_class = True
    search_space: ClassVar[SearchSpace] = COMMON

    def __init__(
        self,
        x_shape: tuple[int, ...],
        components: int,
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__()
        check_sizes(components=components, latent_dim=latent_dim)
        self.x_shape, self.components, self.latent_dim = tuple(x_shape), components, latent_dim
        options, d = options or NetworkOptions(), latent_dim
        self.encoder, features = feature_encoder(network, self.x_shape, options)
        self.to_z = JointMLP([features, components], [d, d], options)
        self.observation = Observation(d + components, self.x_shape, network, likelihood, options)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, z|y) for rows x (B, *x_shape) with labels y (B,); rows with -1 are left out."""
        register(observation=self.observation)
        given, known = self._classes(x, y)
        with pyro.plate("rows", len(x)), poutine.mask(mask=known):
            z = pyro.sample("z", standard_normal((len(x), self.latent_dim), x))
            pyro.sample("x", self.observation(z, given), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(z|x,y)."""
        register(encoder=self.encoder, to_z=self.to_z)
        given, known = self._classes(x, y)
        loc, scale = self.z_given(x, given)
        with pyro.plate("rows", len(x)), poutine.mask(mask=known):
            pyro.sample("z", Normal(loc, scale).to_event(1))

    def _classes(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """One-hot classes (B, K), the first where none is known, and where one is (B,)."""
        if y is None:
            y = torch.full((len(x),), -1, device=x.device)
        return vertices(y.clamp_min(0), x.new_empty(0, self.components)), y >= 0

    def z_given(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """loc and scale of q(z|x,y) for one-hot classes s (..., K)."""
        loc, raw_scale = self.to_z(self.encoder(x), s)
        return loc, positive_scale(raw_scale)

    def classify(self, x: Tensor) -> Tensor:
        """log p(y|x), (B, K), in nats: Bayes' rule, with the ELBO at z's mean for log p(x|y)."""
        each = torch.eye(self.components, dtype=x.dtype, device=x.device).unsqueeze(1)
        loc, scale = self.z_given(x, each)
        prior = standard_normal(tuple(loc.shape), x)
        kl = torch.distributions.kl_divergence(Normal(loc, scale).to_event(1), prior)
        bound = self.observation(loc, each).log_prob(x) - kl
        return bound.T.log_softmax(-1)

    def embed(self, x: Tensor) -> Tensor:
        """Mean of q(z|x,y), (B, d), at the likeliest class."""
        likeliest = self.classify(x).argmax(-1)
        return self.z_given(x, vertices(likeliest, x.new_empty(0, self.components)))[0]
