"""gmmvae inspect"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyro_gmmvae.cli.options import PATH, json_option, key_options, without_none

if TYPE_CHECKING:
    from pyro_gmmvae.data.column_kinds import ColumnReport

WIDTH = 38  # of the range or values of a column


@click.command(name="inspect", short_help="Show the columns of a table and how they are modeled.")
@click.argument("file", type=PATH)
@key_options("label_column", "weight_column", "group_column", "column")
@json_option
def inspect_file(file: Path, as_json: bool, **options: Any) -> None:
    """Show the kind of each column of FILE, why, and what is odd about it.

    FILE is a table (csv, parquet, feather, xlsx), or an npz or npy file. Nothing is written.
    'gmmvae train' models columns as shown here; --column NAME=KIND changes the kind of a column:
    real, student-t, positive, count, binary, category, ordinal(low<mid<high), or skip.

    \b
    gmmvae inspect patients.csv --label-column diagnosis
    gmmvae inspect patients.csv --label-column diagnosis --column visits=count
    """
    from pyro_gmmvae.data.dataset import DataOptions
    from pyro_gmmvae.data.frames import is_table

    given = DataOptions(**without_none(options))
    content = _table(file, given) if is_table(file) else _arrays(file, given)
    click.echo(json.dumps(content) if as_json else "\n".join(_lines(content)))


def _table(file: Path, options: Any) -> dict[str, Any]:
    """Columns, labels and remarks of a table, as plain values."""
    from pyro_gmmvae.column_spec import COLUMN_KINDS
    from pyro_gmmvae.data.column_codes import encode
    from pyro_gmmvae.data.table_oddities import duplicate_notes, label_notes
    from pyro_gmmvae.data.table_rows import inspected

    frame, labels, reports = inspected(file, options)
    columns = [report.column for report in reports if report.column is not None]
    x, _ = encode(frame, columns)
    odd = [*label_notes(x, labels.y, labels.classes, columns), *duplicate_notes(frame, columns)]
    return {
        "file": str(file),
        "rows": len(frame.table),
        "label": _labels(options.label_column, labels.y, labels.classes),
        "columns": [_column(report, COLUMN_KINDS) for report in reports],
        "notes": [*frame.notes, *labels.notes, *odd],
    }


def _column(report: "ColumnReport", likelihoods: Any) -> dict[str, Any]:
    return {
        "name": report.name,
        "kind": report.kind,
        "why": report.why,
        "likelihood": None if report.kind is None else likelihoods[report.kind],
        "missing": round(report.missing, 6),
        "low": report.low,
        "high": report.high,
        "values": list(report.values),
        "shown": report.shown,
        "oddities": list(report.oddities),
    }


def _arrays(file: Path, options: Any) -> dict[str, Any]:
    """Shape, range and labels of the rows of an npz or npy file."""
    import numpy as np

    from pyro_gmmvae.column_spec import Column
    from pyro_gmmvae.data.arrays import load_array
    from pyro_gmmvae.data.table_oddities import label_notes

    data = load_array(file, options)
    numbers = data.x.astype(np.float64)
    shape = " x ".join(str(size) for size in data.x.shape[1:])
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    rows = (
        f"rows of {shape} entries ({data.x.dtype}), {low:g} to {high:g}, "
        f"{np.isnan(numbers).mean():.1%} missing"
    )
    flat = numbers.reshape(len(numbers), -1)
    columns = [Column(f"x[{entry}]", "real") for entry in range(flat.shape[1])]
    notes = label_notes(flat, data.y, data.classes, columns)
    return {
        "file": str(file),
        "rows": len(numbers),
        "label": _labels(options.label_column, data.y, data.classes),
        "columns": [],
        "notes": [rows, *data.notes, *notes],
    }


def _labels(column: str, y: Any, classes: tuple[str, ...]) -> dict[str, Any]:
    counts = {name: int((y == number).sum()) for number, name in enumerate(classes)}
    return {
        "column": column if classes else None,
        "classes": counts,
        "unknown": int((y < 0).sum()),
    }


def _lines(content: dict[str, Any]) -> Iterator[str]:
    """The content as lines for a reader."""
    label, columns = content["label"], content["columns"]
    modeled = [column for column in columns if column["kind"] is not None]
    left_out = [column for column in columns if column["kind"] is None]
    head = f"{content['file']}: {content['rows']} rows"
    if columns:
        head += f", {len(modeled)} columns to model, {len(left_out)} left out"
    yield head
    if label["classes"]:
        counts = [f"{name} {count}" for name, count in label["classes"].items()]
        shown = ", ".join(counts[:10]) + (", ..." if len(counts) > 10 else "")
        yield (
            f"label {label['column']}: {len(counts)} classes ({shown}); "
            f"{label['unknown']} rows without a label"
        )
    else:
        yield "no labels (name their column with --label-column)"
    if columns:
        width = max(6, *(len(column["name"]) for column in columns))
        yield ""
        yield f"{'column':<{width}}  kind       missing  {'range or values':<{WIDTH}}  why"
    for column in (*modeled, *left_out):
        shown = column["shown"]
        shown = shown if len(shown) <= WIDTH else f"{shown[: WIDTH - 3]}..."
        yield (
            f"{column['name']:<{width}}  {column['kind'] or 'left out':<9}  "
            f"{column['missing']:>7.1%}  {shown:<{WIDTH}}  {column['why']}"
        )
    if modeled:
        yield ""
        kinds = {column["kind"]: column["likelihood"] for column in modeled}
        yield from (f"{kind:<9}  {likelihood}" for kind, likelihood in sorted(kinds.items()))
    odd = [f"column {c['name']}: {text}" for c in columns for text in c["oddities"]]
    if odd or content["notes"]:
        yield ""
        yield from (f"note: {text}" for text in (*content["notes"], *odd))
