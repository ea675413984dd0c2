"""Clusters without labels: the preset "cluster", what it is made of, and other clusterings.

    python benchmarks/clustering.py --data digits --seeds 5 --out benchmarks/results/clustering
    python benchmarks/clustering.py --data mnist --data-dir DIR --seeds 5 --jobs 2 \\
        --out benchmarks/results/clustering
    python benchmarks/clustering.py --data digits --parts unequal --out OUT

Parts: ``main`` (the preset, and other objectives and guides with its settings), ``ablation``
(each ingredient taken away, and the weights of its two terms lowered), ``references``
(scikit-learn, on the same rows), ``unequal`` (a long-tailed copy of a set of images, largest
class to smallest 10:1). Every cell is a run as ``gmmvae train`` makes it (its row holds the
command) on one thread, measured as ``gmmvae evaluate`` does. A cell whose row is in
OUT/results.csv is skipped and one that was stopped half-way goes on, so an interrupted benchmark
is simply started again. OUT gets results.csv of all data sets, and OUT/DATA table.md, table.tex,
lines.png and tradeoff.png.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click
import torch
from clustering_lines import PRESET, Keys, Line, lines_of
from clustering_references import add_references
from clustering_report import PARTS, report

from pyro_gmmvae.cli import run
from pyro_gmmvae.cli.options import NameList
from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.runs import TrainingData, default_config
from pyro_gmmvae.sweeps import SweepRun, plan_sweep, read_results, run_keys, sweep

CHOICES = ("model", "guide", "objective")


@click.command()
@click.option("--data", default="digits", show_default=True)
@click.option("--data-dir", help="Folder of the data set's files.")
@click.option(
    "--parts",
    type=NameList(),
    default="main,ablation,references",
    show_default=True,
    help=f"Comma-separated: {', '.join(PARTS)}.",
)
@click.option("--lines", type=NameList(), help="Only these lines of the parts, by name.")
@click.option("--seeds", default=5, show_default=True, help="Of weights and batches: 0, 1, ...")
@click.option("--epochs", type=int, help="Passes over the rows of each cell.")
@click.option("--minutes", type=float, help="Wall-clock budget of each cell.")
@click.option("--device", help="Where to compute.  [default: auto]")
@click.option("--jobs", default=1, show_default=True, help="Cells at once, a process each.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    data: str,
    data_dir: str | None,
    parts: tuple[str, ...],
    lines: tuple[str, ...] | None,
    seeds: int,
    epochs: int | None,
    minutes: float | None,
    device: str | None,
    jobs: int,
    out: Path,
) -> None:
    """Measure what is missing in OUT/results.csv, then write the tables and the plots."""
    for part in parts:
        if part not in PARTS:
            raise click.UsageError(f"--parts {part}: choose from {', '.join(PARTS)}")
    given = {"data_dir": data_dir, "epochs": epochs, "minutes": minutes, "device": device}
    common = {"data": data} | {k: v for k, v in given.items() if v is not None}
    config = default_config(data, common, PRESET)
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.csv"
    cells, names = planned(lines_of(data, common, parts, out), lines, seeds)
    if not cells and "references" not in parts:
        raise click.UsageError("--parts and --lines leave nothing to run")
    if "references" in parts:
        torch.set_num_threads(1)
        add_references(config, range(seeds), results, log)
    try:
        _, failures = sweep(cells, out, jobs=jobs, log=log) if cells else (None, [])
    finally:  # also what an interrupted sweep has finished
        name_lines(results, names)
    report(read_results(results, log), out, sys.argv[1:])
    if failures:
        raise click.ClickException(f"{len(failures)} runs failed; the first: {failures[0]}")


def planned(
    lines: list[Line], wanted: tuple[str, ...] | None, seeds: int
) -> tuple[dict[SweepRun, Config], dict[str, Line]]:
    """The cells of lines, and the line that each cell's key is of; the first one's, of equal ones.

    Raises:
        click.UsageError: a wanted name that no line has.
    """
    unknown = set(wanted or ()) - {line.name for line in lines}
    if unknown:
        known = ", ".join(repr(line.name) for line in lines)
        raise click.UsageError(f"--lines: no {', '.join(sorted(unknown))} among {known}")
    cells: dict[SweepRun, Config] = {}
    names: dict[str, Line] = {}
    for common in {id(line.common): line.common for line in lines}.values():
        # data that can't be read is refused, where a line that doesn't fit is left out
        TrainingData.from_config(default_config(str(common["data"]), common, PRESET))
    for line in lines:
        if wanted and line.name not in wanted:
            continue
        try:
            found = cells_of(line, line.common, seeds)
        except GMMVAEError as error:
            log(f"{line.name} is left out: {error}")
            continue
        for cell, cell_config in found.items():
            cells.setdefault(cell, cell_config)
            names.setdefault(cell.key, line)
    return cells, names


def cells_of(line: Line, common: Keys, seeds: int) -> dict[SweepRun, Config]:
    """The cells of one line, which are named by its data set and not by a file."""
    choices = {key: line.keys.get(key) for key in CHOICES}
    found = plan_sweep(
        common,
        models=[choices["model"] or "gmmvae"],
        guides=[choices["guide"]],
        objectives=[choices["objective"]],
        presets=[PRESET["preset"]],
        variants=[{k: v for k, v in line.keys.items() if k not in CHOICES}],
        seeds=range(seeds),
        log=log,
    )
    return {replace(cell, data=line.data): config for cell, config in found.items()}


def name_lines(results: Path, names: Mapping[str, Line]) -> None:
    """Write each row's part and line into the columns ``table`` and ``variant``."""
    table = read_results(results, log)
    if not len(table):
        return
    for column, name in (("table", "part"), ("variant", "name")):
        before = table[column] if column in table else [""] * len(table)
        table[column] = [
            getattr(names[key], name) if key in names else old
            for key, old in zip(run_keys(table), before, strict=True)
        ]
    atomic_write(results, table.to_csv(index=False).encode())


def log(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    run(main)
