"""Rows that do not fit into memory: folders of npy or parquet shards, read on demand."""

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.arrays import checked_rows
from pyro_gmmvae.data.dataset import DEFAULT_LABEL, Dataset
from pyro_gmmvae.data.missing_cells import usable_rows
from pyro_gmmvae.data.row_labels import encode_labels
from pyro_gmmvae.data.table_rows import read_table_rows
from pyro_gmmvae.data.transform import ROWS_AT_ONCE, Labels, Moments, Transform
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import ending, require_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SAMPLED = 1000


class Shards:
    """Several arrays (n_i, *x_shape) as one (N, *x_shape), indexed by row numbers.

    The arrays are memory-mapped: only indexed rows are read from disk.

    Args:
        arrays: of one type, and of one shape except for their lengths.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]]) -> None:
        self.arrays = list(arrays)
        self.ends = np.cumsum([len(a) for a in arrays])
        self.dtype = arrays[0].dtype
        self.shape = (int(self.ends[-1]), *arrays[0].shape[1:])
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Labels) -> NDArray[Any]:
        """The rows of these numbers, in this order."""
        rows_read = np.empty((len(rows), *self.shape[1:]), self.dtype)
        owner = np.searchsorted(self.ends, rows, "right")
        for i in np.unique(owner):
            of_shard = owner == i
            first = self.ends[i] - len(self.arrays[i])
            rows_read[of_shard] = self.arrays[i][rows[of_shard] - first]
        return rows_read

    def chunks(self, rows: Labels) -> Iterator[NDArray[Any]]:
        """The rows of these numbers, in chunks."""
        for start in range(0, len(rows), ROWS_AT_ONCE):
            yield self[rows[start : start + ROWS_AT_ONCE]]

    def sample(self) -> NDArray[Any]:
        """Up to 1,000 rows, always the same ones, spread over all shards."""
        return self[np.unique(np.linspace(0, len(self) - 1, SAMPLED).astype(np.int64))]

    def moments(self, rows: Labels) -> Moments:
        """Moments of each entry over some rows, which are read twice, in chunks.

        Raises:
            GMMVAEError: if their squares are too large for a mean.
        """
        known = sum((~np.isnan(chunk)).sum(0) for chunk in self.chunks(rows))
        count = np.maximum(known, 1)
        mean = sum(np.nansum(chunk, 0, np.float64) for chunk in self.chunks(rows)) / count
        squares = (np.square(c.astype(np.float64) - mean) for c in self.chunks(rows))
        variance = sum(np.nansum(s, 0) for s in squares) / count
        variance = np.where(known, variance, 1.0)
        if not np.isfinite(variance).all():
            raise GMMVAEError("the shards hold numbers too large to standardize; clean them")
        return Moments(np.asarray(known), np.asarray(mean), variance)


def blocks(x: "NDArray[Any] | Shards") -> Iterator[NDArray[Any]]:
    """All rows in blocks, in their order."""
    for start in range(0, len(x), ROWS_AT_ONCE):
        stop = min(len(x), start + ROWS_AT_ONCE)
        yield x[start:stop] if isinstance(x, np.ndarray) else x[np.arange(start, stop)]


class StreamedRows:
    """Rows in the model's units, read and transformed when a batch needs them.

    Args:
        x: the shards.
        numbers: (N,) of the rows.
        transform: to the model's units.
        device, dtype: of the rows as tensors.
    """

    def __init__(
        self,
        x: Shards,
        numbers: Labels,
        transform: Transform,
        device: "torch.device",
        dtype: "torch.dtype",
    ) -> None:
        self.x, self.numbers, self.transform = x, numbers, transform
        self.device, self.dtype = device, dtype

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: "Tensor") -> "Tensor":
        import torch

        x = self.transform(self.x[self.numbers[rows.cpu().numpy()]])
        read = torch.from_numpy(x).to(self.dtype)
        if self.device.type == "cuda":
            return read.pin_memory().to(self.device, non_blocking=True)
        return read.to(self.device)


def load_shards(folder: Path, label_column: str, missing: str = "model") -> Dataset:
    """The rows of a folder, which stay on disk.

    The folder holds ``x-0.npy``, ``x-1.npy``, ... (n_i, ...) and, where rows have labels,
    ``y-0.npy``, ... (n_i,), -1 or NaN where unknown; or parquet files, which are converted once
    to such arrays in the user's cache. Digits may be padded with zeros. NaN is taken as for
    :func:`pyro_gmmvae.data.load_array`.

    Raises:
        GMMVAEError: no shards, a missing or damaged one, one of another width or type, or one
            that holds infinite values.
    """
    tables = sorted(file for file in folder.iterdir() if ending(file) == ".parquet")
    files, labels, columns = _unpacked(tables, label_column) if tables else _numbered_pairs(folder)
    arrays = [checked_rows(_mapped(file), file) for file in files]
    _check_alike(arrays, files)
    x = Shards(arrays)
    has_missing = [_has_missing(a, file, missing) for a, file in zip(arrays, files, strict=True)]
    if label_column != DEFAULT_LABEL and not (tables and labels):
        raise GMMVAEError(f"{folder} has no column {label_column!r} to take labels from")
    raw = _labels_of(labels) if labels else None
    y, classes = encode_labels(raw, len(x), folder)
    return Dataset.of_arrays(x, y, classes, columns=columns, missing=any(has_missing))


def _numbered_pairs(folder: Path) -> tuple[list[Path], list[Path], None]:
    """Files of rows and, where there are any, of labels."""
    rows, labels = _numbered(folder, "x"), _numbered(folder, "y")
    if not rows:
        raise GMMVAEError(
            f"{folder} is a folder without shards: x-0.npy, x-1.npy, ... (and y-0.npy, ...), or "
            "parquet files"
        )
    if labels and len(labels) != len(rows):
        raise GMMVAEError(f"{folder} holds {len(rows)} x shards and {len(labels)} y shards")
    for x, y in zip(rows, labels, strict=False):
        if _mapped(y).shape != _mapped(x).shape[:1]:
            raise GMMVAEError(f"{y} holds labels of shape {_mapped(y).shape} for {x.name}")
    return rows, labels, None


def _numbered(folder: Path, name: str) -> list[Path]:
    """``name-0.npy``, ``name-1.npy``, ... in the order of their numbers."""
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        match = re.fullmatch(rf"{name}-(\d+)\.npy", file.name, re.IGNORECASE)
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise GMMVAEError(
                f"{folder}: {found[number].name} and {file.name} have the same number"
            )
        found[number] = file
    for expected, number in enumerate(sorted(found)):
        if number != expected:
            raise GMMVAEError(f"{folder}: shard {name}-{expected}.npy is missing")
    return [found[i] for i in sorted(found)]


def _mapped(file: Path) -> NDArray[Any]:
    require_file(file)
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise GMMVAEError(f"{file} can't be read as npy: damaged, empty or pickled") from error
    if not isinstance(array, np.ndarray):
        raise GMMVAEError(f"{file} can't be read as npy: it holds several arrays")
    return array


def _check_alike(arrays: Sequence[NDArray[Any]], files: Sequence[Path]) -> None:
    first = arrays[0]
    for file, array in zip(files, arrays, strict=True):
        if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
            raise GMMVAEError(
                f"{file} holds rows of {array.dtype} {array.shape[1:]}, and {files[0].name} rows "
                f"of {first.dtype} {first.shape[1:]}"
            )


def _has_missing(array: NDArray[Any], file: Path, missing: str) -> bool:
    """Whether a shard holds NaN; it is read in chunks, and values are checked."""
    found = False
    for start in range(0, len(array) if array.dtype.kind == "f" else 0, ROWS_AT_ONCE):
        rows = array[start : start + ROWS_AT_ONCE]
        found |= usable_rows(rows, file, missing=missing, first=start)[1]
    return found


def _labels_of(files: Sequence[Path]) -> NDArray[Any]:
    """The labels of all shards: numbers in all of them, or text in all of them."""
    found = [_mapped(file) for file in files]
    numeric = [labels.dtype.kind in "iufb" for labels in found]
    if len(set(numeric)) > 1:
        other = files[numeric.index(not numeric[0])]
        words = ("text", "numbers") if numeric[0] else ("numbers", "text")
        raise GMMVAEError(
            f"{other} holds {words[0]} as labels, and {files[0].name} {words[1]}; use one kind"
        )
    return np.concatenate(found)


def _unpacked(
    tables: Sequence[Path], label_column: str
) -> tuple[list[Path], list[Path], tuple[str, ...]]:
    """Convert tables to files of rows and of labels; also the names of their columns."""
    folders, names = [], []
    for file in tables:
        folder = _cache_of(file, label_column)
        if not (folder / "columns.txt").exists():
            _unpack(file, label_column, folder)
        folders.append(folder)
        names.append(tuple((folder / "columns.txt").read_text("utf-8").split("\n")))
        if names[-1] != names[0]:
            raise GMMVAEError(f"{file} has other columns than {tables[0].name}")
    labels = [folder / "y.npy" for folder in folders if (folder / "y.npy").exists()]
    if labels and len(labels) != len(folders):
        raise GMMVAEError(f"not every table of {tables[0].parent} has a column {label_column!r}")
    return [folder / "x.npy" for folder in folders], labels, names[0]


def _unpack(file: Path, label_column: str, folder: Path) -> None:
    """Write a table as arrays into a folder, atomically."""
    import pandas as pd

    x, labels, columns = read_table_rows(file, label_column)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        np.save(made / "x.npy", x)
        if labels is not None:
            np.save(made / "y.npy", np.where(pd.isna(labels), "", labels).astype("U"))
        (made / "columns.txt").write_text("\n".join(columns), "utf-8")
        with contextlib.suppress(OSError):  # another process was faster
            made.rename(folder)


def _cache_of(file: Path, label_column: str) -> Path:
    """The cache folder of a table; a table that changes gets a new one."""
    import pooch

    state = file.stat()
    key = f"{file.resolve()} {state.st_size} {state.st_mtime_ns} {label_column}"
    cache = Path(pooch.os_cache("pyro-gmmvae")) / "shards"
    return cache / hashlib.sha256(key.encode()).hexdigest()[:16]
