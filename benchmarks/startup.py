"""Seconds from the command to the first step, by engine, with and without compiled code on disk.

python benchmarks/startup.py --out benchmarks/results/startup.json

Each time a new process runs ``gmmvae train`` on scikit-learn's digits until it prints its engine.
"imports" is the time that any program needs to import a Pyro model, torch's Adam and a
scikit-learn data set. "cold" compiles into an empty folder, "warm" uses that folder again.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import click
import torch

from pyro_gmmvae.cli import run
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import machine

IMPORTS = (
    "import torch, pyro, sklearn.datasets, sklearn.model_selection; "
    "torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]); print('engine', flush=True)"
)
TRAIN = ["-m", "pyro_gmmvae", "train", "--data", "digits", "--labels", "100", "--epochs", "9"]


def seconds_until_ready(arguments: list[str], cache: Path) -> float:
    """Seconds until the process prints its engine; it is stopped then."""
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
    start, lines = time.perf_counter(), []
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if line.startswith("engine"):
            seconds = time.perf_counter() - start
            process.kill()
            process.wait()
            return seconds
    raise GMMVAEError(f"the process ended before its first step: {' '.join(lines)}")


@click.command()
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--set", "keys", multiple=True, help="KEY=VALUE of the config, as of gmmvae train.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(repeats: int, keys: tuple[str, ...], out: Path) -> None:
    """Start each engine in turn, and write the medians."""
    seconds = defaultdict(list)
    options = [option for key in keys for option in ("--set", key)]
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            cache = Path(folder) / "cache"

            def train(engine: str, cache: Path = cache, folder: str = folder) -> float:
                run_folder = tempfile.mkdtemp(dir=folder) + "/run"
                arguments = [*TRAIN, *options, "--engine", engine, "--out", run_folder]
                return seconds_until_ready(arguments, cache)

            seconds["imports"].append(seconds_until_ready(["-c", IMPORTS], cache))
            seconds["svi"].append(train("svi"))
            seconds["captured"].append(train("captured"))
            seconds["compiled_cold"].append(train("compiled"))
            seconds["compiled_warm"].append(train("compiled"))
    medians = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    for name, value in medians.items():
        click.echo(f"{name}: {value:.1f} s")
    result = {
        "seconds": medians,
        "repeats": repeats,
        "set": keys,
        "machine": machine(torch.device("cpu")),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
