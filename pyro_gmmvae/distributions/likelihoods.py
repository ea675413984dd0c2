"""p(x|z,s): likelihoods of an observation with missing entries, and links to positive scales."""

import math
from typing import Any

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


class _Likelihood(TorchDistribution):
    """Independent entries over the last ``event_dim`` axes, summed where ``mask`` is true."""

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

    def _expand(self, new: "_Likelihood", batch_shape: Any, names: tuple[str, ...]) -> Any:
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


class BernoulliLikelihood(_Likelihood):
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

    def expand(self, batch_shape: Any, _instance: Any = None) -> "BernoulliLikelihood":
        new = self._get_checked_instance(BernoulliLikelihood, _instance)
        return self._expand(new, batch_shape, ("logits",))

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


class NormalLikelihood(_Likelihood):
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
