"""The links from unconstrained numbers to scales and factors: the only place that decides them."""

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


def positive_tril(raw: Tensor) -> Tensor:
    """Lower-triangular L with L_jj = 1 / positive_scale(raw_jj): the identity at raw = 0.

    L is a factor of a precision, L L^T, so the floor on scales bounds its diagonal by 1e4. The
    strictly lower part is taken as it is, and what stands above the diagonal is not read.

    Args:
        raw: unconstrained numbers, ``(..., d, d)``.

    Returns:
        Lower-triangular matrices with positive diagonals, ``(..., d, d)``.
    """
    diagonal = positive_scale(raw.diagonal(dim1=-2, dim2=-1)).reciprocal()
    return raw.tril(-1) + torch.diag_embed(diagonal)
