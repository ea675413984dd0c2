"""The Concrete (relaxed one-hot) distribution and its tilted form, with densities in log space."""

import math
from typing import Any

import torch
from pyro.distributions import RelaxedOneHotCategorical, TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints, register_kl

# attributes of a draw
LOG_SAMPLE = "_concrete_log_sample"
_CLASS = "_tilted_class"


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


class Tilted(TorchDistribution):
    """A Concrete p(s) whose class, argmax s, has other probabilities q_c::

        q(s) = sum_c q_c p(s | argmax s = c)
        q(s) / p(s) = q_c / pi_c                              at c = argmax s
        KL(q || p)  = sum_c q_c log(q_c / pi_c)               exact

    With pi the normalized class weights of p. The class of s ~ p is Categorical(pi) at every
    temperature, so the KL is that of two Categoricals, between 0 and -log min pi, which the
    density ratio of two Concretes is not. Draws given the class are truncated Gumbels: G_c is
    standard Gumbel, G_i = -log(exp(-G_c) + E_i / pi_i) with E_i ~ Exp(1) for i != c, and
    s = softmax(G / temperature).

    A draw has the gradient of p through pi, and a straight-through one through the class: that of
    a Concrete with weights q at p's temperature. :meth:`enumerate_support` gives a draw for each
    class instead; with the weights of :meth:`class_log_prob` a sum over them is exact in the class
    and has the exact gradient of q.

    Args:
        prior: p, batch shape ``(...)``, K classes.
        logits: ``(..., K)`` unnormalized log q_c.

    Attributes:
        prior: as given.
        logits: ``(..., K)`` log q_c, normalized.

    Shapes:
        ``batch_shape`` is ``(...)``, ``event_shape`` is ``(K,)``; log-densities are in nats.

    References:
        Maddison, Tarlow, Minka 2014, arXiv:1411.0030 (truncated Gumbels); Maddison, Mnih, Teh
        2017, arXiv:1611.00712 (the Concrete).

    Example:
        >>> prior = Concrete(0.5, logits=torch.zeros(3))
        >>> q = Tilted(prior, torch.tensor([2.0, 0.0, 0.0]))
        >>> torch.distributions.kl_divergence(q, prior)
        tensor(0.4330)
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012 - torch's own protocol
    support = constraints.simplex
    has_rsample = True
    has_enumerate_support = True

    def __init__(self, prior: Concrete, logits: Tensor, validate_args: bool | None = None) -> None:
        if logits.shape[-1:] != prior.event_shape:
            raise ValueError(f"{logits.shape[-1]} logits, for a prior of {prior.event_shape}")
        batch_shape = torch.broadcast_shapes(logits.shape[:-1], prior.batch_shape)
        self.prior = prior.expand(batch_shape)
        self.logits = logits.log_softmax(-1).expand(batch_shape + prior.event_shape)
        super().__init__(batch_shape, prior.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Tilted":
        new = self._get_checked_instance(Tilted, _instance)
        batch_shape = Size(batch_shape)
        new.prior = self.prior.expand(batch_shape)
        new.logits = self.logits.expand(batch_shape + self.event_shape)
        TorchDistribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - Size is immutable
        """Draws, ``sample_shape + batch_shape + (K,)``; straight-through in the class."""
        temperature = self.prior.temperature
        relaxed = Concrete(temperature, logits=self.logits).rsample(sample_shape)
        top = relaxed.argmax(-1, keepdim=True)
        top = torch.zeros_like(relaxed).scatter_(-1, top, 1.0)
        value, step = self._given(top), relaxed - relaxed.detach()
        return _kept(value + step, log_of_sample(value), top + step)

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """Draws without a gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """A draw of s given each class, ``(K,) + batch_shape + (K,)``."""
        if not expand:
            raise NotImplementedError("the draws of a Tilted differ from row to row: expand=True")
        (size,) = self.event_shape
        classes = torch.eye(size, dtype=self.logits.dtype, device=self.logits.device)
        classes = classes.view(size, *(1,) * len(self.batch_shape), size)
        classes = classes.expand(size, *self.batch_shape, size)
        value = self._given(classes)
        return _kept(value, log_of_sample(value), classes)

    def log_prob(self, value: Tensor) -> Tensor:
        """log q(s) in nats, ``batch_shape``; ``value`` is ``(..., K)`` on the simplex."""
        ratio = (class_of(value) * (self.logits - self.prior.logits)).sum(-1)
        return self.prior.log_prob(value) + ratio

    def class_log_prob(self, value: Tensor) -> Tensor:
        """log q_c of the class c = argmax s in nats, ``batch_shape``."""
        return (class_of(value) * self.logits).sum(-1)

    def _given(self, classes: Tensor) -> Tensor:
        """A draw of s given one-hot classes (..., K)."""
        shape, is_top = classes.shape, classes.bool()
        noise = torch.empty(shape, dtype=classes.dtype, device=classes.device).exponential_()
        log_noise = noise.clamp_min(torch.finfo(noise.dtype).tiny).log()
        # -log of an exponential is a Gumbel: of the top one, and of the others below it
        minus_top = log_noise.masked_fill(~is_top, 0.0).sum(-1, keepdim=True)
        others = torch.logaddexp(minus_top, log_noise - self.prior.logits)
        gumbels = -torch.where(is_top, minus_top, others)
        return from_log_sample((gumbels / self.prior.temperature).log_softmax(-1))


class RoundedTilted(Tilted):
    """A Tilted whose draws are rounded to the vertex of their class.

    The density is that of the unrounded s, as that of a
    :class:`pyro_gmmvae.distributions.StraightThroughConcrete`.
    """

    def expand(self, batch_shape: Any, _instance: Any = None) -> "RoundedTilted":
        new = self._get_checked_instance(RoundedTilted, _instance)
        super().expand(batch_shape, _instance=new)
        return new

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - Size is immutable
        s = super().rsample(sample_shape)
        return _kept(class_of(s).clone(), log_of_sample(s), class_of(s))


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


def class_of(s: Tensor) -> Tensor:
    """The class argmax s as a one-hot vector (..., K); of a draw, with its gradient."""
    kept: Tensor | None = getattr(s, _CLASS, None)
    if kept is not None:
        return kept
    return torch.zeros_like(s).scatter_(-1, s.argmax(-1, keepdim=True), 1.0).detach()


def _kept(s: Tensor, log_s: Tensor, classes: Tensor) -> Tensor:
    """s, with its logarithm and its class as attributes."""
    setattr(s, LOG_SAMPLE, log_s)
    setattr(s, _CLASS, classes)
    return s


@register_kl(Tilted, Concrete)
def _kl(q: Tilted, p: Concrete) -> Tensor:
    """KL of q from the prior p that it tilts, the same temperature and weights; not checked."""
    return (q.logits.exp() * (q.logits - p.logits)).sum(-1)
