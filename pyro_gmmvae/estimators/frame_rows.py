"""Rows of frames as numbers: kinds of columns at a fit, columns matched by name after it."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data.column_codes import encode
from pyro_gmmvae.data.column_kinds import (
    ColumnReport,
    infer_columns,
    names_with_codes,
    names_with_texts,
)
from pyro_gmmvae.data.column_table import ColumnTable
from pyro_gmmvae.data.frames import frame_of
from pyro_gmmvae.errors import GMMVAEError

Array = NDArray[Any]


@dataclass(frozen=True)
class FrameRows:
    """Rows of a frame, packed.

    Attributes:
        x: (N, D) in the frame's units, codes of texts, NaN where a cell is missing.
        kind: of the rows.
        missing: (N,) whether a cell is missing, by name, of all columns of the frame.
        left_out: reports of columns that no model can use.
    """

    x: Array
    kind: ColumnTable
    missing: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    left_out: tuple[ColumnReport, ...] = ()

    def __len__(self) -> int:
        return len(self.x)


def is_frame(rows: Any) -> bool:
    """Whether rows are a pandas or polars DataFrame; neither package is imported."""
    kind = type(rows)
    package = kind.__module__.partition(".")[0]
    return kind.__name__ == "DataFrame" and package in ("pandas", "polars")


def is_table(frame: Any) -> bool:
    """Whether the columns of a frame have names or hold other cells than numbers.

    A pandas frame of numbers whose columns are numbered is an array, as for scikit-learn.
    """
    named = any(isinstance(name, str) for name in frame.columns)
    numbers = all(getattr(dtype, "kind", "O") in "iuf" for dtype in frame.dtypes)
    return named or not numbers or not len(frame.columns)


def first_rows(frame: Any, kinds: Any, given: Iterable[str] = ()) -> FrameRows:
    """The rows of a frame to fit, with a kind for each column.

    Columns that no model can use, such as constants and identifiers, are left out. A warning names
    cells that are taken as missing.

    Args:
        frame: of pandas or polars.
        kinds: by name, the kinds that a user gives; None: they are found from the cells.
        given: names of the covariates.

    Raises:
        GMMVAEError: as ``frame_of`` and ``infer_columns``, fewer than two rows, or infinite
            values.
    """
    if kinds is not None and not isinstance(kinds, Mapping):
        raise GMMVAEError(f"columns must be a dict of kinds by name, not {kinds!r}")
    kinds = {str(name): str(kind) for name, kind in (kinds or {}).items()}
    raw = frame_of(_without_index(frame), names_with_codes(kinds))
    if len(raw.table) < 2:
        raise GMMVAEError("X holds 1 row, and a fit needs two or more")
    reports = infer_columns(raw, kinds, tuple(given))
    columns = [report.column for report in reports if report.column is not None]
    x, notes = encode(raw, columns)
    _check_finite(x, columns)
    odd = [
        f"column {report.name!r}: {oddity}"
        for report in reports
        for oddity in report.oddities
        if report.column is not None
    ]
    warn([*raw.notes, *notes, *odd])
    left_out = [r for r in reports if r.column is None and r.name not in kinds]
    return FrameRows(x, ColumnTable(tuple(columns)), raw.missing, tuple(left_out))


def further_rows(frame: Any, kind: ColumnTable, names: Array) -> FrameRows:
    """Rows of a frame or an array as the columns of a fit, matched by name.

    Other columns are ignored. Values that a column does not have become missing, and a warning
    names them.

    Args:
        frame: of pandas or polars, or an array (N, features) of the columns of the fit.
        kind: of the fit's rows.
        names: (features,) of the columns of an array.

    Raises:
        GMMVAEError: a column that is missing (with the nearest match), or that holds text where
            numbers are needed, infinite values, or an array of other columns.
    """
    if not is_frame(frame):
        frame = named(frame, names)
    raw = frame_of(_without_index(frame), names_with_texts(kind.specs))
    x, notes = encode(raw, kind.specs)
    _check_finite(x, kind.specs)
    warn(notes)
    return FrameRows(x, kind, raw.missing)


def named(rows: Any, names: Array) -> Any:
    """An array (N, features) as a pandas frame.

    Raises:
        GMMVAEError: another number of features than there are names.
    """
    import pandas as pd

    rows = np.asarray(rows)
    if rows.ndim != 2 or rows.shape[1] != len(names):
        raise GMMVAEError(
            f"X has the shape {rows.shape}, and the fit had {len(names)} columns; give a frame, "
            "or rows of these columns"
        )
    return pd.DataFrame(rows, columns=list(names))


def _without_index(frame: Any) -> Any:
    """The frame without the index of pandas, which holds no feature."""
    import pandas as pd

    return frame.reset_index(drop=True) if isinstance(frame, pd.DataFrame) else frame


def _check_finite(x: Array, columns: Iterable[Column]) -> None:
    with np.errstate(over="ignore"):  # beyond the range of single precision is infinite to a model
        infinite = np.isinf(x.astype(np.float32))
    for number, column in enumerate(columns):
        rows = np.flatnonzero(infinite[:, number])
        if len(rows):
            raise GMMVAEError(
                f"X: column {column.name!r} holds infinite values or numbers beyond 3.4e38 (the "
                f"first is in row {rows[0]}); correct them, or write NaN where a cell is missing"
            )


def warn(notes: Iterable[str]) -> None:
    """A warning with each note on X."""
    for note in notes:
        warnings.warn(f"X: {note}", UserWarning, stacklevel=2)
