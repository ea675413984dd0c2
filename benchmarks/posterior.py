"""Diagnostics by ArviZ of posterior draws for test digits: acceptance, R-hat, Pareto k, loo.

python benchmarks/posterior.py --out benchmarks/results/posterior.json

Each model is trained by the preset of digits (100 labels, seed 0); 100 test rows, 4 chains of 100
draws. The guide is the proposal of Metropolis-Hastings.
"""

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from pyro_gmmvae.inference_data import to_inference_data
from pyro_gmmvae.runs import Run, default_config, machine, train

MODELS = ("gmmvae", "gmvae-discrete")
BAD = 0.7


def measure(run: Run) -> dict[str, Any]:
    """Numbers over rows, and ``az.loo`` of the rows whose Pareto k is good."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ's own, of its refactoring and of bad rows
        import arviz as az

        data = to_inference_data(run, predictive=False)
        stats = data.sample_stats
        k = stats["pareto_k"].to_numpy()
        found = {
            "rows": len(k),
            "accepted": float(stats["accepted"].mean()),
            "r_hat_z_median": float(np.median(az.rhat(data.posterior[["z"]])["z"])),
            "pareto_k_median": float(np.median(k)),
            "rows_with_k_above_0.7": int((k > BAD).sum()),
            "elbo": float(stats["elbo"].sum()),
            "iwae": float(stats["iwae"].sum()),
        }
        sure = stats["row"][k < BAD]
        if len(sure):
            good = data.sel(row=sure)
            summary = az.summary(good.posterior[["z"]])
            loo = az.loo(good)
            found["good_rows"] = {
                "rows": len(sure),
                "elpd_loo": float(loo.elpd_loo),
                "se": float(loo.se),
                "iwae": float(good.sample_stats["iwae"].sum()),
                "r_hat_z_median": float(summary["r_hat"].median()),
                "ess_bulk_z_median": float(summary["ess_bulk"].median()),
            }
    return found


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(out: Path) -> None:
    """Train and measure each model in turn."""
    result: dict[str, Any] = {}
    for model in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            run = train(default_config("digits", {"model": model}), Path(folder) / "run")
            result[model] = measure(run)
        click.echo(f"{model}: {json.dumps(result[model])}")
    result["machine"] = machine(torch.device("cpu"))
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
