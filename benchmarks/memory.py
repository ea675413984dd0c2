"""Peak memory of training on MNIST: the resident set of a whole ``gmmvae train`` process.

python benchmarks/memory.py --data-dir DIR --out benchmarks/results/memory.json
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from pyro_gmmvae.cli import run

LIMIT_GIB = 1.5


@click.command()
@click.option("--data-dir", required=True, help="Folder with MNIST's four files.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(data_dir: str, out: Path) -> None:
    """Train one epoch, print and write the peak resident set in GiB."""
    options = ["--data", "mnist", "--labels", "100", "--epochs", "1"]
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-m", "pyro_gmmvae", "train"]
        subprocess.run(
            [*program, *options, "--data-dir", data_dir, "--out", f"{folder}/run"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    result = {
        "peak_rss_gib": round(peak, 3),
        "limit_gib": LIMIT_GIB,
        "below": peak < LIMIT_GIB,
        "command": " ".join(["gmmvae", "train", *options, "--data-dir", "DIR"]),
        "platform": platform.platform(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    click.echo(json.dumps(result))


if __name__ == "__main__":
    run(main)
