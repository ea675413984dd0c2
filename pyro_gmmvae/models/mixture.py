"""p(z|s) and p(s) of the Gaussian-mixture models."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import OneHotCategorical, TorchDistribution
from torch import Tensor, nn

from pyro_gmmvae.distributions import (
    Concrete,
    FullGaussianProduct,
    GaussianProduct,
    positive_scale,
    positive_tril,
)
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.objectives.soft_labels import SoftLabels, softened

# Adam moves all parameters at one pace, which is slow for log pi: the weight of a component that
# empties has to fall far in the few hundred steps of a small fit
PRIOR_PACE = 10.0


class Mixture(nn.Module, ABC):
    """p(s) = pi, and p(z|s) as a product of K Gaussians; a label y changes pi into pi_y.

    Args:
        K: components.
        d: size of z.
        learn_prior: learn pi instead of keeping it fixed.
        class_prior: pi, or its initial value where it is learned, K positive numbers; None: flat.
        label_eps: probability that pi_y leaves to the classes other than y.
        prior_temperature: of p(s), where it is a Concrete.
    """

    prior_logits: Tensor
    label_logits: Tensor
    prior_temperature: Tensor

    def __init__(
        self,
        K: int,
        d: int,
        *,
        learn_prior: bool = False,
        class_prior: Sequence[float] | None = None,
        label_eps: float = 1e-3,
        prior_temperature: float = 0.5,
    ) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.randn(K, d))
        logits = _prior_logits(K, class_prior)
        self.register_buffer("prior_logits", logits)
        self.prior_offsets = nn.Parameter(torch.zeros(K)) if learn_prior else None
        self.register_buffer("label_logits", _label_logits(K, label_eps))
        self.label_eps = label_eps
        self.soft_labels: SoftLabels | None = None
        self.register_buffer("prior_temperature", torch.tensor(prior_temperature))

    @property
    def log_prior(self) -> Tensor:
        """(K,) log pi, unnormalized where it is learned."""
        if self.prior_offsets is None:
            return self.prior_logits
        return self.prior_logits + PRIOR_PACE * self.prior_offsets

    @abstractmethod
    def forward(self, s: Tensor) -> GaussianProduct:
        """p(z|s) for s (..., K) on the simplex: event shape (d,)."""

    @abstractmethod
    def log_densities(self, loc: Tensor, scale: Tensor) -> Tensor:
        """E[log p(z|s = i)] for z ~ N(loc, scale^2), (B, K), in nats."""

    def prior(self, rows: int, y: Tensor | None, *, relaxed: bool) -> TorchDistribution:
        """p(s), batch shape (rows,): the flat or learned pi, and pi_y where y >= 0.

        A Concrete, or the one-hot Categorical of the same weights, its limit. pi_y of a soft label
        is its pi (see :meth:`set_soft_labels`).
        """
        logits = self.log_prior.expand(rows, len(self.prior_logits))
        if y is not None:
            soft = self.soft_labels
            label = y if soft is None else soft.classes(y)
            given = self.label_logits[label.clamp_min(0)]
            logits = torch.where((label >= 0).unsqueeze(-1), given, logits)
            logits = logits if soft is None else soft(y, logits)
        if relaxed:
            return Concrete(self.prior_temperature, logits=logits)
        return OneHotCategorical(logits=logits)

    def set_soft_labels(self, pi: Tensor) -> None:
        """Set the prior of rows with the soft labels y = K + r to pi (R, K), softened."""
        logits = softened(pi, self.label_eps).log()
        self.soft_labels = SoftLabels(logits.to(self.label_logits))

    def class_scores(self, loc: Tensor, scale: Tensor) -> Tensor:
        """log pi_i + E[log p(z|s = i)] for z ~ N(loc, scale^2), (B, K), in nats."""
        return self.log_prior + self.log_densities(loc, scale)


class DiagonalMixture(Mixture):
    """p(z|s) = prod_i N(z; loc_i, scale_i^2)^(s_i) / const."""

    def __init__(self, K: int, d: int, **of_prior: Any) -> None:
        super().__init__(K, d, **of_prior)
        self.raw_scale = nn.Parameter(torch.zeros(K, d))

    def forward(self, s: Tensor) -> GaussianProduct:
        return GaussianProduct(s, self.loc, positive_scale(self.raw_scale))

    def log_densities(self, loc: Tensor, scale: Tensor) -> Tensor:
        precision = positive_scale(self.raw_scale).square().reciprocal()
        # sum_d P_i ((loc - loc_i)^2 + scale^2), without a (B, K, d) tensor
        squares = (
            (loc.square() + scale.square()) @ precision.T
            - 2 * loc @ (precision * self.loc).T
            + (precision * self.loc.square()).sum(-1)
        )
        log_scales = 0.5 * (precision.log() - math.log(2 * math.pi)).sum(-1)
        return log_scales - 0.5 * squares


class FullMixture(Mixture):
    """p(z|s) = prod_i N(z; loc_i, P_i^-1)^(s_i) / const, P_i = L_i L_i^T: d (d + 1) / 2 numbers."""

    def __init__(self, K: int, d: int, **of_prior: Any) -> None:
        super().__init__(K, d, **of_prior)
        self.raw_tril = nn.Parameter(torch.zeros(K, d, d))

    def forward(self, s: Tensor) -> GaussianProduct:
        return FullGaussianProduct(s, self.loc, positive_tril(self.raw_tril))

    def log_densities(self, loc: Tensor, scale: Tensor) -> Tensor:
        tril = positive_tril(self.raw_tril)
        # |L_i^T (loc - loc_i)|^2 and tr(P_i diag(scale^2)), with L_i^T e = e^T L_i
        offsets = torch.einsum("bd,kde->bke", loc, tril)
        offsets = offsets - torch.einsum("kd,kde->ke", self.loc, tril)
        spread = scale.square() @ tril.square().sum(-1).T
        log_det = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * self.loc.shape[-1] * math.log(2 * math.pi)
        return log_det - constant - 0.5 * (offsets.square().sum(-1) + spread)


COVARIANCES: dict[str, type[Mixture]] = {"diagonal": DiagonalMixture, "full": FullMixture}


def build_mixture(covariance: str, K: int, d: int, **of_prior: Any) -> Mixture:
    """Build a mixture by the name of its covariances.

    Raises:
        GMMVAEError: an unknown name.
    """
    if covariance not in COVARIANCES:
        raise unknown_name("covariance", covariance, list(COVARIANCES))
    return COVARIANCES[covariance](K, d, **of_prior)


def _prior_logits(K: int, class_prior: Sequence[float] | None) -> Tensor:
    """(K,) log pi."""
    if class_prior is None:
        return torch.full((K,), -math.log(K))
    if len(class_prior) != K or not all(0 < p < math.inf for p in class_prior):
        raise GMMVAEError(
            f"class_prior needs a positive number for each of the {K} components, and has "
            f"{', '.join(f'{p:g}' for p in class_prior) or 'none'}"
        )
    weights = torch.tensor(class_prior, dtype=torch.get_default_dtype())
    return (weights / weights.sum()).log()


def _label_logits(K: int, eps: float) -> Tensor:
    """(K, K): row y is log pi_y, with 1 - eps on y and eps shared by the others."""
    if K == 1:
        return torch.zeros(1, 1)
    others = torch.full((K, K), math.log(eps / (K - 1)))
    return others.fill_diagonal_(math.log1p(-eps))
