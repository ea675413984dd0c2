"""The Concrete (relaxed one-hot) distribution, with its density in log space."""

import math
from typing import Any

import torch
from pyro.distributions import RelaxedOneHotCategorical
from torch import Size, Tensor

LOG_SAMPLE = "_concrete_log_sample"


class Concrete(RelaxedOneHotCategorical):
    """A distribution over points s of the simplex that relaxes a one-hot vector.

    Draws are s = softmax((logits + g) / temperature) with g standard Gumbel, and::

        log p(s) = log (K-1)! + (K-1) log t
                   + sum_i (logits_i - t log s_i) - K logsumexp_i(logits_i - t log s_i)
                   - sum_i log s_i

    with t the temperature. It is Pyro's ``RelaxedOneHotCategorical`` with other arithmetic:
    at low temperature entries of s underflow to 0, and a density computed from s alone is
    infinite or NaN. Here log s is sampled and kept as an attribute of the sampled tensor (so it
    survives ``replay`` but not arithmetic on s), and the density reads it. Any other point is
    accepted too: the density then takes its logarithm, with the smallest normal number for zeros.

    Args:
        temperature: t > 0, a scalar, or a tensor that broadcasts against ``(..., K)``.
        probs: ``(..., K)`` non-negative class weights (normalized to sum 1); or
        logits: ``(..., K)`` unnormalized log weights. Exactly one of the two.

    Shapes:
        ``batch_shape`` is ``(...)``, ``event_shape`` is ``(K,)``; log-densities are in nats.

    References:
        Maddison, Mnih, Teh 2017, arXiv:1611.00712; Jang, Gu, Poole 2017, arXiv:1611.01144.

    Example:
        >>> s = Concrete(0.5, logits=torch.zeros(3, 10)).rsample()
        >>> s.shape
        torch.Size([3, 10])
    """

    def __init__(
        self,
        temperature: Tensor | float,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        given = probs if probs is not None else logits
        if given is not None and not isinstance(temperature, Tensor):
            temperature = torch.as_tensor(temperature, dtype=given.dtype, device=given.device)
        super().__init__(temperature, probs, logits, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Concrete":
        new = self._get_checked_instance(Concrete, _instance)
        return super().expand(batch_shape, _instance=new)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - Size is immutable
        """Reparameterized draws, ``sample_shape + batch_shape + (K,)``, summing to 1."""
        logits = self.logits
        shape = self._extended_shape(sample_shape)
        # -log of an exponential is a Gumbel; the clamp only matters for a draw of exactly 0
        exponential = torch.empty(shape, dtype=logits.dtype, device=logits.device).exponential_()
        gumbel = -exponential.clamp_min(torch.finfo(logits.dtype).tiny).log()
        return from_log_sample(((logits + gumbel) / self.temperature).log_softmax(-1))

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Draws without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(s) in nats, ``batch_shape``; ``value`` is ``(..., K)`` on the simplex."""
        if self._validate_args:
            self._validate_sample(value)
        log_s = log_of_sample(value)
        size = self.event_shape[-1]
        scores = self.logits - self.temperature * log_s
        constant = math.lgamma(size) + (size - 1) * self._log_temperature()
        relaxed = (scores - scores.logsumexp(-1, keepdim=True)).sum(-1)
        return relaxed - log_s.sum(-1) + constant

    def _log_temperature(self) -> Tensor:
        """log t with the shape of a batch element: a (..., 1) temperature loses its last axis."""
        log_t: Tensor = self.temperature.log()
        return log_t.squeeze(-1) if log_t.dim() else log_t

    def _validate_sample(self, value: Tensor) -> None:
        # torch's simplex check requires |sum - 1| < 1e-6, which float32 draws can miss
        size = self.event_shape[-1]
        if value.shape[-1:] != self.event_shape:
            raise ValueError(f"a point of a simplex of {size} was expected, not {value.shape}")
        tolerance = 10 * size * torch.finfo(value.dtype).eps + 1e-6
        off = (value.detach().sum(-1) - 1).abs()
        if not bool(((off <= tolerance) & (value >= 0).all(-1)).all()):
            raise ValueError("points of the simplex must be non-negative and sum to 1")


class StraightThroughConcrete(Concrete):
    """A Concrete whose draws are rounded to the nearest vertex of the simplex::

        s = onehot(argmax u),  ds/du = 1,  u ~ Concrete(logits, temperature)

    The value is an exact one-hot vector, its gradient is that of the relaxed u, and the density is
    that of u, which is kept with the draw.

    References:
        Jang, Gu, Poole 2017, arXiv:1611.01144 (straight-through Gumbel-softmax); Bengio et al.
        2013, arXiv:1308.3432.
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> "StraightThroughConcrete":
        new = self._get_checked_instance(StraightThroughConcrete, _instance)
        return super().expand(batch_shape, _instance=new)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - Size is immutable
        """Vertices of the simplex, ``sample_shape + batch_shape + (K,)``."""
        relaxed = super().rsample(sample_shape)
        vertex = torch.zeros_like(relaxed).scatter_(-1, relaxed.argmax(-1, keepdim=True), 1.0)
        rounded = vertex + (relaxed - relaxed.detach())
        setattr(rounded, LOG_SAMPLE, log_of_sample(relaxed))
        return rounded


def from_log_sample(log_s: Tensor) -> Tensor:
    """The point exp(log_s) of the simplex, with its logarithm as an attribute."""
    s = log_s.exp()
    setattr(s, LOG_SAMPLE, log_s)
    return s


def log_of_sample(s: Tensor) -> Tensor:
    """log s: exact for a draw of :class:`Concrete`, else the logarithm of the entries."""
    log_s = getattr(s, LOG_SAMPLE, None)
    if log_s is None:
        return s.clamp_min(torch.finfo(s.dtype).tiny).log()
    return log_s
