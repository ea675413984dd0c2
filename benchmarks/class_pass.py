"""Cost of the second pass of the guide's class head: seconds a step of separate and augmented.

    python benchmarks/class_pass.py --data-dir DIR --out benchmarks/results/class_pass.json

Steps of both kinds take turns on one thread, with the configuration of a preset and the engine
"captured"; the ratio is that of medians. "augmented" is one pass of guide and model for all terms.
"""

import json
import statistics
import time
from itertools import chain, count
from pathlib import Path

import click
import torch

from pyro_gmmvae.cli import run
from pyro_gmmvae.runs import default_config
from pyro_gmmvae.runs.assembly import build
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.training.devices import machine

CASES = (("digits", "best"), ("mnist", "best"), ("mnist", "permutation-invariant"))
MODELS = ("gmmvae", "m2")
KINDS = ("augmented", "separate")


@click.command()
@click.option("--data-dir", help="Folder of MNIST's files; without it, digits alone.")
@click.option("--steps", default=60, show_default=True, help="Steps of each kind.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(data_dir: str | None, steps: int, out: Path) -> None:
    """Time the steps, and write OUT."""
    torch.set_num_threads(1)
    lines = []
    for data, preset in CASES if data_dir else CASES[:1]:
        for model in MODELS:
            seconds = measure(data, preset, model, data_dir, steps)
            ratio = seconds["separate"] / seconds["augmented"]
            lines.append({"data": data, "preset": preset, "model": model, "ratio": ratio} | seconds)
            ms = 1000 * seconds["augmented"]
            click.echo(f"{data:7} {preset:22} {model:7} {ms:6.1f} ms, x{ratio:.2f}")
    out.write_text(json.dumps({"machine": machine(torch.device("cpu")), "lines": lines}, indent=1))


def measure(
    data: str, preset: str, model: str, data_dir: str | None, steps: int
) -> dict[str, float]:
    """Median seconds of a step of each kind."""
    fits, rows = {}, {}
    for kind in KINDS:
        keys = {"preset": preset, "model": model, "reconstruct": kind, "engine": "captured"}
        keys |= {"device": "cpu", "verify": False, "pseudo_threshold": None}
        config = resolve(default_config(data, {"data_dir": data_dir}, keys))
        fit = build(config, TrainingData.from_config(config)).fit()
        fits[kind], rows[kind] = fit, chain.from_iterable(fit.batches.epoch() for _ in count())
        with fit.switches():
            fit.prepare()
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for step in range(steps + 5):
        for kind, fit in fits.items():
            x, y = next(rows[kind])
            with fit.switches():
                started = time.perf_counter()
                fit.step(x, y)
                times[kind] += [time.perf_counter() - started] if step >= 5 else []
    return {kind: statistics.median(values) for kind, values in times.items()}


if __name__ == "__main__":
    run(main)
