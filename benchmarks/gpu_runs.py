"""Times of whole runs on a device: to an accuracy on MNIST, and rows per second of a trained run.

    python benchmarks/gpu_runs.py target --out FILE.json

Modes: target gives the seconds to a validation accuracy of .985 with 100 labels; answers the rows
per second of evaluate and predict. Both read MNIST. :mod:`gpu` runs them in stages.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_fits import Bench, Found, bench_command, rounded, seconds_of

from pyro_gmmvae.cli import run
from pyro_gmmvae.config import Config
from pyro_gmmvae.runs import Run, TrainingData, default_config, train
from pyro_gmmvae.training import Callback

GOAL = 0.985  # validation accuracy on MNIST


class Reached(Callback):
    """Keeps the seconds of a fit when its validation accuracy first was as high as the goal."""

    def __init__(self, goal: float) -> None:
        self.goal = goal
        self.seconds: float | None = None

    def on_epoch(self, record: Mapping[str, float]) -> None:
        if self.seconds is None and record["val_accuracy"] >= self.goal:
            self.seconds = record["seconds"]


def target(bench: Bench) -> None:
    """Seconds to an accuracy of .985 on MNIST with 100 labels, by the budget of the fit."""
    budgets = (0.002,) if bench.quick else (1.0, 0.5, 0.25, 2.0)
    for minutes in budgets:
        seeds = (0,) if bench.quick or minutes > 1 else (0, 1)
        for seed in seeds:
            keys = {"preset": "best", "labels": 100, "minutes": minutes, "seed": seed}
            name = f"{60 * minutes:g} s, seed {seed}"
            bench.measure(name, lambda k=keys: rounded(_reach(bench, k)))


def _mnist(bench: Bench, keys: Mapping[str, Any]) -> Config:
    toy = {"validation": 20, "hidden": "8", "latent_dim": 2} if bench.quick else {}
    return default_config(
        "mnist", {**keys, **toy, "engine": "captured", "device": str(bench.device)}
    )


def _reach(bench: Bench, keys: Mapping[str, Any]) -> Found:
    reached, started = Reached(0.0 if bench.quick else GOAL), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = train(_mnist(bench, keys), Path(folder) / "run", callbacks=[reached])
        whole = time.perf_counter() - started
        accuracy = run.evaluate(nll_rows=0, draws=0)["accuracy"]
    found = {"s to .985 of validation": reached.seconds, "s with reading and capture": whole}
    return found | {"test accuracy": accuracy}


def answers(bench: Bench) -> None:
    """Rows per second of a trained run, on the device and on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        out, file = Path(folder) / "run", Path(folder) / "rows.npy"
        config = _mnist(bench, {"preset": "best", "labels": 100, "epochs": 1})
        trained = train(config, out)
        data = TrainingData.from_config(config, trained.schema)
        x, _ = data.tensors(data.split.test, torch.device("cpu"))
        np.save(file, (255 * x).round().byte().numpy())
        for device in dict.fromkeys((str(bench.device), "cpu")):
            run = Run.load(out, device=device)
            rows = x.to(run.device)
            calls: dict[str, Callable[[], Any]] = {
                "class probabilities": lambda r=run, x=rows: r.log_probs(x),
                "z": lambda r=run, x=rows: r.embed(x),
                "ELBO": lambda r=run, x=rows: r.elbo(x),
                "predict": lambda r=run: r.predict(file),
                "evaluate": lambda r=run: _evaluate(bench, r),
            }
            for name, call in calls.items():
                bench.measure(f"{name}, {device}", lambda c=call: _rate(bench, c, len(x)))


def _evaluate(bench: Bench, run: Run) -> Any:
    return run.evaluate(nll_rows=2, samples=2, draws=0) if bench.quick else run.evaluate()


def _rate(bench: Bench, call: Callable[[], Any], rows: int) -> Found:
    seconds = seconds_of(bench, call, 1)
    return rounded({"rows/s": rows / seconds, "s": seconds})


MODES: dict[str, Callable[[Bench], None]] = {"target": target, "answers": answers}
main = bench_command(MODES, __doc__)

if __name__ == "__main__":
    run(main)
