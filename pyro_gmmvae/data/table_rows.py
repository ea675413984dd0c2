"""Rows and labels of a table in a file: each column with a kind of its own, or plain numbers."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data.column_codes import encode
from pyro_gmmvae.data.column_kinds import (
    ColumnReport,
    check_any_modelled,
    left_out_notes,
    listed,
    names_with_codes,
    names_with_texts,
    parse_overrides,
    report_columns,
    unknown_column,
)
from pyro_gmmvae.data.column_table import ColumnTable
from pyro_gmmvae.data.dataset import DEFAULT_LABEL, DataOptions, Dataset
from pyro_gmmvae.data.frames import RawFrame, read_frame
from pyro_gmmvae.data.kinds import RowKind
from pyro_gmmvae.data.label_columns import LabelColumns
from pyro_gmmvae.data.missing_cells import usable_rows
from pyro_gmmvae.data.table_oddities import label_notes, lookalike_note
from pyro_gmmvae.errors import GMMVAEError

_MEANINGS = {"column": "kinds of columns", "covariates": "covariates"}


def load_table(
    path: Path,
    options: DataOptions,
    *,
    kind: RowKind | None = None,
    read_labels: bool | None = True,
) -> Dataset:
    """Rows and labels of a table.

    Each column gets a kind and a likelihood of its own. With another likelihood than "columns" the
    rows are plain numbers.

    Args:
        path: as for :func:`pyro_gmmvae.data.frames.read_frame`.
        options: of these the column of labels, kinds of columns, covariates, likelihood, and the
            use of missing cells.
        kind: of the rows of a run: its columns are read, and others ignored.
        read_labels: false: labels are not needed and not read; None: they may be absent.

    Raises:
        GMMVAEError: as :func:`pyro_gmmvae.data.frames.read_frame`,
            :func:`pyro_gmmvae.data.column_kinds.infer_columns`,
            :func:`pyro_gmmvae.data.column_codes.encode` and
            :func:`pyro_gmmvae.data.missing_cells.usable_rows`; a column of labels that the table
            does not have, or that holds no labels.
    """
    frame, labels, reports = inspected(path, options, kind=kind, read_labels=read_labels)
    notes = [*frame.notes, *labels.notes, *left_out_notes(reports)]
    if reports:
        check_any_modelled(reports, str(path))
        columns = tuple(report.column for report in reports if report.column is not None)
    elif kind is not None and kind.columns:
        columns = kind.specs or _real(kind.columns)
    else:
        columns = _plain_columns(frame)
    x, unseen = encode(frame, columns)
    del frame  # its memory is needed
    kept, has_missing = usable_rows(x, path, missing=options.missing, drop=options.drop_nonfinite)
    if len(kept) < len(x):
        x, labels = x[kept], labels.at(kept)
    y, classes = labels.y, labels.classes
    if has_missing and (empty := np.flatnonzero(np.isnan(x).all(1))).size:
        notes.append(f"{len(empty)} rows have no cell (the first is row {kept[empty[0]]})")
    notes += [*unseen, *label_notes(x, y, classes, columns)]
    if kind.specs if kind is not None else reports:
        dataset = Dataset(x, y, classes, ColumnTable(columns), kept=kept)
    else:
        names = [column.name for column in columns]
        dataset = Dataset.of_arrays(x, y, classes, columns=names, kept=kept, missing=has_missing)
    return replace(dataset, notes=tuple(notes), **labels.beside)


def inspected(
    path: Path,
    options: DataOptions,
    *,
    kind: RowKind | None = None,
    read_labels: bool | None = True,
) -> tuple[RawFrame, LabelColumns, list[ColumnReport]]:
    """The table without what is no part of x, that part, and reports of its columns.

    There are no reports where the rows are plain numbers, or of the kind of a run.

    Raises:
        GMMVAEError: as :func:`load_table`.
    """
    overrides = parse_overrides(options.column)
    text = names_with_codes(overrides) if kind is None else names_with_texts(kind.specs)
    frame = read_frame(path, [options.label_column, *text])
    frame, labels = _without_labels(frame, path, options, read_labels, overrides, kind)
    if kind is None and options.likelihood in (None, "columns"):
        return frame, labels, report_columns(frame, overrides, options.covariates)
    for key, names_of_key in (("column", [*overrides]), ("covariates", [*options.covariates])):
        if kind is None and names_of_key:
            raise GMMVAEError(
                f"{key} {', '.join(names_of_key)}: {_MEANINGS[key]} are for likelihood=columns, "
                f"not for {options.likelihood}; leave one of the two out"
            )
    return frame, labels, []


def _without_labels(
    frame: RawFrame,
    path: Path,
    options: DataOptions,
    read_labels: bool | None,
    overrides: Collection[str],
    kind: RowKind | None,
) -> tuple[RawFrame, LabelColumns]:
    """The table without labels, weights and groups, and these.

    A column of the run's kind, or one that is given a kind, is part of x.
    """
    label, names = options.label_column, list(frame.table.columns)
    others = {"weight": options.weight_column, "group": options.group_column}
    wanted = [label, *(name for name in others.values() if name is not None)]
    _check_roles([*wanted, *options.covariates], path)
    for name in wanted:
        if name in names and name in overrides:
            raise GMMVAEError(
                f"{path}: column {name!r} can't have a kind: it is the column of labels, weights "
                f"or groups, and is not modeled; leave --column {name}=... out"
            )
    columns_of_x = frozenset((kind and kind.columns) or ())
    present = [name for name in names if name not in columns_of_x]
    for name in wanted if read_labels else ():
        if name not in present and name != DEFAULT_LABEL:
            raise unknown_column(name, names, str(path))
    taken = [name for name in wanted if name in present]
    labels = LabelColumns(np.full(len(frame.table), -1, np.int64))
    if read_labels is not False:
        labels = LabelColumns.of_columns(
            frame.table,
            len(frame.table),
            path,
            label=frame.table[label] if label in present else None,
            soft=[name for name in present if name not in {*taken, *overrides}],
            **{role: name for role, name in others.items() if name in present},
        )
    taken += labels.soft_columns
    rest = frame.without(taken)
    if taken and rest.table.empty:
        more = "" if taken == [label] else ", weights and groups"
        raise GMMVAEError(f"{path} holds no column beside the labels{more}")
    if read_labels and not labels.classes:
        rest = replace(rest, notes=(*rest.notes, *lookalike_note(names)))
    return rest, labels


def _check_roles(names: Sequence[str], path: Path) -> None:
    """Refuse a column that is to be two of label, weight, group and covariate."""
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise GMMVAEError(
            f"{path}: column {twice[0]!r} can be only one of label, weight, group and covariate"
        )


def _plain_columns(frame: RawFrame) -> tuple[Column, ...]:
    """All columns as ones of numbers.

    Raises:
        GMMVAEError: a column of text.
    """
    names = list(frame.table.columns)
    text = [name for name in names if frame.table[name].dtype.kind != "f"]
    if text:
        raise GMMVAEError(
            f"{frame.source}: columns {listed(text)} are text, and this likelihood is of numbers; "
            "name the label with --label-column, remove other text columns, or take "
            "likelihood=columns"
        )
    return _real(names)


def _real(names: Sequence[str]) -> tuple[Column, ...]:
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
