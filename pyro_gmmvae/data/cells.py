"""Cells of tables: numbers, texts, marks of missing values, and names of columns."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.errors import GMMVAEError

if TYPE_CHECKING:
    import pandas as pd

# in a column of numbers these texts stand for a missing cell; elsewhere they are values
MARKS = frozenset(("na", "nan", "n/a", "#n/a", "<na>", "null", "none", "-", "?"))
Marks = Counter[str]
_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?)", re.I | re.A)
_PADDED = re.compile(r"[+-]?0\d")


def number_of(text: str) -> float | None:
    """The number that a text writes with a decimal point; None: it is no number."""
    return float(text) if _NUMBER.fullmatch(text) else None


def number_text(value: float) -> str:
    """A number as text, without a needless ".0"; it reads back as the same number."""
    whole = math.isfinite(value) and value == int(value) and abs(value) < 2**53
    return str(int(value)) if whole else repr(float(value))


def _number_text(text: str) -> str:
    """The text of a number without a needless ".0"; all digits of a whole number stay."""
    number = None if re.fullmatch(r"-?[0-9]+", text) else number_of(text)
    return text if number is None else number_text(number)


def is_plain_number(text: str) -> bool:
    """Whether a text is a number as :func:`number_text` writes it."""
    number = number_of(text)
    return number is not None and number_text(number) == text


def natural_key(text: str) -> tuple[bool, float, list[tuple[float, str]], str]:
    """A key to sort texts by: numbers by size, then texts, with the numbers in them by size."""
    number = number_of(text)
    if number is not None:
        return False, number, [], text
    parts = re.split(r"([0-9]+)", text)
    split = [(float(part), "") if part.isdecimal() else (-1.0, part) for part in parts]
    return True, 0.0, split, text


def numbers_among(
    cells: Sequence[float | str | None], counts: NDArray[Any], marks: Marks
) -> NDArray[np.float64] | None:
    """The different cells of a column as numbers, NaN for marks; None: some are other texts.

    Args:
        cells: numbers or stripped texts; None where missing.
        counts: how often each occurs.
        marks: takes the marks that were found, where the column is one of numbers.
    """
    numbers = [number_of(cell) if isinstance(cell, str) else cell for cell in cells]
    found = Marks()
    for cell, number, count in zip(cells, numbers, counts, strict=True):
        if number is None and isinstance(cell, str):
            if cell.casefold() not in MARKS:
                return None
            found[cell] += int(count)
    marks.update(found)
    return np.array([np.nan if number is None else number for number in numbers], np.float64)


def marks_notes(marks: Iterable[tuple[str, Marks]]) -> list[str]:
    """Lines on the columns of numbers in which marks were taken as missing."""
    lines = []
    for name, found in marks:
        if found:
            named = " and ".join(f"{mark!r} ({count})" for mark, count in found.most_common(4))
            lines.append(f"column {name!r}: {named} taken as missing")
    return lines if len(lines) <= 5 else [*lines[:5], f"the same in {len(lines) - 5} more columns"]


def text_column(
    codes: NDArray[np.integer[Any]], texts: Sequence[str], *, ordered: bool = False
) -> "pd.Categorical":
    """A column of text from codes (N,), -1 where missing, and a text for each code.

    Texts that are equal become one, empty ones are missing, and numbers lose a needless ".0"
    where no text of the column is a number padded with zeros.
    """
    import pandas as pd

    numbers = [number_of(text) for text in texts]
    padded = any(n is not None and _PADDED.match(t) for n, t in zip(numbers, texts, strict=True))
    if not padded and all(n is not None for n, t in zip(numbers, texts, strict=True) if t):
        texts = [_number_text(text) for text in texts]
    place = {text: number for number, text in enumerate(dict.fromkeys(filter(None, texts)))}
    table = np.array([*(place.get(text, -1) for text in texts), -1], np.int64)
    dtype = pd.CategoricalDtype(pd.Index(list(place), dtype=object), ordered=ordered)
    return pd.Categorical.from_codes(table[codes], dtype=dtype)


# -- names of columns ------------------------------------------------------------------------------


def checked_names(names: Sequence[object], source: str) -> list[str]:
    """Names of columns, stripped; "" for a column without a name.

    Raises:
        GMMVAEError: two columns of one name.
    """
    texts = [str(name).strip() for name in names]
    found = ["" if re.fullmatch(r"Unnamed: \d+", text) else text for text in texts]
    twice = [name for name, count in Counter(found).items() if name and count > 1]
    if twice:
        raise GMMVAEError(f"{source} names the column {twice[0]!r} twice; give each its own name")
    return found


def is_header(names: Sequence[str]) -> bool:
    """Whether a first line names columns: not all are numbers, or they count from 0."""
    counting = list(names) == [str(number) for number in range(len(names))]
    return (len(names) > 1 and counting) or any(name and number_of(name) is None for name in names)
