"""The cells of a table as its file writes them, of which missing ones are filled."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.cells import number_text
from pyro_gmmvae.data.csv_files import read_cells
from pyro_gmmvae.data.frames import CSV, read_frame
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_file, ending, table_errors

if TYPE_CHECKING:
    import pandas as pd

WRITTEN = (".csv", ".parquet", ".xlsx")
DIGITS = 6  # of a number that fills a cell


@dataclass(frozen=True)
class CellTable:
    """A table whose cells stay as they are, but for missing ones that are filled.

    Attributes:
        cells: the table, with all columns of the file; of a csv file texts.
        missing: for each column with a name, (N,) whether a cell is missing.
        delimiter: of a csv file; None: cells have the types of a frame.
        decimal: the sign before decimals in a csv file.
    """

    cells: "pd.DataFrame"
    missing: Mapping[str, NDArray[np.bool_]]
    delimiter: str | None = None
    decimal: str = "."

    @classmethod
    def read(cls, path: Path, *, typed: bool = False) -> "CellTable":
        """The cells of a table; see :func:`pyro_gmmvae.data.frames.read_frame` for its formats.

        Args:
            path: the file.
            typed: numbers of a csv file as numbers, without columns that have no name.

        Raises:
            GMMVAEError: as :func:`pyro_gmmvae.data.frames.read_frame`.
        """
        import pandas as pd

        frame = read_frame(path)
        missing = frame.missing
        ending = Path(path.name.lower().removesuffix(".gz")).suffix
        if ending in CSV:
            if typed:
                return cls(frame.table, missing)
            cells, delimiter, decimal = read_cells(path)
            return cls(cells, missing, delimiter, decimal)
        readers: dict[str, Any] = {".parquet": pd.read_parquet, ".feather": pd.read_feather}
        with table_errors(path, ending[1:]):
            cells = readers.get(ending, pd.read_excel)(path)
        return cls(cells, missing)

    def filled(self, name: str, values: Sequence[float | str]) -> "CellTable":
        """The table with the missing cells of a column filled.

        Args:
            name: of the column.
            values: (N,) numbers, or texts; those of cells that are not missing are not read.
        """
        rows, place = np.flatnonzero(self.missing[name]), self._place(name)
        column, new = self.cells.iloc[:, place], [values[row] for row in rows.tolist()]
        if self.delimiter is not None:
            column = column.copy()
            column.iloc[rows] = [self._text(value) for value in new]
        else:
            column = _with_values(column, rows, new)
        return replace(self, cells=self._with_column(place, column))

    def extended(
        self, name: str, values: NDArray[np.float64], at: int | None = None
    ) -> "CellTable":
        """The table with a further column of numbers (N,), empty where NaN.

        Raises:
            GMMVAEError: the table has a column of this name.
        """
        if any(str(column).strip() == name for column in self.cells.columns):
            raise GMMVAEError(f"the table has a column {name!r} already; rename it in the file")
        column: Any = values
        if self.delimiter is not None:
            column = ["" if np.isnan(value) else self._text(float(value)) for value in values]
        cells = self.cells.copy()
        cells.insert(cells.shape[1] if at is None else at, name, column, allow_duplicates=True)
        return replace(self, cells=cells)

    @classmethod
    def stacked(cls, tables: "Sequence[CellTable]") -> "CellTable":
        """The rows of tables of the same columns, one below the other."""
        import pandas as pd

        return replace(tables[0], cells=pd.concat([one.cells for one in tables]), missing={})

    def write(self, path: Path) -> None:
        """Write a csv, parquet or xlsx file, by the ending.

        Raises:
            GMMVAEError: a package that is not installed, or cells that the format can't hold.
        """
        with atomic_file(path) as file, table_errors(path, ending(path)[1:]):
            if ending(path) == ".csv":
                self.cells.to_csv(file, sep=self.delimiter or ",", index=False)
            elif ending(path) == ".parquet":
                self.cells.to_parquet(file, index=False)
            else:
                with file.open("wb") as binary:  # pandas goes by the ending of a name
                    self.cells.to_excel(binary, index=False, engine="openpyxl")

    def _place(self, name: str) -> int:
        return [str(column).strip() for column in self.cells.columns].index(name)

    def _text(self, value: float | str) -> str:
        if isinstance(value, str):
            return value
        return number_text(float(f"{value:.{DIGITS}g}")).replace(".", self.decimal)

    def _with_column(self, place: int, column: "pd.Series[Any]") -> "pd.DataFrame":
        cells = self.cells.copy()
        cells.isetitem(place, column.array)
        return cells


def _with_values(
    column: "pd.Series[Any]", rows: NDArray[np.intp], values: Sequence[float | str]
) -> "pd.Series[Any]":
    """A column with other values in some rows; its type changes where it can't hold them."""
    import pandas as pd
    from pandas.api import types

    dtype = column.dtype
    if types.is_bool_dtype(dtype):
        new: list[Any] = [value == "True" for value in values]
    elif types.is_numeric_dtype(dtype):
        new = [float(value) for value in values]
        if types.is_integer_dtype(dtype) and any(value % 1 for value in new):
            column = column.astype("Float64")
    elif any(isinstance(value, float) for value in values):  # texts of numbers
        column, new = pd.to_numeric(column, errors="coerce").astype(float), list(values)
    elif isinstance(dtype, pd.CategoricalDtype):
        new = _cells(values, dtype.categories)
        # of values that another file has
        further = [cell for cell in dict.fromkeys(new) if cell not in dtype.categories]
        column = column.cat.add_categories(further)
    else:
        new = _cells(values, column.dropna().unique())
    column = column.copy()
    column.iloc[rows] = new
    return column


def _cells(texts: Sequence[float | str], known: Iterable[Any]) -> list[Any]:
    """Cells with these texts: those that the column has already, or the texts themselves."""
    by_text = {str(one).strip(): one for one in known}
    by_text |= {number_text(float(one)): one for one in by_text.values() if _is_number(one)}
    if any(isinstance(one, bool | np.bool_) for one in by_text.values()):
        by_text |= {"True": True, "False": False}
    return [by_text.get(str(text), text) for text in texts]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
