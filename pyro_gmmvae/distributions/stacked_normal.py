"""The prior of a latent between two layers that are trained one after the other."""

import math
from typing import Any

import torch
from pyro.distributions import Normal, TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints


class StackedNormal(TorchDistribution):
    """N(loc, scale^2) for the layer above, N(0, I) for the layer below.

    Its log-density is that of N(loc, scale^2). The gradient with respect to the value is that of
    the standard normal: the layer that sampled the value learns as if there were no layer above
    it, as when layers are trained one after the other.

    Args:
        loc, scale: ``(..., d)``; one event is the last axis.
    """

    arg_constraints = {"loc": constraints.real_vector}  # noqa: RUF012 - torch's own protocol
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape[:-1], self.loc.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "StackedNormal":
        shape = Size(batch_shape) + self.event_shape
        return StackedNormal(self.loc.expand(shape), self.scale.expand(shape))

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 - Size is immutable
        return Normal(self.loc, self.scale).rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """log N(value; loc, scale^2) in nats, ``batch_shape``."""
        upper = Normal(self.loc, self.scale).log_prob(value.detach()).sum(-1)
        lower = -0.5 * value.square().sum(-1)
        return upper + (lower - lower.detach())

    def log_ratio_of_upper(self, value: Tensor) -> Tensor:
        """log N(value; 0, I) - log N(value; loc, scale^2) in nats, ``batch_shape``.

        The gradient is that of loc and scale alone: the term that the upper layer learns from.
        """
        value = value.detach()
        standard = -0.5 * (value.square() + math.log(2 * math.pi)).sum(-1)
        return standard - Normal(self.loc, self.scale).log_prob(value).sum(-1)
