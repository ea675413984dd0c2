"""Ladder VAE: two layers of Gaussian latents, the posterior of the lower one with its prior."""

import pyro
import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor

from pyro_gmmvae.distributions import GaussianProduct, positive_scale
from pyro_gmmvae.errors import check_range
from pyro_gmmvae.models.base import LatentModel
from pyro_gmmvae.networks import JointMLP, NetworkOptions
from pyro_gmmvae.param_store import register


class LVAE(LatentModel):
    """Ladder variational autoencoder of two layers::

        p(x, h, z) = p(x|h) p(h|z) p(z)

        p(z)    N(0, I)                     z (B, d), the upper layer
        p(h|z)  N(loc(z), scale(z)^2)       h (B, lower_dim)
        p(x|h)  likelihood of decoder(h)    x (B, *x_shape)

        q(z|x)    N(loc(features(x)), scale(features(x))^2)
        q(h|z,x)  p(h|z) N(h; loc(features(x)), scale(features(x))^2) / const

    The product of Gaussians adds precisions: where x says little about an entry of h, its
    posterior is p(h|z), and the upper layer is used. With ``top_down=false`` it is the VAE of two
    layers, with q(h|x) = N(loc(features(x)), scale(features(x))^2) and q(z|h) = N(loc(h),
    scale(h)^2), whose upper layer mostly carries no information.

    It departs from Sønderby et al. in two layers instead of five, and in that batch normalization
    and the warm-up of the KL terms (``kl_z=0:1:2000``, ``kl_h=0:1:2000``) are the configuration's.

    Args:
        x_shape, network, likelihood, options: as for :class:`GMMVAE`.
        latent_dim: d, the size of z.
        lower_dim: the size of h; none: 2 d.
        top_down: take q(h|z,x) as above; false: the VAE of two layers, whose objective is
            ``trace`` (or ``iwae``).

    Reference:
        Sønderby et al. 2016, arXiv:1602.02282.
    """

    latents = ("z", "h")

    def __init__(
        self,
        x_shape: tuple[int, ...],
        latent_dim: int,
        *,
        network: str = "mlp",
        likelihood: str = "bernoulli",
        lower_dim: int | None = None,
        top_down: bool = True,
        options: NetworkOptions | None = None,
    ) -> None:
        super().__init__(x_shape, latent_dim=latent_dim, network=network, options=options)
        d, lower = latent_dim, 2 * latent_dim if lower_dim is None else lower_dim
        check_range("lower_dim", lower, lower >= 1, "at least 1")
        self.top_down, self.latents = top_down, ("z", "h") if top_down else ("h", "z")
        self.encoder, width = self.build_features()
        self.to_h = JointMLP([width], [lower, lower], self.options)
        self.to_z = JointMLP([width if top_down else lower], [d, d], self.options)
        self.prior_of_h = JointMLP([d], [lower, lower], self.options)
        self.observation = self.build_observation(lower, likelihood)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(x, h, z) for rows x (B, *x_shape)."""
        register(prior_of_h=self.prior_of_h, observation=self.observation)
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", self.prior_of_z(x.new_zeros(len(x), 0)))
            h = pyro.sample("h", _normal(*self.prior_of_h(z)))
            pyro.sample("x", self.observation(h, given=x), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(h, z|x)."""
        register(encoder=self.encoder, to_h=self.to_h, to_z=self.to_z)
        features = self.encoder(x)
        from_x = _normal(*self.to_h(features))
        with pyro.plate("rows", len(x)):
            if not self.top_down:
                h = pyro.sample("h", from_x)
                pyro.sample("z", _normal(*self.to_z(h)))
                return
            z = pyro.sample("z", _normal(*self.to_z(features)))
            p, q = _normal(*self.prior_of_h(z)).base_dist, from_x.base_dist
            # z may have an axis of draws in front of the rows
            loc = torch.stack(torch.broadcast_tensors(p.loc, q.loc), -2)
            scale = torch.stack(torch.broadcast_tensors(p.scale, q.scale), -2)
            product = GaussianProduct(loc.new_ones(*loc.shape[:-2], 2), loc, scale)
            pyro.sample("h", Normal(product.mean, product.stddev).to_event(1))

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d), with top_down=false at the mean of h."""
        features = self.encoder(x)
        return self.to_z(features if self.top_down else self.to_h(features)[0])[0]

    def observe(
        self, z: Tensor, s: Tensor | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|h) at the mean of p(h|z), for z (B, d)."""
        return self.observation(self.prior_of_h(z)[0], given=given)

    def observe_draws(
        self, n: int, label: int | None = None, given: Tensor | None = None
    ) -> TorchDistribution:
        """p(x|h) at n draws h ~ p(h|z) with z ~ N(0, I); the model has no class for ``label``."""
        s = self.draw_class(n) if label is None else self.one_hot(label, n)
        z = self.prior_of_z(s).sample()
        return self.observation(_normal(*self.prior_of_h(z)).sample(), given=given)


def _normal(loc: Tensor, raw_scale: Tensor) -> Normal:
    return Normal(loc, positive_scale(raw_scale)).to_event(1)
