"""The link from unconstrained numbers to scales: the only place that decides it."""

import math

import torch
from torch import Tensor

SMALLEST_SCALE = 1e-4
_UNIT_OFFSET = math.log(math.expm1(1.0))


def positive_scale(raw: Tensor) -> Tensor:
    """scale = softplus(raw + log(e - 1)) + 1e-4: about 1 at raw = 0, never 0.

    Softplus grows linearly, so one large network output does not blow a scale up as an
    exponential would; the floor keeps precisions (1 / scale^2) below 1e8.

    Args:
        raw: unconstrained numbers of any shape.

    Returns:
        Standard deviations (not variances) of the same shape.
    """
    return torch.nn.functional.softplus(raw + _UNIT_OFFSET) + SMALLEST_SCALE
