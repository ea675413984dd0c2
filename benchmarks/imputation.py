"""Hidden cells of tables: gmmvae beside the imputers of scikit-learn.

    python benchmarks/imputation.py --data-dir DIR --out benchmarks/results/imputation
    python benchmarks/imputation.py --data-dir DIR --budget 30 --out benchmarks/results/imputation
    python benchmarks/imputation.py --summary --out benchmarks/results/imputation

The tables are those of ``benchmarks/tables.py`` without labels, of at most 1,500 rows. A tenth,
three tenths or half of the cells are hidden, at random or by the rank of another column, and all
methods get the same cells. gmmvae trains on a csv file with ``--preset impute`` and fills it as
``gmmvae impute`` does; ``--variant NAME --set KEY=VALUE`` is measured as ``gmmvae:NAME``.
``--validation`` hides a fifth of the remaining cells instead and measures these: by them settings
are chosen, and their results are for another folder.

The same command resumes an interrupted benchmark: OUT has a json file for each table, share and
mechanism, and ``--again`` measures once more. At the end, and by ``--summary``, OUT gets table.md.
"""

import itertools
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from imputation_cells import IMPUTERS, MECHANISMS, HiddenCells, as_frame, filled_by, hide
from imputation_report import report
from numpy.typing import NDArray
from table_data import table_names
from threadpoolctl import threadpool_limits

import pyro_gmmvae
from pyro_gmmvae.cli import run
from pyro_gmmvae.cli.options import NameList, assignments
from pyro_gmmvae.data.column_codes import encode
from pyro_gmmvae.data.frames import frame_of
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.files import read_json, write_json
from pyro_gmmvae.runs import Run, default_config, train

OURS = "gmmvae"
SEED = 0


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of csv files.")
@click.option("--tables", type=NameList(), help="Comma-separated.  [default: all]")
@click.option("--shares", default="0.1,0.3,0.5", show_default=True, type=NameList())
@click.option("--mechanisms", default=",".join(MECHANISMS), show_default=True, type=NameList())
@click.option("--methods", default=",".join((*IMPUTERS, OURS)), show_default=True, type=NameList())
@click.option("--variant", metavar="NAME", help="Name of the settings of --set: gmmvae:NAME.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="As for gmmvae train.")
@click.option("--validation", is_flag=True, help="Hide and measure further cells.")
@click.option("--budget", type=float, help="Minutes; what is left is for the next call.")
@click.option("--again", is_flag=True, help="Measure again what OUT has.")
@click.option("--summary", is_flag=True, help="Measure nothing; write table.md.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    data_dir: Path | None,
    tables: tuple[str, ...] | None,
    shares: tuple[str, ...],
    mechanisms: tuple[str, ...],
    methods: tuple[str, ...],
    variant: str | None,
    sets: tuple[str, ...],
    validation: bool,
    budget: float | None,
    again: bool,
    summary: bool,
    out: Path,
) -> None:
    """Measure what OUT lacks, then write the table."""
    if summary:
        report(out)
        return
    if variant is None and sets:
        raise click.UsageError("--set needs --variant, the name of these settings")
    known = table_names(data_dir)
    for kind, given, names in (
        ("table", tables or (), known),
        ("method", methods, [*IMPUTERS, OURS]),
        ("mechanism", mechanisms, list(MECHANISMS)),
    ):
        for name in given:
            if name not in names:
                raise unknown_name(kind, name, names)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * (np.inf if budget is None else budget)
    for share, mechanism, name in itertools.product(
        map(float, shares), mechanisms, tables or known
    ):
        file = out / f"{name}-{share:.0%}-{mechanism}.json".replace("%", "")
        content = read_json(file) if file.exists() else None
        cells = None
        for method in methods:
            line = f"{OURS}:{variant}" if method == OURS and variant else method
            if content and not again and "error" in content["measured"].get(line, {}):
                continue
            if time.monotonic() > until:
                log("the budget is used up; give the command again for the rest")
                report(out)
                return
            cells = cells or cells_of(name, data_dir, mechanism, share, validation)
            content = content or about(name, cells, share, mechanism)
            content["measured"][line] = measure(method, cells, assignments(sets))
            write_json(file, content)
            log(f"{name}, {share:.0%}, {mechanism}: {line} {json.dumps(content['measured'][line])}")
    report(out)


def cells_of(
    name: str, data_dir: Path | None, mechanism: str, share: float, validation: bool
) -> HiddenCells:
    """The hidden cells of a table; for validation a fifth of the others, and these are missing."""
    cells = hide(name, data_dir, mechanism, share, SEED)
    if not validation:
        return cells
    seen = cells.seen
    further = (np.random.default_rng(SEED + 1).random(seen.shape) < 0.2) & ~np.isnan(seen)
    return replace(cells, x=seen, hidden=further)


def about(name: str, cells: HiddenCells, share: float, mechanism: str) -> dict[str, Any]:
    """The head of a file of results."""
    rows, columns = cells.x.shape
    head = {"table": name, "rows": rows, "columns": columns, "share": share}
    return head | {"mechanism": mechanism, "version": pyro_gmmvae.__version__, "measured": {}}


def measure(method: str, cells: HiddenCells, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Errors and seconds of a method, or why it was refused."""
    started = time.monotonic()
    with threadpool_limits(1):
        try:
            if method == OURS:
                filled = filled_by_gmmvae(cells, settings)
            else:
                filled = filled_by(method, cells, SEED)
        except Exception as error:  # the other tables are measured all the same
            return {"refused": f"{type(error).__name__}: {error}"}
    errors = {name: round(value, 4) for name, value in cells.errors(filled).items()}
    return errors | {"seconds": round(time.monotonic() - started, 1)}


def filled_by_gmmvae(cells: HiddenCells, settings: Mapping[str, Any]) -> NDArray[np.float64]:
    """Rows (N, D) filled by ``gmmvae train`` and ``gmmvae impute`` of a csv file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.csv"
        as_frame(cells.seen, cells.columns).to_csv(file, index=False)
        # the kinds of the whole table: half of the cells may look different
        kinds = [f"{column.name}={column.kind}" for column in cells.columns]
        keys = {"preset": "impute", "seed": SEED, "device": "cpu", "column": kinds}
        train(default_config(str(file), keys | dict(settings)), Path(folder) / "run")
        frame = Run.load(Path(folder) / "run", device="cpu").impute(file)
    filled, _ = encode(frame_of(frame), cells.columns)
    for place, column in enumerate(cells.columns):
        if not column.is_discrete:  # the mean of a count need not be one
            filled[:, place] = frame[column.name].to_numpy(float)
    if np.isnan(filled).any():
        raise GMMVAEError(f"{int(np.isnan(filled).sum())} cells are still missing")
    return filled


def log(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    run(main)
