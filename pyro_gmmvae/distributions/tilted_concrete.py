"""The tilted Concrete: the prior of s with other class probabilities."""

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints, register_kl

from pyro_gmmvae.distributions.concrete import LOG_SAMPLE, Concrete, from_log_sample, log_of_sample

_CLASS = "_tilted_class"


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
        tensor(0.3733)
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
