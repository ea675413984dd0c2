"""Scores of rows, each of which does not depend on the rows that come with it."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pyro_gmmvae.evaluation import Bounds, log_weights
from pyro_gmmvae.training.devices import seeded

ROWS_AT_ONCE = 128
COPIES_AT_ONCE = 4096


@torch.no_grad()
def by_blocks(
    function: Callable[..., Tensor], *columns: Tensor, rows: int = ROWS_AT_ONCE
) -> Tensor:
    """Apply a function of rows to blocks of ``rows`` rows.

    Matrix products of another number of rows may be summed in another order, so the last block is
    filled up with its first row.
    """
    if not len(columns[0]):
        return function(*(column.new_zeros(1, *column.shape[1:]) for column in columns))[:0]
    results = []
    for start in range(0, len(columns[0]), rows):
        blocks = [column[start : start + rows] for column in columns]
        here = len(blocks[0])
        filled = [torch.cat([b, b[:1].expand(rows - here, *b.shape[1:])]) for b in blocks]
        results.append(function(*filled)[:here])
    return torch.cat(results)


def bounds_of_rows(model: Any, x: Tensor, samples: int, y: Tensor | None = None) -> Bounds:
    """Bounds on log p(x) from draws of the guide, the same noise for every row.

    Noise of its own for each row would make a row's bound depend on its place among others. So
    errors of the rows' bounds are not independent, as those of
    :func:`pyro_gmmvae.evaluation.log_weights` are.

    Args:
        model: in evaluation mode.
        x: rows in the model's units.
        samples: draws per row.
        y: (N,) labels that are given to the model; None: no labels.

    Reference:
        Burda et al. 2016, arXiv:1509.00519.
    """

    def of_row(row: Tensor, label: Tensor | None = None) -> Tensor:
        given = None if label is None else label[None]
        found = log_weights(model.model, model.guide, row[None], samples, y=given)
        return torch.cat([found.log_w, found.log_px], 1)

    def of_rows(*columns: Tensor) -> Tensor:
        with warnings.catch_warnings(), seeded(0, x.device), _ByInversion():
            warnings.filterwarnings("ignore", ".*performance drop")  # rows one by one: right, slow
            return torch.func.vmap(of_row, randomness="same")(*columns)

    columns = (x,) if y is None else (x, y)
    rows = min(ROWS_AT_ONCE, max(1, COPIES_AT_ONCE // samples))
    return Bounds(*by_blocks(of_rows, *columns, rows=rows).permute(2, 1, 0))


class _ByInversion(TorchFunctionMode):
    """Discrete draws from uniform noise, since vmap shares no noise of ``torch.multinomial``."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not torch.multinomial:
            return func(*args, **(kwargs or {}))
        weights, draws = args[0], args[1]
        steps = weights.cumsum(-1)
        noise = torch.rand(*weights.shape[:-1], draws, dtype=weights.dtype, device=weights.device)
        below = (noise * steps[..., -1:]).unsqueeze(-1) >= steps.unsqueeze(-2)
        return below.sum(-1).clamp_max(weights.shape[-1] - 1)
