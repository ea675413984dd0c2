"""Rows with missing cells (NaN) and with infinite values: which of them can be used."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError


def usable_rows(
    x: NDArray[Any], source: object, *, missing: str = "model", drop: bool = False, first: int = 0
) -> tuple[Labels, bool]:
    """Numbers of the rows that can be used, and whether some of their cells are missing.

    Args:
        x: rows (N, ...).
        source: of the rows, for the message.
        missing: a cell that is NaN is missing ("model"), or an error ("refuse").
        drop: leave out rows with NaN or infinite values.
        first: the number of the first row in its file.

    Raises:
        GMMVAEError: an infinite value or one beyond the range of single precision, a missing cell
            with "refuse", or rows without any value.
    """
    numbers = np.arange(len(x))
    if x.dtype.kind != "f":
        return numbers, False
    with np.errstate(over="ignore"):  # beyond float32's range is infinite to the model
        cells = x.astype(np.float32, copy=False).reshape(len(x), -1)
    unknown = np.isnan(cells)
    with_missing, infinite = (np.asarray(bad.any(1)) for bad in (unknown, np.isinf(cells)))
    if drop:
        numbers = numbers[~(with_missing | infinite)]
        if not len(numbers):
            raise GMMVAEError(f"{source}: every row holds NaN or infinite values")
        return numbers, False
    if infinite.any():
        raise GMMVAEError(
            f"{source}: {_count(infinite)} hold infinite values or numbers beyond 3.4e38 "
            f"{_first(infinite, first)}; correct them, write NaN where a cell is missing, or drop "
            "these rows with --drop-nonfinite"
        )
    if missing == "refuse" and with_missing.any():
        raise GMMVAEError(
            f"{source}: {_count(with_missing)} have missing cells (NaN) "
            f"{_first(with_missing, first)}; fill these in, drop the rows with --drop-nonfinite, "
            "or leave --missing refuse out"
        )
    if unknown.all():
        raise GMMVAEError(f"{source}: every cell is missing (NaN)")
    return numbers, bool(with_missing.any())


def _count(rows: NDArray[Any]) -> str:
    return f"{int(rows.sum())} of {len(rows)} rows"


def _first(rows: NDArray[Any], start: int) -> str:
    return f"(the first is row {start + int(np.argmax(rows))})"
