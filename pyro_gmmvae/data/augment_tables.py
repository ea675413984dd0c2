"""Augmentation of rows of plain numbers, which are standardized: 0 is the mean, 1 the scale."""

from collections.abc import Callable

import torch
from torch import Tensor

NOISE, DROPOUT = 0.3, 0.2


def noise(x: Tensor) -> Tensor:
    """Normal noise on every entry, 0.3 of its standard deviation."""
    return x + NOISE * torch.randn_like(x)


def dropout(x: Tensor) -> Tensor:
    """A fifth of the entries put to their mean."""
    return torch.where(torch.rand_like(x) < DROPOUT, 0.0, x)


OF_TABLES: dict[str, Callable[[Tensor], Tensor]] = {"noise": noise, "dropout": dropout}
