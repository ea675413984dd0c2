"""Kill trainings, sweeps and studies with SIGKILL at random times, and finish them.

    python benchmarks/kills.py --train 100 --sweep 30 --study 30 --out benchmarks/results/kills.json

A command is started, killed and started again until it ends by itself, on scikit-learn's digits.
Then its numbers must be those of the same command that nobody killed: the history of a fit, the
rows of a sweep, the settings and values of the trials of a study. After each kill all processes of
the command must have ended within a minute (a worker saves its fit first). Only Linux: processes
are found in /proc.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd

from pyro_gmmvae.cli import run as run_command
from pyro_gmmvae.files import read_json, write_json

MARK = "GMMVAE_KILLS"  # a variable of the environment that all processes of a command have
PATIENCE = 60  # seconds to end
SMALL = ("--set", "hidden=32", "--set", "latent_dim=4", "--set", "checkpoint_seconds=0")
FIT = ("--engine", "svi", "--labels", "100", *SMALL)


@dataclass(frozen=True)
class Kind:
    """A command that is killed.

    Attributes:
        command: its words, for the folder of its output.
        numbers: that it must give, of the folder.
    """

    command: Callable[[Path], list[str]]
    numbers: Callable[[Path], Any]


def train_command(out: Path) -> list[str]:
    if (out / "config.json").exists():
        return ["resume", str(out)]
    return ["train", "--data", "digits", "--epochs", "40", *FIT, "--out", str(out)]


def history(out: Path) -> Any:
    table = pd.read_csv(out / "history.csv", dtype=str)
    return table.drop(columns="seconds").to_dict("list")


def sweep_command(out: Path) -> list[str]:
    # without evaluations, which take longer than these fits
    words = ["--seeds", "4", "--epochs", "20", "--jobs", "2", *SMALL, "--set", "test=50"]
    return ["ablate", "--models", "gmmvae,vae", *words, "--out", str(out)]


def rows(out: Path) -> Any:
    table = pd.read_csv(out / "results.csv", dtype=str).sort_values(["model", "seed"])
    return table[["model", "seed", "accuracy", "elbo", "nll", "steps"]].to_dict("list")


def study_command(out: Path) -> list[str]:
    words = ["--trials", "6", "--epochs", "15", "--sampler", "random", "--no-prune", *SMALL]
    return ["tune", "--search", "alpha=1:100:log", *words, "--out", str(out)]


def trials(out: Path) -> Any:
    table = pd.read_csv(out / "trials.csv", dtype=str)
    table = table[table["state"] == "complete"].sort_values("alpha")
    return table[["alpha", "val_accuracy", "val_elbo"]].to_dict("list")


KINDS = {
    "train": Kind(train_command, history),
    "sweep": Kind(sweep_command, rows),
    "study": Kind(study_command, trials),
}


def run_killed(kind: Kind, out: Path, limit: int, seconds: float, seed: int) -> dict[str, Any]:
    """Run a command to its end, and kill it at random times on the way.

    Args:
        kind: of the command.
        out: its output.
        limit: kills at most.
        seconds: that it takes alone.
        seed: of the times.

    Returns:
        kills, and orphans: processes that were left after a kill; error: of a command that failed.
    """
    generator, kills, orphans = random.Random(seed), 0, 0
    while True:
        mark = f"{os.getpid()}-{generator.random()}"
        process = start(kind.command(out), mark)
        try:
            _, error = process.communicate(
                timeout=generator.uniform(0.2, seconds) if kills < limit else None
            )
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            orphans += left_after(mark)
            continue
        failed = process.returncode != 0 and "complete" not in error
        return {"kills": kills, "orphans": orphans, "error": error[-500:] if failed else ""}


def start(words: list[str], mark: str) -> "subprocess.Popen[str]":
    env = {**os.environ, MARK: mark, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pyro_gmmvae", *words]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=env, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def left_after(mark: str) -> int:
    """Processes of a command that have not ended in time; they are killed."""
    deadline = time.monotonic() + PATIENCE
    while (found := processes_of(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for number in found:
        os.kill(number, 9)
    return len(found)


def processes_of(mark: str) -> list[int]:
    """Numbers of the running processes with a mark in their environment."""
    found, wanted = [], f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = wanted in (folder / "environ").read_bytes().split(b"\x00")
        except OSError:  # it has ended
            continue
        if marked:
            found.append(int(folder.name))
    return found


def measure(kind: Kind, wanted: int, folder: Path) -> dict[str, Any]:
    """Kill a command so many times, over as many runs of it as that takes."""
    started = time.monotonic()
    alone = run_killed(kind, folder / "alone", 0, 1, 0)
    seconds = time.monotonic() - started
    if alone["error"]:
        raise click.ClickException(alone["error"])
    expected = kind.numbers(folder / "alone")
    kills = orphans = runs = different = 0
    while kills < wanted:
        out = folder / str(runs)
        found = run_killed(kind, out, min(8, wanted - kills), seconds, runs)
        if found["error"]:
            raise click.ClickException(found["error"])
        kills, orphans, runs = kills + found["kills"], orphans + found["orphans"], runs + 1
        different += kind.numbers(out) != expected
        shutil.rmtree(out)
    return {
        "kills": kills,
        "runs": runs,
        "runs_with_other_numbers": different,
        "orphans": orphans,
        "seconds_alone": round(seconds, 1),
    }


@click.command()
@click.option("--train", default=100, show_default=True, type=click.IntRange(0))
@click.option("--sweep", default=30, show_default=True, type=click.IntRange(0))
@click.option("--study", default=30, show_default=True, type=click.IntRange(0))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON file.")
def main(out: Path, **wanted: int) -> None:
    """Kill each kind of command so many times, and write what was found."""
    result: dict[str, Any] = read_json(out) if out.exists() else {}
    for name, kind in KINDS.items():
        if not wanted[name] or name in result:
            continue
        with tempfile.TemporaryDirectory() as folder:
            result[name] = measure(kind, wanted[name], Path(folder))
        click.echo(f"{name}: {result[name]}")
        write_json(out, result)


if __name__ == "__main__":
    run_command(main)
