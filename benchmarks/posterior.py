"""Bounds and posterior draws of runs by proposal, against annealed importance sampling.

    python benchmarks/posterior.py --out benchmarks/results/posterior.json [RUN ...]

For each run and proposal: the importance-weighted bound of test rows, the share of rows with a
Pareto k above 0.7, effective samples, and CPU seconds. On the first 50 rows each bound is compared
with that of annealed importance sampling (16 chains). R-hat and ArviZ's loo are those of 4 chains
of 100 draws for 100 rows. Without a RUN the models gmmvae and gmvae-discrete are trained on digits
by the preset (100 labels, seed 0).
"""

import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import Bounds, pareto_k
from pyro_gmmvae.inference_data import to_inference_data
from pyro_gmmvae.runs import Run, default_config, machine, train
from pyro_gmmvae.runs.data import TrainingData, some_of

MODELS = ("gmmvae", "gmvae-discrete")
SAMPLES = {"guide": 200, "tilted": 200, "laplace": 100}
CHAINS, ANNEALED_ROWS = 16, 50
BAD = 0.7


def measure(run: Run, rows: int) -> dict[str, Any]:
    """Numbers of each proposal, and of the draws for ArviZ."""
    data = TrainingData.from_config(run.config, run.schema)
    chosen = data.split.test[some_of(len(data.split.test), rows)]
    x, y = data.tensors(chosen, run.device)
    few = slice(0, ANNEALED_ROWS)
    annealed, seconds = timed(run, x[few], y[few], CHAINS, "ais")
    found: dict[str, Any] = {
        "config": {k: getattr(run.config, k) for k in ("data", "model", "guide", "preset")},
        "likelihood": run.schema.kind.likelihood,
        "rows": len(x),
        "ais": {
            "rows": len(x[few]),
            "bound": annealed.iwae.mean().item(),
            "ess_median": annealed.effective_samples.median().item(),
            "seconds": seconds,
        },
    }
    for proposal, samples in SAMPLES.items():
        try:
            bounds, seconds = timed(run, x, y, samples, proposal)
        except GMMVAEError as error:
            found[proposal] = {"refused": str(error)}
            continue
        k = pareto_k(bounds.log_w)
        difference = bounds.iwae[few] - annealed.iwae
        found[proposal] = {
            "samples": samples,
            "bound": bounds.iwae.mean().item(),
            "pareto_k_median": float(np.median(k)),
            "share_above_0.7": float((k > BAD).mean()),
            "ess_median": bounds.effective_samples.median().item(),
            "minus_ais_mean": difference.mean().item(),
            "minus_ais_mean_absolute": difference.abs().mean().item(),
            "seconds": seconds,
        }
    return found | {"draws": of_draws(run)}


def timed(run: Run, x: Tensor, y: Tensor, samples: int, proposal: str) -> tuple[Bounds, float]:
    """Bounds, and CPU seconds."""
    start = time.process_time()
    bounds = run.bounds(x, samples, y=y, proposal=proposal)
    return bounds, round(time.process_time() - start, 2)


def of_draws(run: Run) -> dict[str, Any]:
    """R-hat and acceptance of chains, and ``az.loo`` of the rows whose Pareto k is good."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ's own, of its refactoring and of bad rows
        import arviz as az

        data = to_inference_data(run, predictive=False)
        stats = data.sample_stats
        k = stats["pareto_k"].to_numpy()
        continuous = [name for name in data.posterior if name not in run.model.label_sites]
        r_hat = az.rhat(data.posterior[continuous]).to_array()
        found = {
            "rows": len(k),
            "accepted": float(stats["accepted"].mean()),
            "r_hat_median": float(np.nanmedian(r_hat)),
            "rows_with_k_above_0.7": int((k > BAD).sum()),
            "elbo": float(stats["elbo"].mean()),
            "iwae": float(stats["iwae"].mean()),
        }
        sure = stats["row"][k < BAD]
        if len(sure):
            good = data.sel(row=sure)
            loo = az.loo(good)
            found |= {
                "good_rows": len(sure),
                "loo_minus_iwae": float(loo.elpd_loo - good.sample_stats["iwae"].sum()) / len(sure),
            }
    return found


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--rows", default=200, show_default=True, help="Test rows of each run.")
def main(runs: tuple[Path, ...], out: Path, rows: int) -> None:
    """Measure each run in turn."""
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {path.name: path for path in runs}
        for model in () if runs else MODELS:
            paths[model] = Path(folder) / model
            train(default_config("digits", {"model": model}), paths[model])
        for name, path in paths.items():
            result[name] = measure(Run.load(path, device="cpu"), rows)
            click.echo(f"{name}: {json.dumps(result[name])}")
    result["machine"] = machine(torch.device("cpu"))
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
