"""A Gaussian product with K heads of low rank, for large K."""

import math

import pyro
import torch
from pyro.distributions import Normal
from torch import Tensor, nn

from pyro_gmmvae.errors import check_range
from pyro_gmmvae.guides.base import MixtureGuide, MixtureModel
from pyro_gmmvae.param_store import register

SMALLEST_PRECISION = 1e-4


class LowRankGuide(MixtureGuide):
    """The product guide with heads of rank R in their natural parameters::

        1 / scale_i(x)^2        = sum_r A_ir precision_r(x)   A (K, R), precision_r (B, d), >= 0
        loc_i(x) / scale_i(x)^2 = sum_r C_ir shift_r(x)       C (K, R), shift_r (B, d)
        q(z|s,x)  prod_i N(z; loc_i(x), scale_i(x)^2)^(s_i) / const
                = N with precision (s A) precision(x), mean (s C) shift(x) / precision

    The product of Gaussians averages natural parameters, so s multiplies the factors and the
    heads are never formed: O(B K + B R d) memory instead of O(B K d).

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior.
        rank: R.
    """

    name = "low-rank"

    def __init__(self, model: MixtureModel, *, rank: int = 4) -> None:
        super().__init__(model)
        check_range("rank", rank, rank >= 1, "at least 1")
        self.rank = rank
        self.encoder = model.build_encoder(self.components + 2 * rank * self.latent_dim)
        self.mixing_precision = nn.Parameter(torch.randn(self.components, rank))
        self.mixing_shift = nn.Parameter(torch.randn(self.components, rank) / math.sqrt(rank))

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        register(guide=self)
        logits, precision, shift = self.factors(x)
        with pyro.plate("rows", len(x)):
            s = self.sample_s(logits)
            loc, scale = self.z_given(s, precision, shift)
            pyro.sample("z", Normal(loc, scale).to_event(1))

    def factors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """logits (B, K), precision (B, R, d) >= 0 and shift (B, R, d)."""
        size, shape = self.rank * self.latent_dim, (-1, self.rank, self.latent_dim)
        logits, raw, shift = self.encoder(x).split([self.components, size, size], -1)
        return logits, torch.nn.functional.softplus(raw).view(shape), shift.view(shape)

    def z_given(self, s: Tensor, precision: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """loc and scale of q(z|s,x), both (..., d), for s (..., K)."""
        share = self.mixing_precision.softmax(-1)  # positive, as precisions have to be
        # (..., 1, R) x (B, R, d): the factors of a row, mixed by its s
        total = ((s @ share).unsqueeze(-2) @ precision).squeeze(-2) + SMALLEST_PRECISION
        mean = ((s @ self.mixing_shift).unsqueeze(-2) @ shift).squeeze(-2) / total
        return mean, total.rsqrt()

    def class_logits(self, x: Tensor) -> Tensor:
        return self.factors(x)[0]

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d), at s = softmax(logits(x))."""
        logits, precision, shift = self.factors(x)
        return self.z_given(logits.softmax(-1), precision, shift)[0]
