"""CPU seconds of short commands beside those of importing torch and Pyro.

python benchmarks/commands.py --out benchmarks/results/commands.json

Each command runs in a new process, the commands in turn, and the medians are reported. The run is
a small one of scikit-learn's digits, trained first.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from sklearn.datasets import load_digits

from pyro_gmmvae.cli import run
from pyro_gmmvae.runs import default_config, machine, train

IMPORTS = "import torch, pyro"
GMMVAE = ("-m", "pyro_gmmvae")


def commands(folder: Path) -> dict[str, tuple[tuple[str, ...], int]]:
    """By name, arguments of Python and the expected exit status."""
    run_folder, nowhere = str(folder / "run"), str(folder / "nowhere")
    rows, table = str(folder / "rows.npz"), str(folder / "predictions.csv")
    training = (*GMMVAE, "train", "--out", nowhere)
    return {
        IMPORTS: (("-c", IMPORTS), 0),
        "list": ((*GMMVAE, "list"), 0),
        "misspelled model": ((*training, "--model", "gmmvea"), 2),
        "misspelled key": ((*training, "--set", "tempratur=1"), 2),
        "missing file": ((*training, "--data", "nowhere.csv"), 2),
        "missing run": ((*GMMVAE, "evaluate", nowhere), 2),
        "predict 20 rows": ((*GMMVAE, "predict", run_folder, rows, "--out", table, "--force"), 0),
        "evaluate without nll": ((*GMMVAE, "evaluate", run_folder, "--nll-rows", "0"), 0),
    }


def cpu_seconds(arguments: tuple[str, ...], status: int) -> float:
    """User and system seconds of a process of Python, of one thread."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, env=environment)
    assert done.returncode == status, done.stderr.decode()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@click.command()
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(repeats: int, out: Path) -> None:
    """CPU seconds of short commands beside those of importing torch and Pyro."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained = train(default_config("digits", {"epochs": 2, "device": "cpu"}), folder / "run")
        np.savez(folder / "rows.npz", x=load_digits().data[:20].reshape(-1, 1, 8, 8))
        found: dict[str, list[float]] = {}
        for _ in range(repeats):
            for command, (arguments, status) in commands(folder).items():
                found.setdefault(command, []).append(cpu_seconds(arguments, status))
        about = machine(trained.device)
    medians = {command: statistics.median(seconds) for command, seconds in found.items()}
    for command, seconds in medians.items():
        ratio = seconds / medians[IMPORTS]
        click.echo(f"{command:<22}{seconds:6.2f} s of CPU {ratio:6.2f} times the imports")
    content = {"cpu_seconds": {k: round(v, 2) for k, v in medians.items()}, "repeats": repeats}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content | {"machine": about}, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
