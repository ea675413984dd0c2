"""p(x|z,s): likelihoods of an observation with missing entries, and links to positive scales."""

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

SMALLEST_SCALE = 1e-4
_UNIT_OFFSET = math.log(math.expm1(1.0))


def positive_scale(raw: Tensor) -> Tensor:
    """scale = softplus(raw + log(e - 1)) + 1e-4: about 1 at raw = 0, never 0.

    Softplus grows linearly, so that one large network output does not let a scale explode as an
    exponential would; the lower bound keeps precisions (1 / scale^2) below 1e8.

    Args:
        raw: unconstrained numbers of any shape.

    Returns:
        Standard deviations (not variances) of the same shape.
    """
    return torch.nn.functional.softplus(raw + _UNIT_OFFSET) + SMALLEST_SCALE


def raw_of_scale(scale: float) -> float:
    """The number that :func:`positive_scale` maps to ``scale``, which is above 1e-4."""
    return math.log(math.expm1(scale - SMALLEST_SCALE)) - _UNIT_OFFSET


def positive_tril(raw: Tensor) -> Tensor:
    """Lower-triangular L with L_jj = 1 / positive_scale(raw_jj): the identity at raw = 0.

    L is a factor of a precision, L L^T, so that the lower bound of scales bounds its diagonal by
    1e4. The strictly lower part is that of ``raw``; entries above the diagonal are not read.

    Args:
        raw: unconstrained numbers, ``(..., d, d)``.

    Returns:
        Lower-triangular matrices with positive diagonals, ``(..., d, d)``.
    """
    diagonal = positive_scale(raw.diagonal(dim1=-2, dim2=-1)).reciprocal()
    return raw.tril(-1) + torch.diag_embed(diagonal)


class BaseLikelihood(TorchDistribution):
    """Independent entries over the last ``event_dim`` axes, summed where ``mask`` is true."""

    initial_scale: ClassVar[float] = 1 + SMALLEST_SCALE
    """Of a scale that is learned for each entry; this one is that of the raw number 0."""
    has_rsample = False
    mask_of_entries: Tensor | None
    nan_is_missing: bool

    def _set_shapes(
        self, parameter: Tensor, mask: Tensor | None, event_dim: int, nan_is_missing: bool
    ) -> None:
        self.mask_of_entries, self.nan_is_missing = mask, nan_is_missing
        split = parameter.dim() - event_dim
        # not validated: validation would refuse a NaN in an entry that is missing
        super().__init__(parameter.shape[:split], parameter.shape[split:], validate_args=False)

    def _expand(self, new: "BaseLikelihood", batch_shape: Any, names: tuple[str, ...]) -> Any:
        batch_shape = Size(batch_shape)
        shape = batch_shape + self.event_shape
        for name in names:
            setattr(new, name, getattr(self, name).expand(shape))
        mask = self.mask_of_entries
        new.mask_of_entries = None if mask is None else mask.expand(shape)
        new.nan_is_missing = self.nan_is_missing
        TorchDistribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        return new

    def _sum(self, log_probs: Tensor, observed: Tensor | None) -> Tensor:
        if observed is not None:
            log_probs = torch.where(observed, log_probs, 0.0)
        return log_probs.flatten(start_dim=log_probs.dim() - self.event_dim).sum(-1)

    def _observed(self, value: Tensor) -> tuple[Tensor, Tensor | None]:
        """The value with 0 for missing entries, so that gradients stay finite, and the mask of
        observed entries (None: all)."""
        observed = self.mask_of_entries
        if self.nan_is_missing:
            present = ~value.isnan()
            observed = present if observed is None else observed & present
        return (value, None) if observed is None else (torch.where(observed, value, 0.0), observed)


class LogitsLikelihood(BaseLikelihood):
    """Independent entries in [0, 1] on logits.

    Args:
        logits: ``batch_shape + event_shape``.
        mask: optional booleans that broadcast to ``logits``; entries that are false are
            missing and carry no term, also where the value is NaN.
        event_dim: number of trailing axes that form one observation.
        nan_is_missing: NaN in a value is missing, as if the mask were false there.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012
    support = constraints.unit_interval

    def __init__(
        self,
        logits: Tensor,
        mask: Tensor | None = None,
        event_dim: int = 1,
        nan_is_missing: bool = False,
    ) -> None:
        self.logits = logits
        self._set_shapes(logits, mask, event_dim, nan_is_missing)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "LogitsLikelihood":
        new: Any = self.__new__(type(self)) if _instance is None else _instance
        return self._expand(new, batch_shape, ("logits",))


class BernoulliLikelihood(LogitsLikelihood):
    """Independent Bernoulli entries on logits::

        log p(x) = sum_j m_j ( x_j log sigmoid(l_j) + (1 - x_j) log sigmoid(-l_j) )

    An x between 0 and 1 is accepted: the value is then the expected log-likelihood of a
    binary image whose pixels are 1 with probability x (not a bound on a density of x).

    Args:
        logits: ``batch_shape + event_shape``.
        mask: optional booleans that broadcast to ``logits``; entries that are false are
            missing and carry no term, also where the value is NaN.
        event_dim: number of trailing axes that form one observation.
        nan_is_missing: NaN in a value is missing, as if the mask were false there.
    """

    @property
    def mean(self) -> Tensor:
        return self.logits.sigmoid()

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 - self.mean)

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Binary draws, ``sample_shape + batch_shape + event_shape``."""
        return torch.bernoulli(self.mean.detach().expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, ``batch_shape``."""
        value, observed = self._observed(value)
        logits, value = torch.broadcast_tensors(self.logits, value)
        entropies = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, value, reduction="none"
        )
        return -self._sum(entropies, observed)


class BinomialLikelihood(LogitsLikelihood):
    """Independent counts k_j = n x_j of 0..n, on logits::

        log p(x) = sum_j m_j ( n x_j log sigmoid(l_j) + n (1 - x_j) log sigmoid(-l_j)
                               + log C(n, n x_j) )

    The binomial coefficient is one of Gamma functions, so that rows between the counts (images
    that were rotated, say) are accepted. The data itself is checked where it is read.

    Args:
        logits: ``batch_shape + event_shape``.
        mask, event_dim, nan_is_missing: as for :class:`BernoulliLikelihood`.
        count: n, the total count.
    """

    def __init__(
        self,
        logits: Tensor,
        mask: Tensor | None = None,
        event_dim: int = 1,
        nan_is_missing: bool = False,
        *,
        count: int,
    ) -> None:
        super().__init__(logits, mask, event_dim, nan_is_missing)
        self.count = count

    def expand(self, batch_shape: Any, _instance: Any = None) -> "BinomialLikelihood":
        new: Any = super().expand(batch_shape, _instance)
        new.count = self.count
        return new

    @property
    def mean(self) -> Tensor:
        # E[k] / n
        return self.logits.sigmoid()

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Draws of k / n, ``sample_shape + batch_shape + event_shape``."""
        probs = self.mean.detach().expand(self._extended_shape(sample_shape)).contiguous()
        return torch.binomial(torch.full_like(probs, self.count), probs) / self.count

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, ``batch_shape``."""
        value, observed = self._observed(value)
        # of the value alone: it is not repeated for each class that is summed out
        ones = (self.count * value).clamp(0, self.count)
        coefficients = math.lgamma(self.count + 1) - (
            torch.lgamma(ones + 1) + torch.lgamma(self.count - ones + 1)
        )
        logits, value = torch.broadcast_tensors(self.logits, value)
        entropies = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, value, reduction="none"
        )
        return self._sum(coefficients - self.count * entropies, observed)


class ContinuousBernoulliLikelihood(LogitsLikelihood):
    """Independent entries in [0, 1] with the density of the continuous Bernoulli, on logits::

        log p(x) = sum_j m_j ( x_j log sigmoid(l_j) + (1 - x_j) log sigmoid(-l_j) + log C(l_j) )

        C(l) = l / tanh(l / 2), 2 at l = 0

    Near l = 0 the normalizer, the mean and their gradients are series, which are exact to rounding
    where the closed forms cancel.

    Args:
        logits: ``batch_shape + event_shape``.
        mask, event_dim, nan_is_missing: as for :class:`BernoulliLikelihood`.

    Reference:
        Loaiza-Ganem, Cunningham 2019, arXiv:1907.06845.
    """

    @property
    def mean(self) -> Tensor:
        # 1 / (1 - exp(-l)) - 1 / l, 1/2 at l = 0
        small = self.logits.abs() < _SERIES
        safe = torch.where(small, 1.0, self.logits)
        near = torch.where(small, self.logits, 0.0)
        series = near * _polynomial(near.square(), (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600))
        # beyond 80 the exponential is 0 beside 1; its gradient could overflow
        closed = -1 / torch.expm1(-safe.clamp(-80, 80)) - 1 / safe
        return torch.where(small, 0.5 + series, closed)

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Draws in [0, 1] by the inverse of the distribution function."""
        logits = self.logits.detach().expand(self._extended_shape(sample_shape))
        uniform = torch.rand_like(logits)
        # of minus |l|, whose exponential can't overflow; the other sign is its mirror image
        rate = -logits.abs()
        flat = rate > -1e-6
        safe = torch.where(flat, -1.0, rate)
        x = torch.where(flat, uniform, torch.log1p(uniform * torch.expm1(safe)) / safe)
        return torch.where(logits > 0, 1 - x, x).clamp(0, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, a density in x, ``batch_shape``."""
        value, observed = self._observed(value)
        logits, value = torch.broadcast_tensors(self.logits, value)
        entropies = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, value, reduction="none"
        )
        return self._sum(_log_normalizer(logits) - entropies, observed)


# below it the closed forms of the continuous Bernoulli lose digits, above it their series do
_SERIES = 0.5


def _log_normalizer(logits: Tensor) -> Tensor:
    """log(l / tanh(l / 2)), elementwise."""
    small = logits.abs() < _SERIES
    large = torch.where(small, 1.0, logits).abs()
    # 2 x coth(x) at x = l / 2
    square = torch.where(small, logits / 2, 0.0).square()
    series = square * _polynomial(square, (1 / 3, -1 / 45, 2 / 945, -1 / 4725, 2 / 93555))
    return torch.where(
        small, math.log(2) + torch.log1p(series), large.log() - torch.tanh(large / 2).log()
    )


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """sum_i c_i x^i."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


class NormalLikelihood(BaseLikelihood):
    """Independent Normal entries: log p(x) = sum_j m_j log N(x_j; loc_j, scale_j^2).

    Args:
        loc: ``batch_shape + event_shape``.
        scale: standard deviations that broadcast to ``loc`` (the models learn them).
        mask: optional booleans that broadcast to ``loc``; entries that are false are missing
            and carry no term, whatever the value holds there (NaN included).
        event_dim: number of trailing axes that form one observation.
        nan_is_missing: NaN in a value is missing, as if the mask were false there.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012
    support = constraints.real

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        mask: Tensor | None = None,
        event_dim: int = 1,
        nan_is_missing: bool = False,
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self._set_shapes(self.loc, mask, event_dim, nan_is_missing)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "NormalLikelihood":
        new = self._get_checked_instance(NormalLikelihood, _instance)
        return self._expand(new, batch_shape, ("loc", "scale"))

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square()

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Draws, ``sample_shape + batch_shape + event_shape``."""
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return (self.loc + self.scale * noise).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, ``batch_shape``."""
        value, observed = self._observed(value)
        standard = (value - self.loc) / self.scale
        log_probs = -0.5 * standard.square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        return self._sum(log_probs, observed)
