"""The normalized product of full-covariance Gaussians raised to weights."""

import math
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Independent, constraints, register_kl

from pyro_gmmvae.distributions.gaussian_product import GaussianProduct, _independent_normal


class FullGaussianProduct(GaussianProduct):
    """One Gaussian over z, the product of K full-covariance Gaussians raised to weights s::

        p(z) proportional to prod_i N(z; loc_i, P_i^-1)^(s_i),     P_i = L_i L_i^T

        P    = sum_i s_i P_i                                       (precisions are summed)
        mean = P^-1 sum_i s_i P_i loc_i

    At a vertex of the simplex it is N(loc_i, P_i^-1); with diagonal L_i it is the
    :class:`GaussianProduct` of scales 1 / L_i. Weights need not sum to 1.

    P is factored once, in the constructor, and its values are not checked. Where it is nearly
    singular in the numeric type (in float32, scaled to a unit diagonal, a condition number above
    1e7), results are silently wrong: strictly lower entries of L_i of several times its diagonal
    cause that.

    Args:
        weights: ``(..., K)``, non-negative, with a positive sum.
        loc: ``(..., K, d)`` or ``(K, d)``, the components' means.
        precision_tril: ``(..., K, d, d)`` or ``(K, d, d)``, the components' L_i: lower
            triangular with positive diagonals.

    Shapes:
        ``batch_shape`` is ``(...)``, ``event_shape`` is ``(d,)``; log-densities are in nats.
        ``loc`` and ``precision_tril`` are the components'; ``mean``, ``precision_matrix`` and
        ``stddev`` (the marginal one) the product's.

    Raises:
        ValueError: if K, d or the batches disagree, or (validated) out of range.

    Reference:
        Products of experts: Hinton 2002. KL of two Gaussians: Bishop 2006, exercise 2.13.

    Example:
        >>> weights = torch.tensor([0.5, 0.5])
        >>> tril = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
        >>> FullGaussianProduct(weights, torch.zeros(2, 2), tril).precision_matrix
        tensor([[1.0000, 0.5000],
                [0.5000, 1.5000]])
    """

    arg_constraints = {  # noqa: RUF012 - torch's own protocol
        "weights": constraints.independent(constraints.nonnegative, 1),
        "loc": constraints.independent(constraints.real, 2),
        "precision_tril": constraints.independent(constraints.lower_cholesky, 1),
    }
    precision_tril: Tensor
    _tril: Tensor

    def __init__(
        self,
        weights: Tensor,
        loc: Tensor,
        precision_tril: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        batch_shape = _batch_shape(weights, loc, precision_tril)
        self.weights, self.loc, self.precision_tril = weights, loc, precision_tril
        mean, tril = _mean_and_tril(weights, loc, precision_tril)
        d = loc.shape[-1]
        self._mean, self._tril = mean.expand(*batch_shape, d), tril.expand(*batch_shape, d, d)
        # skips GaussianProduct's constructor, which computes the moments of diagonal Gaussians
        super(GaussianProduct, self).__init__(batch_shape, Size((d,)), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "FullGaussianProduct":
        new = self._get_checked_instance(FullGaussianProduct, _instance)
        batch_shape = Size(batch_shape)
        new.weights = self.weights.expand(batch_shape + self.weights.shape[-1:])
        new.loc = self.loc.expand(batch_shape + self.loc.shape[-2:])
        new.precision_tril = self.precision_tril.expand(
            batch_shape + self.precision_tril.shape[-3:]
        )
        new._mean = self._mean.expand(batch_shape + self.event_shape)
        new._tril = self._tril.expand(batch_shape + self._tril.shape[-2:])
        super(GaussianProduct, new).__init__(batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def precision(self) -> Tensor:
        """Not defined: neither diag(P) nor 1 / variance is the precision of a diagonal Gaussian."""
        raise AttributeError(
            "a FullGaussianProduct has no vector of precisions: use precision_matrix, or variance"
        )

    @property
    def precision_matrix(self) -> Tensor:
        """P, the inverse of the product's covariance, ``batch_shape + (d, d)``."""
        return self._tril @ self._tril.mT

    @property
    def covariance_matrix(self) -> Tensor:
        """P^-1, ``batch_shape + (d, d)``."""
        return torch.cholesky_inverse(self._tril)

    @property
    def variance(self) -> Tensor:
        """Marginal variances, the diagonal of P^-1, ``batch_shape + (d,)``."""
        identity = torch.eye(self._tril.shape[-1], dtype=self._tril.dtype, device=self._tril.device)
        inverse = torch.linalg.solve_triangular(self._tril, identity, upper=False)
        return inverse.square().sum(-2)

    @property
    def stddev(self) -> Tensor:
        """Marginal standard deviations, ``batch_shape + (d,)``."""
        return self.variance.sqrt()

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - Size is immutable
        """Reparameterized draws of z, mean + L^-T eps, ``sample_shape + batch_shape + (d,)``."""
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, dtype=self._mean.dtype, device=self._mean.device)
        return self._mean + _solve(self._tril.mT, noise, upper=True)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z) in nats, ``batch_shape``."""
        if self._validate_args:
            self._validate_sample(value)
        squared = _distance(self._tril, value - self._mean)
        return 0.5 * (_logdet(self._tril) - squared - value.shape[-1] * math.log(2 * math.pi))

    def entropy(self) -> Tensor:
        """Differential entropy in nats, ``batch_shape``."""
        d = self._mean.shape[-1]
        return 0.5 * (d * (1 + math.log(2 * math.pi)) - _logdet(self._tril))


def _batch_shape(weights: Tensor, loc: Tensor, precision_tril: Tensor) -> Size:
    """The batch that the arguments broadcast to; refuses shapes that do not fit together."""
    found = (
        f"weights {tuple(weights.shape)}, loc {tuple(loc.shape)}, "
        f"precision_tril {tuple(precision_tril.shape)}"
    )
    if weights.dim() < 1 or loc.dim() < 2 or precision_tril.dim() < 3:
        raise ValueError(
            "weights must be (..., K), loc (..., K, d) and precision_tril (..., K, d, d); "
            f"got {found}"
        )
    K, d = loc.shape[-2:]
    if weights.shape[-1] != K or precision_tril.shape[-3:] != (K, d, d):
        raise ValueError(f"K or d disagree: {found}")
    try:
        return torch.broadcast_shapes(weights.shape[:-1], loc.shape[:-2], precision_tril.shape[:-3])
    except RuntimeError:
        raise ValueError(f"batch shapes disagree: {found}") from None


def _mean_and_tril(weights: Tensor, loc: Tensor, precision_tril: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(..., d)`` and lower Cholesky factor of the precision ``(..., d, d)``."""
    precisions = precision_tril @ precision_tril.mT
    # einsum sums over K as a matrix product: shared components are never repeated for the batch
    shifts = torch.einsum("...kij,...kj->...ki", precisions, loc)
    shift = torch.einsum("...k,...ki->...i", weights, shifts)
    precision = torch.einsum("...k,...kij->...ij", weights, precisions)
    # unchecked: an error check reads values, which do not exist while a step is traced
    tril, _ = torch.linalg.cholesky_ex(precision, check_errors=False)
    return _solve(tril.mT, _solve(tril, shift, upper=False), upper=True), tril


def _solve(triangular: Tensor, vector: Tensor, *, upper: bool) -> Tensor:
    """triangular^-1 vector, for ``(..., d, d)`` and ``(..., d)``."""
    columns = vector.unsqueeze(-1)
    return torch.linalg.solve_triangular(triangular, columns, upper=upper).squeeze(-1)


def _distance(tril: Tensor, difference: Tensor) -> Tensor:
    """|L^T difference|^2, the squared Mahalanobis distance, ``(...)``."""
    return torch.einsum("...ij,...i->...j", tril, difference).square().sum(-1)


def _logdet(tril: Tensor) -> Tensor:
    """log det(L L^T), ``(...)``."""
    return 2 * tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _kl_full_diagonal(q: FullGaussianProduct, p_mean: Tensor, p_precision: Tensor) -> Tensor:
    """KL(q || N(p_mean, 1 / p_precision)): a diagonal p needs only the marginal variances of q."""
    trace = (p_precision * q.variance).sum(-1)
    distance = ((q.mean - p_mean).square() * p_precision).sum(-1)
    logdets = _logdet(q._tril) - p_precision.log().sum(-1)
    return 0.5 * (trace + distance - p_precision.shape[-1] + logdets)


def _kl_diagonal_full(q_mean: Tensor, q_precision: Tensor, p: FullGaussianProduct) -> Tensor:
    """KL(N(q_mean, 1 / q_precision) || p): uses diag(P), without an inverse::

    0.5 (sum_j P_jj / q_precision_j + |L^T (q_mean - mean)|^2 - d
         - logdet P + sum_j log q_precision_j)
    """
    trace = (p._tril.square().sum(-1) / q_precision).sum(-1)
    distance = _distance(p._tril, q_mean - p.mean)
    logdets = q_precision.log().sum(-1) - _logdet(p._tril)
    return 0.5 * (trace + distance - q_precision.shape[-1] + logdets)


# torch takes the nearest registered base class of each side: without all five of these, a
# FullGaussianProduct would get the diagonal formulas of GaussianProduct
@register_kl(FullGaussianProduct, FullGaussianProduct)
def _kl_full_full(q: FullGaussianProduct, p: FullGaussianProduct) -> Tensor:
    # trace(P_p P_q^-1) = |L_q^-1 L_p|^2
    ratio = torch.linalg.solve_triangular(q._tril, p._tril, upper=False)
    trace = ratio.square().sum((-2, -1))
    distance = _distance(p._tril, q.mean - p.mean)
    return 0.5 * (trace + distance - ratio.shape[-1] + _logdet(q._tril) - _logdet(p._tril))


@register_kl(FullGaussianProduct, GaussianProduct)
def _kl_full_product(q: FullGaussianProduct, p: GaussianProduct) -> Tensor:
    return _kl_full_diagonal(q, p.mean, p.precision)


@register_kl(GaussianProduct, FullGaussianProduct)
def _kl_product_full(q: GaussianProduct, p: FullGaussianProduct) -> Tensor:
    return _kl_diagonal_full(q.mean, q.precision, p)


@register_kl(FullGaussianProduct, Independent)
def _kl_full_normal(q: FullGaussianProduct, p: Independent) -> Tensor:
    normal = _independent_normal(p)
    return _kl_full_diagonal(q, normal.loc, normal.scale.square().reciprocal())


@register_kl(Independent, FullGaussianProduct)
def _kl_normal_full(q: Independent, p: FullGaussianProduct) -> Tensor:
    normal = _independent_normal(q)
    return _kl_diagonal_full(normal.loc, normal.scale.square().reciprocal(), p)
