"""Inputs of networks for rows of tables: normal numbers, one-hot categories and a mask."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.errors import GMMVAEError

LARGEST = 3.0  # of a number that was made normal


class ColumnInputs(nn.Module):
    """Rows (B, D) of a table in the model's units -> inputs (B, width) of a network.

    A number enters by its normal quantile, Phi^-1(F(x)), clipped to +-3, with F from the column's
    knots (as scikit-learn's ``QuantileTransformer``); a category as a one-hot vector, a binary
    value as +-1. All are 0 where the cell is missing; a mask of the observed cells follows.

    Args:
        columns: of the table.
        noise: standard deviation of noise on numbers and codes while training.

    Attributes:
        width: of the inputs.
    """

    knots: Tensor
    numbers: Tensor
    binaries: Tensor
    categories: Tensor
    levels: Tensor
    of_level: Tensor

    def __init__(self, columns: Sequence[Column], noise: float = 0.0) -> None:
        super().__init__()
        places: dict[str, list[int]] = {"numbers": [], "binary": [], "category": []}
        for place, column in enumerate(columns):
            places[column.kind if column.kind in places else "numbers"].append(place)
        numbers, binaries, categories = places.values()
        sizes = [len(columns[place].values) for place in categories]
        self.noise = noise
        self.width = len(numbers) + len(binaries) + sum(sizes) + len(columns)
        for place in numbers:
            if not columns[place].knots:
                raise GMMVAEError(f"column {columns[place].name!r} has no knots")
        most = max((len(columns[place].knots) for place in numbers), default=2)
        grid = [_resampled(columns[place].knots, most) for place in numbers]
        self._constant("knots", torch.tensor(grid).reshape(-1, most))
        self._constant("numbers", torch.tensor(numbers, dtype=torch.int64))
        self._constant("binaries", torch.tensor(binaries, dtype=torch.int64))
        self._constant("categories", torch.tensor(categories, dtype=torch.int64))
        # of each place in the one-hot vectors: its code, and the number of its column
        self._constant("levels", torch.tensor([float(k) for size in sizes for k in range(size)]))
        of_level = [number for number, size in enumerate(sizes) for _ in range(size)]
        self._constant("of_level", torch.tensor(of_level, dtype=torch.int64))

    def _constant(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        is_missing = x.isnan()
        filled = torch.where(is_missing, 0.0, x)
        parts = []
        if self.numbers.numel():
            parts.append(self._normal(filled[:, self.numbers]))
        if self.binaries.numel():
            parts.append(2 * filled[:, self.binaries] - 1)
        observed = (~is_missing).to(x.dtype)
        seen = [observed[:, self.numbers], observed[:, self.binaries]]
        if self.categories.numel():
            codes = filled[:, self.categories][:, self.of_level]
            parts.append((codes == self.levels).to(x.dtype))
            seen.append(observed[:, self.categories][:, self.of_level])
        inputs = torch.cat(parts, -1)
        if self.training and self.noise > 0:
            inputs = inputs + self.noise * torch.randn_like(inputs)
        return torch.cat([inputs * torch.cat(seen, -1), observed], -1)

    def _normal(self, x: Tensor) -> Tensor:
        """Normal quantiles of numbers (B, n) of the columns with knots (n, Q)."""
        columns, knots = x.T.contiguous(), self.knots.to(x.dtype)
        last = knots.shape[-1] - 1
        # a value of tied knots has the mean of the ranks of the first and the last of them
        low, high, first = _around(knots, columns, right=False)
        lowest = first + _share(columns, low, high)
        low, high, first = _around(knots, columns, right=True)
        highest = first + torch.where(columns >= high, 1.0, _share(columns, low, high))
        rank = 0.5 * (lowest + highest) / last
        return torch.special.ndtri(rank).clamp(-LARGEST, LARGEST).T


def _around(knots: Tensor, x: Tensor, right: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The knots (n, Q) below and above x (n, B), and the number of the lower one."""
    place = torch.searchsorted(knots, x, right=right).sub(1).clamp(0, knots.shape[-1] - 2)
    return knots.gather(-1, place), knots.gather(-1, place + 1), place


def _share(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The position of x between two knots, 0 to 1; 0 where they are equal."""
    return ((x - low) / (high - low).clamp_min(torch.finfo(x.dtype).tiny)).clamp(0, 1)


def _resampled(knots: Sequence[float], count: int) -> list[float]:
    """Knots at ``count`` equal steps of probability."""
    if len(knots) == count:
        return list(knots)
    steps = np.linspace(0, 1, count)
    return [float(q) for q in np.interp(steps, np.linspace(0, 1, len(knots)), knots)]
