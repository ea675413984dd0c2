"""Rows from files: npz, npy, csv, parquet, and IDX images for prediction."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.dataset import Dataset
from pyro_gmmvae.data.digits import IMAGES, read_idx
from pyro_gmmvae.data.missing_cells import usable_rows
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_table, require_file

TABLES = (".csv", ".parquet")


DEFAULT_LABEL = "label"
CHANNELS = (1, 3, 4)


def load_array(
    path: Path,
    *,
    label_column: str = DEFAULT_LABEL,
    missing: str = "model",
    drop_nonfinite: bool = False,
    read_labels: bool = True,
) -> Dataset:
    """Rows and labels of a file.

    - csv, parquet: numeric feature columns and, optionally, ``label_column``;
    - npz: ``x`` (N, ...) and, optionally, ``y`` (N,) or an array named ``label_column``;
    - npy: x (N, ...), no labels;
    - IDX images (gzipped or not), no labels.

    Labels are strings or integers; an empty one, -1 or NaN is unknown. Units of the rows are
    found later, see :mod:`pyro_gmmvae.data.value_range`.

    Args:
        path: the file.
        label_column: name of the label column or array; any name but the default must exist.
        missing: NaN is an entry that is not known ("model"), or an error ("refuse").
        drop_nonfinite: drop rows that hold NaN or infinities; else infinities are an error.
        read_labels: if false, labels are not needed and not read.

    Raises:
        GMMVAEError: the file is missing, empty, of another kind, or has values that can't be used.
    """
    require_file(path)
    columns = None
    if path.suffix in TABLES:
        x, raw_labels, columns = read_table_rows(path, label_column)
    elif path.suffix in (".npz", ".npy"):
        x, raw_labels = _from_numpy(path, label_column)
    elif "idx3" in path.name:
        x, raw_labels = read_idx(path, IMAGES), None
    else:
        raise GMMVAEError(f"{path} is of an unknown kind; use .npz, .npy, .csv, .parquet or IDX")
    if read_labels and raw_labels is None and label_column != DEFAULT_LABEL:
        raise GMMVAEError(f"{path} has no column or array {label_column!r} to take labels from")
    x = checked_rows(x, path)
    y, classes = encode_labels(raw_labels if read_labels else None, len(x), path)
    kept, has_missing = usable_rows(x, path, missing=missing, drop=drop_nonfinite)
    return Dataset.of_arrays(
        x[kept], y[kept], classes, columns=columns, kept=kept, missing=has_missing
    )


def read_table_rows(path: Path, label_column: str) -> tuple[NDArray[Any], Any, tuple[str, ...]]:
    """x (N, D), the label column (or None) and the features' names of a csv or parquet file."""
    table = read_table(path)
    labels = table.pop(label_column).to_numpy() if label_column in table.columns else None
    if table.empty:
        raise GMMVAEError(f"{path} holds no rows or no columns: {table.shape}")
    if all(_is_number(str(c)) for c in table.columns):
        raise GMMVAEError(f"{path} has no header: its first line must name the columns")
    if any(str(c).startswith("Unnamed:") for c in table.columns):
        raise GMMVAEError(
            f"{path} has a column without a name (a saved row index?); write it without one"
        )
    text = [str(c) for c in table.columns if table[c].dtype.kind not in "iufb"]
    if text:
        raise GMMVAEError(
            f"{path}: columns {', '.join(text[:5])} are not numeric; name the label with "
            "--label-column and remove other text columns"
        )
    return table.to_numpy(np.float64), labels, tuple(str(c) for c in table.columns)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# RuntimeError: an encrypted entry; NotImplementedError: a compression of other programs
_NOT_READABLE = (
    *(ValueError, OSError, EOFError, KeyError),
    *(RuntimeError, NotImplementedError, zipfile.BadZipFile),
)


def _from_numpy(path: Path, label_column: str) -> tuple[NDArray[Any], Any]:
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return content, None
            arrays = {name: content[name] for name in content.files}
    except _NOT_READABLE as error:
        raise GMMVAEError(
            f"{path} can't be read as {path.suffix[1:]}: damaged, another kind, or pickled objects"
        ) from error
    if "x" not in arrays:
        raise GMMVAEError(
            f"{path} holds {', '.join(arrays) or 'nothing'}; the rows must be named x"
        )
    name = "y" if label_column == DEFAULT_LABEL and "y" in arrays else label_column
    return arrays["x"], arrays.get(name)


def checked_rows(x: NDArray[Any], path: Path) -> NDArray[Any]:
    """A view of the rows as the models take them: (N, D) or (N, channels, height, width)."""
    if x.dtype.kind not in "iufb" or x.ndim < 2:
        raise GMMVAEError(f"{path}: rows must be numbers (N, ...), not {x.dtype} {x.shape}")
    if x.size == 0:
        raise GMMVAEError(f"{path} holds no rows or no columns: {x.shape}")
    if x.ndim == 4 and x.shape[-1] in CHANNELS and x.shape[1] not in CHANNELS:
        return np.moveaxis(x, -1, 1)  # channels last, as images are often stored
    # images without a channel axis get one
    return x[:, None] if x.ndim == 3 else x


def encode_labels(raw: Any, rows: int, path: Path) -> tuple[Labels, tuple[str, ...]]:
    """Class numbers with -1 for unknown, and the classes' names in order."""
    if raw is None:
        return np.full(rows, -1, np.int64), ()
    import pandas as pd

    if raw.shape != (rows,):
        raise GMMVAEError(f"{path}: {rows} rows and labels of shape {raw.shape}")
    if raw.dtype.kind in "Vc":
        raise GMMVAEError(f"{path}: labels must be whole numbers or text, not {raw.dtype}")
    labels = pd.Series(raw)
    if labels.dtype.kind == "b":
        labels = labels.astype(str)
    if labels.dtype.kind in "iuf":
        present = labels[labels.notna()]
        if (present.abs() > 2**53).any() or (present != present.round()).any():
            raise GMMVAEError(f"{path}: labels must be whole numbers or text, not {present.max()}")
        if (present < -1).any():
            raise GMMVAEError(f"{path}: label {int(present.min())} is out of range (-1: unknown)")
        unknown = labels.isna() | (labels == -1)
        labels = labels.astype("Int64")
    else:
        labels = labels.astype("string").str.strip()
        unknown = labels.isna() | labels.isin(["", "-1"])
    labels = labels.mask(unknown)
    codes, values = pd.factorize(labels, sort=True)
    if len(values) == 1 and str(values[0]) == "1" and unknown.any():
        raise GMMVAEError(
            f"{path}: the only label besides -1 (unknown) is 1; write two classes -1/+1 as 0/1"
        )
    return codes.astype(np.int64), tuple(str(value) for value in values)
