"""Rows of a table as numbers, columns matched by name, and numbers as rows of a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data.cells import MARKS, number_of, number_text
from pyro_gmmvae.data.column_kinds import listed, possible
from pyro_gmmvae.data.frames import RawFrame
from pyro_gmmvae.errors import GMMVAEError, nearest

if TYPE_CHECKING:
    import pandas as pd

MOST_NOTES = 5


def encode(frame: RawFrame, columns: Sequence[Column]) -> tuple[NDArray[np.float64], list[str]]:
    """Rows (N, D) in the file's units, and notes on values that the columns do not have.

    Columns are matched by name; others of the table are ignored. A text becomes its code. NaN
    stands for a missing cell, for a text that is not among a column's values, and for a number
    that a column of its kind can't hold.

    Args:
        frame: the table.
        columns: D of them.

    Raises:
        GMMVAEError: a column that the table lacks (with the nearest match), or one that holds
            texts where numbers are needed.
    """
    table = frame.table
    present = set(table.columns)
    missing = [column.name for column in columns if column.name not in present]
    if missing:
        near = nearest(missing[0], present - {column.name for column in columns})
        hint = f"; is {near!r} meant as {missing[0]!r}?" if near else ""
        noun = "column" if len(missing) == 1 else "columns"
        raise GMMVAEError(f"{frame.source} lacks the {noun} {listed(missing)}{hint}")
    x, notes = np.empty((len(table), len(columns))), []
    for number, column in enumerate(columns):
        x[:, number], unseen = _encoded(table[column.name], column)
        if unseen:
            if np.isnan(x[:, number]).all() and not column.is_discrete:
                raise GMMVAEError(
                    f"{frame.source}: column {column.name!r} holds {listed(unseen, 3)}, and the "
                    f"column that is needed is {column.kind}"
                )
            reason = f"can't be {column.kind}"
            if column.is_discrete:
                reason = f"not among the training values {listed(column.values)}"
            notes.append(f"column {column.name!r}: {listed(unseen)} {reason}; taken as missing")
    more = len(notes) - MOST_NOTES
    return x, notes[:MOST_NOTES] + [f"the same in {more} more columns"] * (more > 0)


def _encoded(values: "pd.Series[Any]", column: Column) -> tuple[NDArray[Any], list[str]]:
    """Numbers of a column, and values that it can't have."""
    if values.dtype.kind == "f":
        numbers = values.to_numpy()
        if column.is_discrete:
            different, inverse = np.unique(numbers, return_inverse=True)
            texts = [number_text(value) for value in different.tolist()]
            return _codes(texts, column, inverse)
        fits = possible(numbers, column.kind)
        unseen = [number_text(value) for value in np.unique(numbers[~fits])[:99].tolist()]
        return np.where(fits, numbers, np.nan), unseen
    categories = values.cat.categories.tolist()
    places = values.cat.codes.to_numpy()
    if column.is_discrete:
        return _codes(categories, column, places)
    found = np.array([_or_nan(number_of(text)) for text in categories], np.float64)
    found[~possible(found, column.kind)] = np.nan
    used = set(np.unique(places[places >= 0]).tolist())
    unseen = [
        text
        for number, text in enumerate(categories)
        if np.isnan(found[number]) and number in used and text.casefold() not in MARKS
    ]
    return np.append(found, np.nan)[places], unseen


def _codes(
    texts: list[str], column: Column, places: NDArray[Any]
) -> tuple[NDArray[np.float64], list[str]]:
    """Codes of cells (N,), which are texts[place], and texts that are not among the values."""
    code = {value: float(number) for number, value in enumerate(column.values)}
    found = [code.get(text, np.nan) for text in texts]
    for place, text in enumerate(texts):
        number = number_of(text) if np.isnan(found[place]) else None
        if number is not None:  # "1.0" is the value "1"
            found[place] = code.get(number_text(number), np.nan)
    used = set(np.unique(places[places >= 0]).tolist())
    unseen = [
        text
        for place, text in enumerate(texts)
        if np.isnan(found[place]) and place in used and text != "nan"
    ]
    return np.array([*found, np.nan])[places], unseen


def _or_nan(number: float | None) -> float:
    return np.nan if number is None else number


def decode(x: NDArray[Any], columns: Sequence[Column]) -> "pd.DataFrame":
    """Rows (N, D) in the file's units as a table: codes become the texts or numbers of the file.

    Counts are rounded, and whole numbers where no cell is missing; codes are rounded to the next
    one.
    """
    import pandas as pd

    decoded = {
        column.name: _decoded(np.asarray(x[:, number], np.float64), column)
        for number, column in enumerate(columns)
    }
    return pd.DataFrame(decoded)


def _decoded(numbers: NDArray[np.float64], column: Column) -> Any:
    import pandas as pd

    known = ~np.isnan(numbers)
    values = numbers
    if column.is_discrete:
        codes = np.clip(np.round(np.where(known, numbers, 0)), 0, len(column.values) - 1)
        places = np.where(known, codes, -1).astype(np.int64)
        as_numbers = [number_of(value) for value in column.values]
        written = ["" if number is None else number_text(number) for number in as_numbers]
        if written != list(column.values):
            return pd.Series(np.array([*column.values, None], object)[places])
        values = np.array([*map(_or_nan, as_numbers), np.nan])[places]
    elif column.kind == "count":
        values = np.round(values)
    else:
        return values
    whole = known.all() and (values == np.round(values)).all() and (np.abs(values) < 2**53).all()
    return values.astype(np.int64) if whole else values
