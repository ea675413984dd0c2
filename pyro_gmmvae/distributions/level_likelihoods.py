"""p(x|z,s) of levels, such as those of pixels, divided by the largest level."""

from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from pyro_gmmvae.distributions.likelihoods import BaseLikelihood


class CategoricalLikelihood(BaseLikelihood):
    """Independent levels k_j = (L - 1) x_j of 0..L-1, each with a probability of its own::

        log p(x) = sum_j m_j log softmax_k(l_kj) at k = k_j

    An x between two levels counts as the nearest one. The data itself is checked where it is read.

    Args:
        logits: ``batch_shape + (L,) + event_shape``.
        mask: optional booleans that broadcast to ``batch_shape + event_shape``; entries that are
            false are missing and carry no term.
        event_dim, nan_is_missing: as for :class:`BernoulliLikelihood`.
        levels: L, the number of levels.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012
    support = constraints.unit_interval

    def __init__(
        self,
        logits: Tensor,
        mask: Tensor | None = None,
        event_dim: int = 1,
        nan_is_missing: bool = False,
        *,
        levels: int,
    ) -> None:
        self.logits, self.levels = logits, levels
        self._set_shapes(logits.select(-1 - event_dim, 0), mask, event_dim, nan_is_missing)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "CategoricalLikelihood":
        new = self._get_checked_instance(CategoricalLikelihood, _instance)
        new.levels = self.levels
        new.logits = self.logits.expand(*batch_shape, self.levels, *self.event_shape)
        return self._expand(new, batch_shape, ())

    @property
    def _axis(self) -> int:
        """The axis of levels."""
        return -1 - self.event_dim

    @property
    def mean(self) -> Tensor:
        # E[k] / (L - 1)
        x = torch.linspace(0, 1, self.levels, dtype=self.logits.dtype, device=self.logits.device)
        return (self.logits.softmax(self._axis).movedim(self._axis, -1) * x).sum(-1)

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Draws of k / (L - 1), ``sample_shape + batch_shape + event_shape``."""
        shape = Size(sample_shape) + self.logits.shape
        logits = self.logits.detach().expand(shape)
        # the largest of logits with Gumbel noise
        noise = -torch.empty_like(logits).exponential_().log()
        return (logits + noise).argmax(self._axis).to(logits.dtype) / (self.levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, ``batch_shape``."""
        value, observed = self._observed(value)
        level = (value * (self.levels - 1)).round().clamp(0, self.levels - 1).long()
        level, _ = torch.broadcast_tensors(level, self.logits.select(self._axis, 0))
        batch = level.shape[: level.dim() - self.event_dim]
        logits = self.logits.log_softmax(self._axis)
        logits = logits.expand(*batch, self.levels, *self.event_shape)
        chosen = logits.gather(self._axis, level.unsqueeze(self._axis)).squeeze(self._axis)
        return self._sum(chosen, observed)


class DiscretizedLogisticLikelihood(BaseLikelihood):
    """Independent levels k_j = (L - 1) x_j of 0..L-1: a logistic variable, rounded and clipped::

        P(x_j) = sigmoid((x_j + h - loc_j) / scale_j) - sigmoid((x_j - h - loc_j) / scale_j)

        h = 1 / (2 (L - 1)); the bins of 0 and 1 have no lower and no upper edge

    An x between two levels has a bin of the same width around itself. The data itself is checked
    where it is read.

    Args:
        loc: ``batch_shape + event_shape``, in the units of x.
        scale: of the logistic variable, positive; it broadcasts to ``loc`` (the models learn one
            for each entry).
        mask, event_dim, nan_is_missing: as for :class:`BernoulliLikelihood`.
        levels: L, the number of levels.

    Reference:
        Salimans et al. 2017, arXiv:1701.05517, with one component.
    """

    initial_scale: ClassVar[float] = 0.1
    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012
    support = constraints.unit_interval

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        mask: Tensor | None = None,
        event_dim: int = 1,
        nan_is_missing: bool = False,
        *,
        levels: int,
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = levels
        self._set_shapes(self.loc, mask, event_dim, nan_is_missing)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "DiscretizedLogisticLikelihood":
        new = self._get_checked_instance(DiscretizedLogisticLikelihood, _instance)
        new.levels = self.levels
        return self._expand(new, batch_shape, ("loc", "scale"))

    @property
    def _half(self) -> float:
        """Half the width of a bin."""
        return 0.5 / (self.levels - 1)

    @property
    def mean(self) -> Tensor:
        # E[k] / (L - 1): the mean of P(k > j) over the edges j + 1/2 between levels
        total = torch.zeros_like(self.loc)
        for edge in range(self.levels - 1):  # one at a time: all at once need much memory
            total = total + torch.sigmoid((self.loc - (2 * edge + 1) * self._half) / self.scale)
        return total / (self.levels - 1)

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Draws of k / (L - 1), ``sample_shape + batch_shape + event_shape``."""
        shape, last = self._extended_shape(sample_shape), self.levels - 1
        uniform = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
        x = self.loc + self.scale * torch.logit(uniform)
        return ((x.detach() * last).round() / last).clamp(0, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(x) in nats, ``batch_shape``."""
        value, observed = self._observed(value)
        below = logsigmoid((value + self._half - self.loc) / self.scale)
        above = logsigmoid((self.loc - value + self._half) / self.scale)
        # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): no difference cancels
        between = below + above + torch.log(-torch.expm1(-2 * self._half / self.scale))
        log_probs = torch.where(value > 1 - self._half, above, between)
        return self._sum(torch.where(value < self._half, below, log_probs), observed)
