"""Tables of text: encoding, delimiter and decimal sign are found out, and rows read in chunks."""

import codecs
import csv
import gzip
import io
import itertools
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.cells import (
    MARKS,
    Marks,
    checked_names,
    is_header,
    marks_notes,
    number_of,
    numbers_among,
    text_column,
)
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import table_errors

if TYPE_CHECKING:
    import pandas as pd

SAMPLE, MAX_SAMPLE = 2**20, 2**26  # characters from which the layout is found out
BYTES_AT_ONCE, CELLS_AT_ONCE = 2**22, 2**22
DELIMITERS = ",;\t|"
_WIDE = "[\u3041-\u30ff\u4e00-\u9fff]"  # kana and kanji; katakana of half width are \uff61-\uff9f
_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_GUESSED_NOTE = "read as {}, a guess: save the file as UTF-8 if letters are wrong"
_TOO_LONG = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")
_WITH_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_WITH_POINT = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+")


@dataclass(frozen=True)
class _Layout:
    """How a file writes a table.

    Attributes:
        path: of the file.
        encoding: of its text.
        delimiter: between cells.
        decimal: the sign before decimals.
    """

    path: Path
    encoding: str
    delimiter: str
    decimal: str

    def chunks(self, width: int, **options: Any) -> "Iterator[pd.DataFrame]":
        """The rows below the header, columns named by their numbers."""
        import pandas as pd

        with _text_of(self.path, self.encoding) as file, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            reader = pd.read_csv(
                file,
                sep=self.delimiter,
                decimal=self.decimal,
                header=0,
                names=list(range(width)),
                index_col=False,
                keep_default_na=False,
                na_values=[""],
                skipinitialspace=True,
                low_memory=False,
                chunksize=max(CELLS_AT_ONCE // width, 1),
                **options,
            )
            try:
                yield from reader
            except pd.errors.ParserError as error:
                if found := _TOO_LONG.search(str(error)):
                    columns, line, cells = map(int, found.groups())
                    raise too_long(self.path, line, cells, columns) from error
                raise


def read_csv(path: Path, text: Collection[str] = ()) -> tuple[list[str], list[Any], list[str]]:
    """Names of the columns of a csv file, their values (N,), and notes.

    Values are float64 or categoricals of str, as in :class:`pyro_gmmvae.data.frames.RawFrame`.

    Args:
        path: the file, which may be gzipped.
        text: names of columns to read as text although they hold numbers.

    Raises:
        GMMVAEError: as :func:`pyro_gmmvae.data.frames.read_frame`.
    """
    with table_errors(path, "csv"):
        layout, names, rows, notes = _layout_of(path)
        if layout.decimal == ",":
            notes.append("numbers are read with a decimal comma")
        textual = {k for k, name in enumerate(names) if name in text}
        for row in rows:
            textual |= {k for k, cell in enumerate(row) if _is_text(cell, layout.decimal)}
        columns, marks = _read(layout, len(names), textual)
    return names, columns, notes + marks_notes(zip(names, marks, strict=True))


def read_cells(path: Path) -> tuple["pd.DataFrame", str, str]:
    """The cells of a csv file as their texts ("" where empty), its delimiter and decimal sign.

    Columns have the names of the first line, stripped, "" where there is none.

    Raises:
        GMMVAEError: as :func:`pyro_gmmvae.data.frames.read_frame`.
    """
    import pandas as pd

    with table_errors(path, "csv"):
        layout, names, _, _ = _layout_of(path)
        cells = pd.concat(layout.chunks(len(names), dtype=str)).fillna("")
    return cells.set_axis(names, axis=1), layout.delimiter, layout.decimal


# -- encoding and layout ---------------------------------------------------------------------------


def _bytes_of(path: Path) -> IO[bytes]:
    file = path.open("rb")
    start = file.read(2)
    file.seek(0)
    if start != b"\x1f\x8b":
        return file
    file.close()
    return cast(IO[bytes], gzip.open(path))


@contextmanager
def _text_of(path: Path, encoding: str) -> Iterator[IO[str]]:
    with _bytes_of(path) as binary, io.TextIOWrapper(binary, encoding, newline="") as file:
        yield file


def _encoding_of(path: Path) -> tuple[str, list[str]]:
    """The encoding of a file, and a note where it was guessed."""
    with _bytes_of(path) as file:
        block = file.read(BYTES_AT_ONCE)
        for mark, encoding in _ORDER_MARKS.items():
            if block.startswith(mark):
                return encoding, []
        zeros = [block[first:4096:2].count(0) for first in (0, 1)]
        if max(zeros) > 0.3 * len(block[:4096:2]):  # Latin letters in two bytes each
            encoding = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
            return encoding, [_GUESSED_NOTE.format(encoding)]
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block:
                decoder.decode(block)
                following = file.read(BYTES_AT_ONCE)
                decoder.decode(b"", final=not following)
                block = following
        except UnicodeDecodeError:
            encoding = _guessed(block)
            return encoding, [_GUESSED_NOTE.format(encoding)]
    return "utf-8", []


def _guessed(block: bytes) -> str:
    """Shift-JIS where the text is then one of Japanese words, else the encoding of Windows.

    In a text of Windows that is read as Shift-JIS, kanji stand among Latin letters.
    """
    lines = b"\n".join(line for line in block.split(b"\n") if not line.isascii())
    try:
        text = lines.decode("cp932")
    except UnicodeDecodeError:
        return "cp1252"
    wide = len(re.findall(_WIDE, text))
    others = len(re.findall(f"[\uff61-\uff9f]|[a-zA-Z]{_WIDE}|{_WIDE}[a-zA-Z]", text))
    return "cp932" if wide > 2 * others else "cp1252"


def _start_of(path: Path, encoding: str) -> str:
    """The first lines of a file."""
    with _text_of(path, encoding) as file:
        start = file.read(SAMPLE)
        while start.count("\n") < 20 and len(start) < MAX_SAMPLE and (more := file.read(SAMPLE)):
            start += more  # a header of many columns is long
    if "\0" in start:
        raise GMMVAEError(f"{path} can't be read as csv: it holds zero bytes, as no text does")
    if len(start) < SAMPLE:
        return start
    return start[: start.rfind("\n") + 1] or start


def _layout_of(path: Path) -> tuple[_Layout, list[str], list[list[str]], list[str]]:
    """The layout of a file, the names of its columns, its first rows, and notes.

    Raises:
        GMMVAEError: no header, two columns of one name, or a first row that is too long.
    """
    encoding, notes = _encoding_of(path)
    start = _start_of(path, encoding)

    def records(delimiter: str) -> Iterator[tuple[int, list[str]]]:
        lines = csv.reader(
            io.StringIO(start, newline=""), delimiter=delimiter, skipinitialspace=True
        )
        for record in lines:
            if any(record) or len(record) > 1:
                yield lines.line_num, [cell.strip() for cell in record]

    def fit(delimiter: str) -> tuple[float, int]:
        """The share of lines with as many cells as the header, and the number of cells."""
        widths = [len(record) for _, record in itertools.islice(records(delimiter), 50)]
        alone = not widths or widths[0] == 1
        return (0, 1) if alone else (widths.count(widths[0]) / len(widths), widths[0])

    delimiter = max(DELIMITERS, key=fit)
    rows = list(itertools.islice(records(delimiter), 2000))
    if not rows:
        raise GMMVAEError(f"{path} holds no text; its first line must name the columns")
    _, header = rows.pop(0)
    if not is_header(header):
        raise GMMVAEError(
            f"{path} has no header: its first line must name the columns, not hold numbers"
        )
    names = checked_names(header, str(path))
    for line, row in rows:
        if len(row) > len(names):
            raise too_long(path, line, len(row), len(names))
    cells = [row for _, row in rows]
    decimal = _decimal_sign(cells, delimiter)
    return _Layout(path, encoding, delimiter, decimal), names, cells, notes


def _decimal_sign(rows: Sequence[Sequence[str]], delimiter: str) -> str:
    """A comma where cells have decimal commas and none has a decimal point."""
    cells = [cell for row in rows for cell in row]
    commas = [cell for cell in cells if _WITH_COMMA.fullmatch(cell)]
    if not commas or any(map(_WITH_POINT.fullmatch, cells)):
        return "."
    # "1,234" between commas has separated thousands
    return "." if delimiter == "," and all(map(_THOUSANDS.fullmatch, commas)) else ","


def too_long(path: Path, line: int, cells: int, columns: int) -> GMMVAEError:
    """The error for a row with more cells than there are names of columns."""
    return GMMVAEError(
        f"{path}: line {line} has {cells} cells, and the first line names {columns} columns; "
        "quote a text that holds the delimiter, or name all columns"
    )


# -- rows ------------------------------------------------------------------------------------------


def _number(text: str, decimal: str) -> float | None:
    return number_of(text.replace(",", ".") if decimal == "," else text)


def _cell(text: str, decimal: str) -> float | str | None:
    number = _number(text, decimal)
    return number if number is not None else text or None


def _is_text(cell: str, decimal: str) -> bool:
    return bool(cell) and cell.casefold() not in MARKS and _number(cell, decimal) is None


def _read(layout: _Layout, width: int, textual: Collection[int]) -> tuple[list[Any], list[Marks]]:
    """Values of all columns, and the marks of missing cells in columns of numbers.

    Args:
        layout: of the file.
        width: the number of columns.
        textual: numbers of columns that are read as text; further ones are found by their cells,
            and read in a second pass.
    """
    numeric = [k for k in range(width) if k not in textual]
    marks, texts = [Marks() for _ in range(width)], {k: _Texts() for k in sorted(textual)}
    blocks, others = list[NDArray[np.float64]](), set[int]()
    for chunk in layout.chunks(width, dtype=dict.fromkeys(texts, str)):
        block = np.empty((len(numeric), len(chunk)))
        for place, k in enumerate(numeric):
            values = None if k in others else _numbers(chunk[k], layout.decimal, marks[k])
            if values is None:
                others.add(k)
            else:
                block[place] = values
        for k, column in texts.items():
            column.add(chunk[k])
        blocks.append(block)
    numbers = _joined(blocks, len(numeric))
    columns: list[Any] = [None] * width
    for place, k in enumerate(numeric):
        columns[k] = numbers[place]
        if marks[k] and np.isnan(columns[k]).all():
            others.add(k)
    if others:
        options = {"usecols": sorted(others), "dtype": dict.fromkeys(others, str)}
        texts |= {k: _Texts() for k in others}
        for chunk in layout.chunks(width, **options):
            for k in others:
                texts[k].add(chunk[k])
    for k, column in texts.items():
        columns[k], marks[k] = column.values(), Marks()
    return columns, marks


def _joined(blocks: list[NDArray[np.float64]], columns: int) -> NDArray[np.float64]:
    """Blocks (columns, n_i) as (columns, N); each is freed when it has been copied."""
    joined = np.empty((columns, sum(block.shape[1] for block in blocks)))
    end = joined.shape[1]
    while blocks:
        block = blocks.pop()
        joined[:, end - block.shape[1] : end] = block
        end -= block.shape[1]
    return joined


def _numbers(series: "pd.Series[Any]", decimal: str, marks: Marks) -> NDArray[Any] | None:
    """Cells as numbers, NaN where missing; None where some are other texts."""
    import pandas as pd

    if series.dtype.kind in "iuf":
        return series.to_numpy()
    if series.dtype.kind == "b":
        return None
    codes, found = pd.factorize(series)
    cells = [_cell(str(text).strip(), decimal) for text in found]
    counts = np.bincount(codes[codes >= 0], minlength=len(cells))
    table = numbers_among(cells, counts, marks)
    return None if table is None else np.append(table, np.nan)[codes]


class _Texts:
    """Cells of a column of text, each different text once."""

    def __init__(self) -> None:
        self.place: dict[str, int] = {}
        self.codes: list[NDArray[np.int64]] = []

    def add(self, series: "pd.Series[Any]") -> None:
        """Add the cells of a chunk."""
        import pandas as pd

        codes, found = pd.factorize(series)
        places = [self.place.setdefault(text.strip(), len(self.place)) for text in found]
        self.codes.append(np.array([*places, -1], np.int64)[codes])

    def values(self) -> "pd.Categorical":
        """All cells that were added."""
        return text_column(np.concatenate([*self.codes, np.empty(0, np.int64)]), list(self.place))
