"""Rows and labels of a table in a file: each column with a kind of its own, or plain numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.column_spec import DISCRETE, Column
from pyro_gmmvae.data.cells import is_plain_number
from pyro_gmmvae.data.column_codes import encode
from pyro_gmmvae.data.column_kinds import (
    ColumnReport,
    infer_columns,
    left_out_notes,
    listed,
    parse_overrides,
    unknown_column,
)
from pyro_gmmvae.data.column_table import ColumnTable
from pyro_gmmvae.data.dataset import DEFAULT_LABEL, DataOptions, Dataset
from pyro_gmmvae.data.frames import RawFrame, read_frame
from pyro_gmmvae.data.kinds import RowKind
from pyro_gmmvae.data.missing_cells import usable_rows
from pyro_gmmvae.data.row_labels import encode_labels
from pyro_gmmvae.data.table_oddities import label_notes, lookalike_note
from pyro_gmmvae.errors import GMMVAEError


def load_table(
    path: Path,
    options: DataOptions,
    *,
    kind: RowKind | None = None,
    read_labels: bool = True,
) -> Dataset:
    """Rows and labels of a table.

    Each column gets a kind and a likelihood of its own. With another likelihood than "columns" the
    rows are plain numbers.

    Args:
        path: as for :func:`pyro_gmmvae.data.frames.read_frame`.
        options: of these the column of labels, kinds of columns, covariates, likelihood, and the
            use of missing cells.
        kind: of the rows of a run: its columns are read, and others ignored.
        read_labels: if false, labels are not needed and not read.

    Raises:
        GMMVAEError: as :func:`pyro_gmmvae.data.frames.read_frame`,
            :func:`pyro_gmmvae.data.column_kinds.infer_columns`,
            :func:`pyro_gmmvae.data.column_codes.encode` and
            :func:`pyro_gmmvae.data.missing_cells.usable_rows`; a column of labels that the table
            does not have, or that holds no labels.
    """
    frame, y, classes, reports = inspected(path, options, kind=kind, read_labels=read_labels)
    notes = [*frame.notes, *left_out_notes(reports)]
    if reports:
        columns = tuple(report.column for report in reports if report.column is not None)
    elif kind is not None and kind.columns is not None:
        columns = kind.specs or tuple(Column(name, "real") for name in kind.columns)
    else:
        columns = _plain_columns(frame)
    x, unseen = encode(frame, columns)
    del frame  # its memory is needed
    kept, has_missing = usable_rows(x, path, missing=options.missing, drop=options.drop_nonfinite)
    x, y = (x, y) if len(kept) == len(x) else (x[kept], y[kept])
    if has_missing and (empty := np.flatnonzero(np.isnan(x).all(1))).size:
        notes.append(f"{len(empty)} rows have no cell (the first is row {kept[empty[0]]})")
    notes += [*unseen, *label_notes(x, y, classes, columns)]
    if kind.specs if kind is not None else reports:
        return Dataset(x, y, classes, ColumnTable(columns), kept=kept, notes=tuple(notes))
    names = [column.name for column in columns]
    dataset = Dataset.of_arrays(x, y, classes, columns=names, kept=kept, missing=has_missing)
    return replace(dataset, notes=tuple(notes))


def inspected(
    path: Path,
    options: DataOptions,
    *,
    kind: RowKind | None = None,
    read_labels: bool = True,
) -> tuple[RawFrame, NDArray[np.int64], tuple[str, ...], list[ColumnReport]]:
    """The table without its labels, the labels, the classes' names, and reports of its columns.

    There are no reports where the rows are plain numbers, or of the kind of a run.

    Raises:
        GMMVAEError: as :func:`load_table`.
    """
    overrides = parse_overrides(options.column)
    codes = {name for name, wanted in overrides.items() if wanted.partition("(")[0] in DISCRETE}
    if kind is not None:
        codes = {c.name for c in kind.specs if not all(map(is_plain_number, c.values))}
    frame = read_frame(path, {options.label_column, *codes})
    names = list(frame.table.columns)
    found = options.label_column in names
    labels = frame.table[options.label_column] if found else None
    if read_labels and labels is None and options.label_column != DEFAULT_LABEL:
        raise unknown_column(options.label_column, names, str(path))
    y, classes = encode_labels(labels if read_labels else None, len(frame.table), path)
    if found and (kind is None or options.label_column not in (kind.columns or ())):
        frame = frame.without([options.label_column])
    if not found and read_labels:
        frame = replace(frame, notes=(*frame.notes, *lookalike_note(names)))
    plain = options.likelihood not in (None, "columns")
    if kind is not None or plain:
        if overrides or options.covariates:
            raise GMMVAEError(
                f"kinds of columns and covariates are for likelihood=columns, not for "
                f"{options.likelihood}; leave one of the two out"
            )
        return frame, y, classes, []
    return frame, y, classes, infer_columns(frame, overrides, options.covariates)


def _plain_columns(frame: RawFrame) -> tuple[Column, ...]:
    """All columns as ones of numbers.

    Raises:
        GMMVAEError: a column of text, or none.
    """
    names = list(frame.table.columns)
    text = [name for name in names if frame.table[name].dtype.kind != "f"]
    if text:
        raise GMMVAEError(
            f"{frame.source}: columns {listed(text)} are text, and this likelihood is of numbers; "
            "name the label with --label-column, remove other text columns, or take "
            "likelihood=columns"
        )
    if not names:
        raise GMMVAEError(f"{frame.source} holds no column beside the labels")
    return tuple(Column(name, "real") for name in names)


def read_table_rows(
    path: Path, label_column: str
) -> tuple[NDArray[np.float64], Any, tuple[str, ...]]:
    """x (N, D) of plain numbers, the column of labels as texts (or None), and the columns' names.

    Raises:
        GMMVAEError: as :func:`load_table`.
    """
    frame = read_frame(path, [label_column])
    labels = None
    if label_column in frame.table.columns:
        labels = frame.table[label_column].astype(object)
        frame = frame.without([label_column])
    columns = _plain_columns(frame)
    return encode(frame, columns)[0], labels, tuple(column.name for column in columns)
