"""Seconds that importing the package adds to torch and Pyro, and which packages it brings.

python benchmarks/imports.py --out benchmarks/results/imports.json

Each module in new processes that have imported torch and Pyro already; medians.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import torch

from pyro_gmmvae.runs import machine

MODULES = (
    "pyro_gmmvae",
    "pyro_gmmvae.models",
    "pyro_gmmvae.training",
    "pyro_gmmvae.runs",
    "pyro_gmmvae.estimators",
)
PROBE = """
import json, sys, time
import pyro, pyro.distributions, pyro.infer, torch
from importlib.metadata import packages_distributions
before = set(sys.modules)
start = time.perf_counter()
__import__(sys.argv[1])
seconds = time.perf_counter() - start
known = packages_distributions()
names = {name.partition(".")[0] for name in set(sys.modules) - before}
brought = sorted({known[name][0] for name in names if name in known})
print(json.dumps({"seconds": seconds, "packages": brought}))
"""


def one_import(module: str) -> dict[str, Any]:
    """Seconds of the import, and the distributions that it loads."""
    command = [sys.executable, "-c", PROBE, module]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@click.command()
@click.option("--repeats", default=7, show_default=True, type=click.IntRange(min=1))
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(repeats: int, out: Path) -> None:
    """Import each module in turn, and write the medians."""
    found: dict[str, list[dict[str, Any]]] = {module: [] for module in MODULES}
    for _ in range(repeats):
        for module in MODULES:
            found[module].append(one_import(module))
    result = {
        module: {
            "seconds": round(statistics.median(one["seconds"] for one in tries), 4),
            "packages": tries[0]["packages"],
        }
        for module, tries in found.items()
    }
    for module, one in result.items():
        click.echo(f"{one['seconds']:.3f} s  {module}  {' '.join(one['packages'])}")
    environment = machine(torch.device("cpu")) | {"repeats": repeats}
    out.write_text(json.dumps(result | {"machine": environment}, indent=1) + "\n")


if __name__ == "__main__":
    main()
