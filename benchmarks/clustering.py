"""Clustering without labels: the preset "cluster", its ablations, and other methods.

    python benchmarks/clustering.py --data digits --seeds 5 --out benchmarks/results/clustering
    python benchmarks/clustering.py --data mnist --data-dir DIR --seeds 5 --jobs 2 \\
        --out benchmarks/results/clustering
    python benchmarks/clustering.py --data digits --parts unequal --out OUT

Parts: ``main`` (the preset, and other objectives and guides with its settings), ``ablation``
(without each ingredient, and with lower weights of its two terms), ``references`` (scikit-learn,
on the same rows), ``unequal`` (a long-tailed copy of a set of images, largest class to smallest
10:1). Every row is a run of ``gmmvae train`` on one thread (the row has its command), measured by
``gmmvae evaluate``. The same command resumes an interrupted benchmark: runs with a row in
OUT/results.csv are skipped. OUT gets results.csv of all data sets; OUT/DATA gets table.md,
table.tex, lines.png and tradeoff.png.
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
@click.option("--epochs", type=int, help="Epochs of each run.")
@click.option("--minutes", type=float, help="Wall-clock budget of each run.")
@click.option("--device", help="Where to compute.  [default: auto]")
@click.option("--jobs", default=1, show_default=True, help="Runs at once.")
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
    """Measure the runs that OUT/results.csv lacks, then write the tables and the plots."""
    for part in parts:
        if part not in PARTS:
            raise click.UsageError(f"--parts {part}: choose from {', '.join(PARTS)}")
    given = {"data_dir": data_dir, "epochs": epochs, "minutes": minutes, "device": device}
    common = {"data": data} | {k: v for k, v in given.items() if v is not None}
    config = default_config(data, common, PRESET)
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.csv"
    runs, names = planned(lines_of(data, common, parts, out), lines, seeds)
    if not runs and "references" not in parts:
        raise click.UsageError("--parts and --lines leave nothing to run")
    if "references" in parts:
        torch.set_num_threads(1)
        add_references(config, range(seeds), results, log)
    try:
        _, failures = sweep(runs, out, jobs=jobs, log=log) if runs else (None, [])
    finally:  # also what an interrupted sweep has finished
        name_lines(results, names)
    report(read_results(results, log), out, sys.argv[1:])
    if failures:
        raise click.ClickException(f"{len(failures)} runs failed; the first: {failures[0]}")


def planned(
    lines: list[Line], wanted: tuple[str, ...] | None, seeds: int
) -> tuple[dict[SweepRun, Config], dict[str, Line]]:
    """The runs of lines, and the line of each run's key; equal runs belong to the first line.

    Raises:
        click.UsageError: a wanted name that no line has.
    """
    unknown = set(wanted or ()) - {line.name for line in lines}
    if unknown:
        known = ", ".join(repr(line.name) for line in lines)
        raise click.UsageError(f"--lines: no {', '.join(sorted(unknown))} among {known}")
    runs: dict[SweepRun, Config] = {}
    names: dict[str, Line] = {}
    for common in {id(line.common): line.common for line in lines}.values():
        # data that can't be read is refused, where a line that doesn't fit is left out
        TrainingData.from_config(default_config(str(common["data"]), common, PRESET))
    for line in lines:
        if wanted and line.name not in wanted:
            continue
        try:
            planned_runs = runs_of(line, line.common, seeds)
        except GMMVAEError as error:
            log(f"{line.name} is left out: {error}")
            continue
        for one, config in planned_runs.items():
            runs.setdefault(one, config)
            names.setdefault(one.key, line)
    return runs, names


def runs_of(line: Line, common: Keys, seeds: int) -> dict[SweepRun, Config]:
    """The runs of one line, named by its data set and not by a file."""
    choices = {key: line.keys.get(key) for key in CHOICES}
    runs = plan_sweep(
        common,
        models=[choices["model"] or "gmmvae"],
        guides=[choices["guide"]],
        objectives=[choices["objective"]],
        presets=[PRESET["preset"]],
        variants=[{k: v for k, v in line.keys.items() if k not in CHOICES}],
        seeds=range(seeds),
        log=log,
    )
    return {replace(one, data=line.data): config for one, config in runs.items()}


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
