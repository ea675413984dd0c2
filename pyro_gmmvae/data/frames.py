"""Tables from files and from frames of pandas and polars, as columns of numbers and of text."""

import datetime
import math
import numbers
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.cells import (
    Marks,
    checked_names,
    is_header,
    marks_notes,
    number_text,
    numbers_among,
    text_column,
)
from pyro_gmmvae.data.csv_files import read_csv
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import require_file, table_errors

if TYPE_CHECKING:
    import pandas as pd

CSV = (".csv", ".tsv", ".txt")
TABLES = (*CSV, ".parquet", ".feather", ".xlsx")


@dataclass(frozen=True)
class RawFrame:
    """A table in memory.

    Attributes:
        table: columns of numbers are float64, NaN where a cell is missing; columns of text are
            categoricals of str, whose categories are in the order in which they first occur.
        notes: lines about the reading that a user should see.
        source: the name of the table in messages.
    """

    table: "pd.DataFrame"
    notes: tuple[str, ...] = ()
    source: str = "X"

    @property
    def missing(self) -> dict[str, NDArray[np.bool_]]:
        """(N,) whether each cell is missing, by the names of the columns."""
        return {name: self.table[name].isna().to_numpy() for name in self.table.columns}

    def without(self, names: Collection[str]) -> "RawFrame":
        """The table without some of its columns."""
        kept = {name: self.table[name] for name in self.table.columns if name not in names}
        return replace(self, table=_table(kept))


def read_frame(path: Path, text: Collection[str] = ()) -> RawFrame:
    """Read a table: csv (also .tsv, .txt, and gzipped), parquet, feather or xlsx.

    Of a csv file the delimiter (comma, semicolon, tab, bar), the decimal sign and the encoding are
    found out; a note names a guessed encoding. Names and texts are stripped. A cell is missing
    where it is empty. In a column of numbers the marks NA, NaN, null, None, N/A, - and ? are
    missing too, and a note says so; elsewhere they are texts. Of an xlsx file the first sheet is
    read.

    Args:
        path: the file.
        text: names of columns to read as text although they hold numbers.

    Raises:
        GMMVAEError: a file that is missing, empty, damaged or of another kind; no header, or no
            rows below it; two columns of one name; a column without a name, unless it numbers or
            names the rows; a row with more cells than the header has (with its line number); a
            format whose package is not installed.
    """
    import pandas as pd

    require_file(path)
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    notes: list[str] = []
    if ending in CSV:
        return _checked(*read_csv(path, text), str(path))
    if ending == ".parquet":
        with table_errors(path, "parquet"):
            frame = pd.read_parquet(path)
    elif ending == ".feather":
        with table_errors(path, "feather"):
            frame = pd.read_feather(path)
    elif ending == ".xlsx":
        with table_errors(path, "xlsx"):
            frame, notes = _first_sheet(path)
    else:
        raise GMMVAEError(f"{path} is of an unknown kind; tables are {', '.join(TABLES)}")
    found = frame_of(frame, text, str(path))
    return replace(found, notes=(*notes, *found.notes))


def is_table(path: Path) -> bool:
    """Whether :func:`read_frame` reads files whose name ends like this one, in either case."""
    return path.name.lower().removesuffix(".gz").endswith(TABLES)


def frame_of(frame: Any, text: Collection[str] = (), source: str = "X") -> RawFrame:
    """A frame of pandas or polars as a table of numbers and text.

    Numbers may have any type, also nullable ones. Booleans become the texts "False" and "True",
    dates ISO texts; categoricals stay text. Texts that are numbers become numbers, as in a csv
    file.

    Args:
        frame: a pandas or polars DataFrame.
        text: names of columns to keep as text although they hold numbers.
        source: the name of the table in messages.

    Raises:
        GMMVAEError: no frame, no rows, two columns of one name, or cells that are neither numbers
            nor text nor dates.
    """
    series = _series_of(frame, source)
    names = checked_names([name for name, _ in series], source)
    marks, columns = [Marks() for _ in names], list[Any]()
    for name, found, (_, values) in zip(names, marks, series, strict=True):
        columns.append(_column(values, name in text, found, f"{source}: column {name!r}"))
    return _checked(names, columns, marks_notes(zip(names, marks, strict=True)), source)


def _checked(names: list[str], columns: list[Any], notes: list[str], source: str) -> RawFrame:
    """The table of columns, without those that number or name the rows.

    Raises:
        GMMVAEError: no rows, no columns, or a column without a name.
    """
    import pandas as pd

    rows = len(columns[0]) if columns else 0
    if not rows:
        raise GMMVAEError(f"{source} holds no rows: {rows} rows of {len(names)} columns")
    kept, notes = {}, list(notes)
    for number, (name, values) in enumerate(zip(names, columns, strict=True), 1):
        if name:
            kept[name] = values
            continue
        known = pd.Series(values).dropna()
        if len(known) and not known.is_unique:
            raise GMMVAEError(
                f"{source}: column {number} has no name; name it in the first line, or remove it"
            )
        if len(known):
            notes.append(f"column {number} has no name and is left out (row numbers or names)")
    if not kept:
        raise GMMVAEError(f"{source} holds no column with a name")
    return RawFrame(_table(kept), tuple(notes), source)


def _table(columns: Mapping[str, Any]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(dict(columns), copy=False)  # each column stays where it is


def _first_sheet(path: Path) -> tuple["pd.DataFrame", list[str]]:
    import pandas as pd

    with pd.ExcelFile(path, engine="openpyxl") as book:
        sheets = [str(name) for name in book.sheet_names]
        rows = pd.read_excel(book, header=None, dtype=object, keep_default_na=False, na_values=[""])
    if rows.empty:
        raise GMMVAEError(f"{path} holds no rows in its first sheet, {sheets[0]!r}")
    names = ["" if name is None or name != name else name for name in rows.iloc[0]]
    if not is_header([_as_text(_cell(name, str(path))) for name in names]):
        raise GMMVAEError(f"{path} has no header: its first line must name the columns")
    notes = [f"of {len(sheets)} sheets the first, {sheets[0]!r}, is read"] * (len(sheets) > 1)
    return rows.iloc[1:].set_axis(names, axis=1), notes


# -- frames ----------------------------------------------------------------------------------------


def _series_of(frame: Any, source: str) -> list[tuple[str, "pd.Series[Any]"]]:
    """Names and values of the columns of a frame."""
    import pandas as pd

    if isinstance(frame, pd.DataFrame):
        if any(name is not None for name in frame.index.names):
            frame = frame.reset_index()  # a csv file has the index as columns
        return [(str(name), values) for name, values in frame.items()]
    if type(frame).__module__.startswith("polars") and type(frame).__name__ == "DataFrame":
        return [(name, from_polars(frame[name])) for name in frame.columns]
    raise GMMVAEError(f"{source} is a {type(frame).__name__}; give a pandas or polars DataFrame")


def from_polars(series: Any) -> "pd.Series[Any]":
    """A column of polars, without pyarrow."""
    import pandas as pd

    if series.dtype.is_numeric():
        return pd.Series(series.to_numpy())
    values = series.to_list()
    if type(series.dtype).__name__ in ("Categorical", "Enum"):
        given = [*series.dtype.categories] if type(series.dtype).__name__ == "Enum" else None
        return pd.Series(pd.Categorical(values, given, ordered=given is not None))
    return pd.Series(values, dtype=object)


def _column(series: "pd.Series[Any]", as_text: bool, marks: Marks, where: str) -> Any:
    """The values of a column: float64, or a categorical of text."""
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        cells = [_cell(value, where) for value in dtype.categories]
        codes = np.asarray(series.cat.codes)
        return text_column(codes, [_as_text(cell) for cell in cells], ordered=bool(dtype.ordered))
    kind = getattr(dtype, "kind", "O")
    if kind in "iuf" and not as_text:
        return series.to_numpy(np.float64, na_value=np.nan)
    try:
        codes, found = pd.factorize(series)
    except TypeError as error:
        raise GMMVAEError(f"{where} holds lists or tables; give numbers or text") from error
    cells = [_cell(value, where) for value in found]
    if not as_text:
        counts = np.bincount(codes[codes >= 0], minlength=len(cells))
        table = numbers_among(cells, counts, marks)
        if table is not None:
            return np.append(table, np.nan)[codes]
    return text_column(codes, [_as_text(cell) for cell in cells])


def _cell(value: Any, where: str) -> float | str | None:
    """A cell as number or stripped text; None: missing."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, datetime.date | datetime.time | np.datetime64):
        return str(value).removesuffix(" 00:00:00")
    if isinstance(value, numbers.Number | np.number) and not isinstance(
        value, complex | np.complexfloating
    ):
        number = float(value)  # type: ignore[arg-type]
        if isinstance(value, int | np.integer) and abs(number) >= 2**53:
            return str(int(value))  # all digits of an identifier
        return None if math.isnan(number) else number
    if isinstance(value, datetime.timedelta | np.timedelta64):
        return str(value)
    raise GMMVAEError(f"{where} holds a {type(value).__name__}; give numbers or text")


def _as_text(cell: float | str | None) -> str:
    return number_text(cell) if isinstance(cell, float) else cell or ""
