"""A soak test: train, resume, predict and visit the explorer's page again and again.

    python benchmarks/soak.py --minutes 30 --out benchmarks/results/soak

Everything but the page runs in this one process, on scikit-learn's digits. OUT/soak.csv gets a line
for each round: resident memory and open files of this process and of the page's server, and threads
of this process. OUT/soak.json has the slope of each per hour, by least squares over the rounds
after the first fifth, with its standard error. Only Linux: numbers are read from /proc.
"""

import asyncio
import ctypes
import gc
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from page_visits import memory, memory_over_visits, served
from sklearn.datasets import load_digits

from pyro_gmmvae.cli import run as run_command
from pyro_gmmvae.files import atomic_write, write_json
from pyro_gmmvae.runs import Run, default_config, resume, train
from pyro_gmmvae.training.devices import processor

KEYS = {"epochs": 2, "hidden": "32", "latent_dim": 4, "labels": 100}
VISITS = 3  # of the page in each round
ROUNDS = 5  # fewest


def one_round(folder: Path, number: int) -> None:
    """Train with one of two engines, resume, load, predict and generate."""
    run = folder / "run"
    engine = ("svi", "captured")[number % 2]
    train(default_config("digits", KEYS | {"engine": engine}), run, force=run.exists())
    resume(run, epochs=3)
    loaded = Run.load(run, device="cpu")
    x, _ = load_digits(return_X_y=True)
    np.savez(folder / "rows.npz", x=x[:200].reshape(-1, 8, 8))
    loaded.predict(folder / "rows.npz")
    loaded.generate(2)


def open_files(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def slopes(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The change of each column per hour, and its standard error."""
    late = table.iloc[len(table) // 5 :]
    hours = late["seconds"].to_numpy() / 3600
    found = {}
    for name in table.columns.drop(["round", "seconds"]):
        (slope, _), covariance = np.polyfit(hours, late[name], 1, cov="unscaled")
        residual = late[name] - np.polyval(np.polyfit(hours, late[name], 1), hours)
        variance = float((residual**2).sum() / max(1, len(late) - 2))
        error = float(np.sqrt(covariance[0, 0] * variance))
        found[name] = {"per_hour": round(float(slope), 3), "standard_error": round(error, 3)}
    return found


def measure(minutes: float, log: Any) -> pd.DataFrame:
    """A line for each round."""
    rows: list[dict[str, float]] = []
    started, here = time.monotonic(), os.getpid()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        served_run = folder / "served"
        train(default_config("digits", KEYS), served_run)
        with served(served_run) as (address, server):
            while len(rows) < ROUNDS or time.monotonic() - started < 60 * minutes:
                one_round(folder, len(rows))
                asyncio.run(memory_over_visits(address, server, VISITS, 1))
                gc.collect()
                ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
                rows.append(
                    {
                        "round": len(rows),
                        "seconds": round(time.monotonic() - started, 1),
                        "memory": round(memory(here), 1),
                        "open_files": open_files(here),
                        "threads": threading.active_count(),
                        "server_memory": round(memory(server), 1),
                        "server_open_files": open_files(server),
                    }
                )
                log(str(rows[-1]))
    return pd.DataFrame(rows)


@click.command()
@click.option("--minutes", type=float, default=30, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(minutes: float, out: Path) -> None:
    """Run rounds for so many minutes, and write the table and the slopes."""
    out.mkdir(parents=True, exist_ok=True)
    table = measure(minutes, click.echo)
    atomic_write(out / "soak.csv", table.to_csv(index=False).encode())
    result = {
        "rounds": len(table),
        "minutes": round(float(table["seconds"].iloc[-1]) / 60, 1),
        "memory is in": "MiB",
        "slopes": slopes(table),
        "processor": processor(),
        "command": f"python benchmarks/soak.py --minutes {minutes:g} --out OUT",
        "python": sys.version.split()[0],
    }
    write_json(out / "soak.json", result)
    click.echo(result)


if __name__ == "__main__":
    run_command(main)
