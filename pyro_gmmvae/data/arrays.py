"""Rows from files: npz, npy, csv, parquet, and IDX images for prediction."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.dataset import DEFAULT_LABEL, DataOptions, Dataset
from pyro_gmmvae.data.digits import IMAGES, read_idx
from pyro_gmmvae.data.frames import TABLES, is_table
from pyro_gmmvae.data.kinds import RowKind
from pyro_gmmvae.data.label_columns import LabelColumns
from pyro_gmmvae.data.missing_cells import usable_rows
from pyro_gmmvae.data.table_rows import load_table
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import ending, require_file

CHANNELS = (1, 3, 4)


def load_array(
    path: Path,
    options: DataOptions = DataOptions(),  # noqa: B008
    *,
    kind: RowKind | None = None,
    read_labels: bool | None = True,
) -> Dataset:
    """Rows and labels of a file.

    - tables: see :func:`pyro_gmmvae.data.table_rows.load_table`;
    - npz: ``x`` (N, ...) and, optionally, ``y`` (N,) or the array of the labels' name, and ``p``
      (N, C), soft labels of the classes 0 to C - 1;
    - npy: x (N, ...), no labels;
    - IDX images (gzipped or not), no labels.

    Labels are strings or integers; an empty one, -1 or NaN is unknown. Units of the rows are
    found later, see :mod:`pyro_gmmvae.data.value_range`.

    Args:
        path: the file.
        options: names of the columns or arrays with labels, weights and groups, and the use of NaN
            and infinities; of tables also those of ``load_table``. Any name of labels but the
            default must exist.
        kind: of the rows of a run, whose columns are read from a table.
        read_labels: false: labels are not needed and not read; None: they may be absent.

    Raises:
        GMMVAEError: the file is missing, empty, of another kind, or has values that can't be used.
    """
    if is_table(path):
        return load_table(path, options, kind=kind, read_labels=read_labels)
    require_file(path)
    arrays: dict[str, NDArray[Any]] = {}
    if ending(path) in (".npz", ".npy"):
        arrays = _from_numpy(path)
        x = arrays["x"]
    elif "idx3" in path.name.lower():
        x = read_idx(path, IMAGES)
    else:
        raise GMMVAEError(
            f"{path} is of an unknown kind; use .npz, .npy, IDX, or a table ({', '.join(TABLES)})"
        )
    x = checked_rows(x, path)
    labels = LabelColumns(np.full(len(x), -1, np.int64))
    if read_labels is not False:
        named = None if options.label_column == DEFAULT_LABEL else options.label_column
        if read_labels is None and named not in arrays:
            named = None
        beside = options.weight_column, options.group_column
        labels = _labels(arrays, len(x), path, named, *beside)
    kept, has_missing = usable_rows(x, path, missing=options.missing, drop=options.drop_nonfinite)
    labels = labels.at(kept)
    made = Dataset.of_arrays(x[kept], labels.y, labels.classes, kept=kept, missing=has_missing)
    return replace(made, notes=labels.notes, **labels.beside)


def _labels(
    arrays: dict[str, NDArray[Any]],
    rows: int,
    path: Path,
    label: str | None,
    weight: str | None,
    group: str | None,
) -> LabelColumns:
    """Labels, weights and groups among the arrays of a file."""
    for what, name in (("labels", label), ("weights", weight), ("groups", group)):
        if name is not None and name not in arrays:
            raise GMMVAEError(f"{path} has no column or array {name!r} to take {what} from")
        if what == "groups" and name is not None and arrays[name].shape != (rows,):
            raise GMMVAEError(f"{path}: {rows} rows and groups of shape {arrays[name].shape}")
    if label is None:
        label = "y" if "y" in arrays else DEFAULT_LABEL
    p = arrays.get("p")
    soft: dict[str, NDArray[Any]] = {}
    if p is not None and "p" not in (label, weight, group):
        if p.ndim != 2 or len(p) != rows:
            raise GMMVAEError(f"{path}: {rows} rows and soft labels p of shape {p.shape}")
        soft = {f"p_{k}": p[:, k] for k in range(p.shape[1])}
    return LabelColumns.of_columns(
        arrays | soft,
        rows,
        path,
        label=arrays.get(label),
        soft=soft,
        weight=weight,
        group=group,
    )


# RuntimeError: an encrypted entry; NotImplementedError: a compression of other programs
_NOT_READABLE = (
    *(ValueError, OSError, EOFError, KeyError),
    *(RuntimeError, NotImplementedError, zipfile.BadZipFile),
)


def _from_numpy(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays by name; that of an npy file is x."""
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return {"x": content}
            members = {name: content[name] for name in content.files}
    except _NOT_READABLE as error:
        raise GMMVAEError(
            f"{path} can't be read as {ending(path)[1:]}: damaged, another kind, or pickled objects"
        ) from error
    # other members of the zip file are bytes
    arrays = {name: one for name, one in members.items() if isinstance(one, np.ndarray)}
    if "x" not in arrays:
        raise GMMVAEError(
            f"{path} holds {', '.join(arrays) or 'nothing'}; the rows must be named x"
        )
    return arrays


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
