"""The normalized product of Gaussians raised to weights: p(z|s) of the mixture VAE."""

import math
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import Independent, Normal, constraints, register_kl


class GaussianProduct(TorchDistribution):
    """One Gaussian over z, the normalized product of K Gaussians raised to weights s::

        p(z) proportional to prod_i N(z; loc_i, scale_i^2)^(s_i)

        1 / stddev^2 = sum_i s_i / scale_i^2                      (precisions are summed)
        mean         = stddev^2 sum_i s_i loc_i / scale_i^2

    At a vertex of the simplex it is N(loc_i, scale_i^2). It is neither the sum-mixture
    sum_i s_i N(loc_i, scale_i^2) nor a Gaussian with averaged scales. Weights need not sum
    to 1: (1, 1) gives the ordinary product of two densities.

    Args:
        weights: ``(..., K)``, non-negative, with a positive sum.
        loc: ``(..., K, d)`` or ``(K, d)``, the components' means.
        scale: ``(..., K, d)`` or ``(K, d)``, their standard deviations, positive.

    Shapes:
        ``batch_shape`` is ``(...)``, ``event_shape`` is ``(d,)``; log-densities are in nats.
        ``loc`` and ``scale`` are the components'; ``mean`` and ``stddev`` the product's.

    Raises:
        ValueError: if K or d disagree between the arguments, or (validated) out of range.

    Reference:
        SSII 2020 (person identification from skeletons); products of experts: Hinton 2002.

    Example:
        >>> weights = torch.tensor([0.5, 0.5])
        >>> GaussianProduct(weights, torch.tensor([[0.0], [2.0]]), torch.ones(2, 1)).mean
        tensor([1.])
    """

    arg_constraints = {  # noqa: RUF012 - torch's own protocol
        "weights": constraints.independent(constraints.nonnegative, 1),
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, weights: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None
    ) -> None:
        if loc.dim() < 2 or scale.dim() < 2 or weights.dim() < 1:
            raise ValueError(
                "weights must be (..., K), loc and scale (..., K, d); got "
                f"{tuple(weights.shape)}, {tuple(loc.shape)}, {tuple(scale.shape)}"
            )
        if loc.shape[-2:] != scale.shape[-2:] or weights.shape[-1] != loc.shape[-2]:
            raise ValueError(
                f"K or d disagree: weights {tuple(weights.shape)}, loc {tuple(loc.shape)}, "
                f"scale {tuple(scale.shape)}"
            )
        self.weights, self.loc, self.scale = weights, loc, scale
        self._mean, self._precision = _moments(weights, loc, scale)
        super().__init__(self._mean.shape[:-1], self._mean.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "GaussianProduct":
        new = self._get_checked_instance(GaussianProduct, _instance)
        batch_shape = Size(batch_shape)
        shape = batch_shape + self.event_shape
        new.weights = self.weights.expand(batch_shape + self.weights.shape[-1:])
        new.loc = self.loc.expand(batch_shape + self.loc.shape[-2:])
        new.scale = self.scale.expand(batch_shape + self.scale.shape[-2:])
        new._mean, new._precision = self._mean.expand(shape), self._precision.expand(shape)
        super(GaussianProduct, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def precision(self) -> Tensor:
        """1 / variance of the product, ``batch_shape + (d,)``."""
        return self._precision

    @property
    def variance(self) -> Tensor:
        return self._precision.reciprocal()

    @property
    def stddev(self) -> Tensor:
        return self._precision.rsqrt()

    @property
    def covariance_matrix(self) -> Tensor:
        """Covariance of the product, ``batch_shape + (d, d)``."""
        return torch.diag_embed(self.variance)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - Size is immutable
        """Reparameterized draws of z, ``sample_shape + batch_shape + (d,)``."""
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, dtype=self._mean.dtype, device=self._mean.device)
        return self._mean + self.stddev * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, ``batch_shape``."""
        if self._validate_args:
            self._validate_sample(value)
        squared = (value - self._mean).square() * self._precision
        return 0.5 * (self._precision.log() - squared - math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, ``batch_shape``."""
        return 0.5 * (1 + math.log(2 * math.pi) - self._precision.log()).sum(-1)


def _moments(weights: Tensor, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and precision of the product, both ``(..., d)``."""
    precisions = scale.square().reciprocal()
    if loc.dim() == 2 and precisions.dim() == 2:
        # shared components: a matrix product, without a (batch, K, d) tensor
        precision = weights @ precisions
        return (weights @ (precisions * loc)) / precision, precision
    weighted = weights.unsqueeze(-1) * precisions
    precision = weighted.sum(-2)
    return (weighted * loc).sum(-2) / precision, precision


def _diagonal_kl(
    q_mean: Tensor, q_precision: Tensor, p_mean: Tensor, p_precision: Tensor
) -> Tensor:
    """KL( N(q) || N(p) ) in nats, summed over the last axis; written in precisions."""
    ratio = p_precision / q_precision
    distance = (q_mean - p_mean).square() * p_precision
    return 0.5 * (ratio - 1 - ratio.log() + distance).sum(-1)


def _independent_normal(p: Independent) -> Normal:
    if not isinstance(p.base_dist, Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError(f"no closed-form KL between a GaussianProduct and {p}")
    return p.base_dist


@register_kl(GaussianProduct, GaussianProduct)
def _kl_product_product(q: GaussianProduct, p: GaussianProduct) -> Tensor:
    return _diagonal_kl(q.mean, q.precision, p.mean, p.precision)


@register_kl(GaussianProduct, Independent)
def _kl_product_normal(q: GaussianProduct, p: Independent) -> Tensor:
    normal = _independent_normal(p)
    return _diagonal_kl(q.mean, q.precision, normal.loc, normal.scale.square().reciprocal())


@register_kl(Independent, GaussianProduct)
def _kl_normal_product(q: Independent, p: GaussianProduct) -> Tensor:
    normal = _independent_normal(q)
    return _diagonal_kl(normal.loc, normal.scale.square().reciprocal(), p.mean, p.precision)
