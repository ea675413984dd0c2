"""Seconds and peak memory of ``gmmvae train`` on made tables, from the command to the run folder.

    python benchmarks/table_speed.py --out benchmarks/results/table_speed.json
    python benchmarks/table_speed.py --sizes large --out benchmarks/results/table_speed.json

The columns are of mixed kinds, 5 % of the cells are missing, and ten rows of each of four classes
have a label. A row is a command on one thread. OUT keeps the rows of other sizes; a size that is
measured again replaces its rows. On a busy machine read the CPU seconds. The peak is the largest
resident set of a process of the command.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from pyro_gmmvae.cli import run
from pyro_gmmvae.cli.options import NameList
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.files import atomic_write, read_json

CLASSES, LABELS = 4, 10
MISSING = 0.05
CHUNK = 50_000  # rows that are made at once


@dataclass(frozen=True)
class Size:
    """A table, the settings of its commands by name, and the most seconds of the first of them."""

    rows: int
    columns: int
    settings: dict[str, tuple[str, ...]]
    seconds: float | None = None


ALONE = {"no cross-validation": ("cv=0",)}
BOTH = ALONE | {"with cross-validation": ()}
SIZES = {
    "small": Size(200, 40, BOTH, 8),
    "medium": Size(5000, 40, BOTH, 40),
    "large": Size(1_000_000, 50, {"one epoch": ("cv=0", "epochs=1", "members=1")}),
}


@click.command()
@click.option("--sizes", type=NameList(), default="small,medium", show_default=True)
@click.option("--rows", type=int, help="Other numbers of rows, to try this script.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="As for gmmvae train.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(sizes: tuple[str, ...], rows: int | None, sets: tuple[str, ...], out: Path) -> None:
    """Time the commands, and write OUT."""
    for name in sizes:
        if name not in SIZES:
            raise unknown_name("size", name, list(SIZES))
    out.parent.mkdir(parents=True, exist_ok=True)
    for name in sizes:
        size = SIZES[name]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "table.csv"
            count = rows or size.rows
            write_table(file, count, size.columns)
            found = {}
            for title, settings in size.settings.items():
                found[title] = timed(file, [*settings, *sets], Path(folder) / title)
                click.echo(f"{name}, {title}: {json.dumps(found[title])}")
        about = {"rows": count, "columns": size.columns, "seconds_limit": size.seconds}
        # three times the table in single precision, and 1 GB
        about["peak_limit_gb"] = round(3 * count * size.columns * 4 / 1e9 + 1, 2)
        known = read_json(out)["sizes"] if out.exists() else {}
        content = {"platform": platform.platform(), "sizes": known | {name: about | found}}
        atomic_write(out, (json.dumps(content, indent=1) + "\n").encode())


def write_table(file: Path, rows: int, columns: int) -> None:
    """Write a csv file of ``columns`` columns and a label, some rows at a time."""
    weights = np.random.default_rng(0).normal(size=(CLASSES, columns))
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        chunk = made_rows(count, weights, seed=start + 1, labelled=start == 0)
        chunk.to_csv(file, mode="a", header=start == 0, index=False, float_format="%.6g")


def made_rows(rows: int, weights: Any, seed: int, labelled: bool) -> pd.DataFrame:
    """Rows around the means of classes; each five columns have one of each kind."""
    generator = np.random.default_rng(seed)
    label = np.arange(rows) % CLASSES
    x = weights[label] + generator.normal(size=(rows, weights.shape[1]))
    frame = {}
    for number in range(x.shape[1]):
        kind = number % 5
        column = pd.Series(x[:, number])
        if kind == 1:
            column = np.exp(column)
        elif kind == 2:
            column = pd.Series(generator.poisson(np.exp(column.clip(-3, 3)))).astype(float)
        elif kind == 3:
            column = column.gt(0).map({True: "yes", False: "no"})
        elif kind == 4:
            words = pd.Series(["red", "green", "blue", "gray", "black"])
            column = words[np.digitize(column, [-1.5, -0.5, 0.5, 1.5])].reset_index(drop=True)
        frame[f"c{number}"] = column.mask(generator.random(rows) < MISSING)
    names = pd.Series(label).map("class {}".format)
    shown = np.arange(rows) < CLASSES * LABELS * labelled
    return pd.DataFrame(frame).assign(label=names.where(shown))


def timed(file: Path, settings: list[str], out: Path) -> dict[str, Any]:
    """Seconds, peak memory and rows a second of a command.

    Raises:
        GMMVAEError: a command that failed.
    """
    words = [sys.executable, "-m", "pyro_gmmvae", "train", "--data", str(file)]
    words += ["--label-column", "label", "--out", str(out)]
    words += [word for text in settings for word in ("--set", text)]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            words, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=said, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        if status:
            said.seek(0)
            raise GMMVAEError(f"gmmvae train failed: {said.read()[-500:]}")
    metrics = read_json(out / "metrics.json")
    found = {
        "settings": " ".join(settings),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
    }
    if "steps" in metrics:
        rows = metrics["epochs"] * (sum(1 for _ in file.open()) - 1)
        found |= {"fit_seconds": round(metrics["seconds"], 1)}
        found |= {"rows_per_second": round(rows / metrics["seconds"])}
    return found


if __name__ == "__main__":
    run(main)
