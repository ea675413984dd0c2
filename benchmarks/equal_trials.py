"""MNIST with 100 labels: each model with settings of its own, found by the same number of trials.

    python benchmarks/equal_trials.py --data-dir DIR --out benchmarks/results/mnist-equal-trials

For each model ``tune`` searches the same keys, and the size of a where the model has one. The first
trial has the same settings for all models. Trials get the same minutes, and the accuracy of
validation rows of one label draw chooses. The best settings, rounded to three digits, are fitted
again for several label draws, that one among them, and measured on test rows.

One process, one thread. The same command resumes: studies are in OUT/studies, and runs with a row
in OUT/results.csv are not trained again. OUT gets trials.csv, table.md and table.tex as well.
--quick takes two trials of an epoch and one label draw, to test this script.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch
from accuracy import published
from table_notes import note_of_marks, public_command

from pyro_gmmvae.cli import run
from pyro_gmmvae.cli.options import NameList
from pyro_gmmvae.cli.tune import trial_line
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.runs import default_config
from pyro_gmmvae.sweeps import (
    Tuned,
    footnotes,
    latest_rows,
    plan_sweep,
    read_results,
    sweep,
    tune,
    write_tables,
)

COMPARED = ("gmmvae", "m2", "m1m2", "adgm", "sdgm")
COMMON: dict[str, Any] = {"data": "mnist", "preset": "permutation-invariant", "labels": 100}
# the settings of the first trial of each model
FIRST = {
    "latent_dim": 32,
    "learning_rate": 2e-3,
    "batch_size": 50,
    "alpha": 100,
    "labelled_per_batch": 10,
    "pseudo_threshold": 0.95,
}
SEARCH = {
    "latent_dim": "10:64:log",
    "learning_rate": "0.0005:0.01:log",
    "batch_size": "50:256:log",
    "alpha": "10:1000:log",
    "labelled_per_batch": "5:50:log",
    "pseudo_threshold": "0.8:0.99",
}
OF_MODEL = ("auxiliary_dim",)


def study(model: str, keys: Mapping[str, Any], trials: int, out: Path) -> Tuned:
    """Run or resume the trials of a model; other keys of its space keep the preset's values."""
    preset = default_config(COMMON["data"], {**COMMON, "model": model})
    kept = {
        key: getattr(preset, key)
        for key in MODELS[model].search_space
        if key not in SEARCH and key not in OF_MODEL
    }
    return tune(
        {**COMMON, **kept, **keys, "model": model},
        out / "studies" / model,
        start=FIRST,
        search=SEARCH,
        trials=trials,
        pictures=False,
        log=log,
        on_trial_end=lambda one: log(f"{model}, {trial_line(one)}"),
    )


def best_settings(found: Tuned) -> dict[str, str]:
    """The searched keys of the best trial, with three digits."""
    best = found.trials.set_index("number").loc[found.number]
    keys = [key for key in (*SEARCH, *OF_MODEL) if key in best.index]
    return {key: f"{float(best[key]):.3g}" for key in keys}


def report(studies: Mapping[str, Tuned], out: Path) -> None:
    """Write the trials of all models, and a line for each model."""
    results, lines = latest_rows(read_results(out / "results.csv", log)), []
    trials = pd.concat([one.trials.assign(model=name) for name, one in studies.items()])
    columns = ["model", *(name for name in trials.columns if name not in ("model", "reason"))]
    atomic_write(out / "trials.csv", trials[columns].to_csv(index=False).encode())
    for model, one in studies.items():
        best = best_settings(one)
        mine = results[results["model"] == model]
        mine = mine[mine["config"] == mine["config"].iloc[-1]]  # rows of fewer trials may be there
        accuracy, states = mine["accuracy"], one.trials["state"].value_counts()
        spread = f" ± {accuracy.std():.4f}" if len(accuracy) > 1 else ""
        lines.append(
            {
                "model": model,
                "trials": f"{len(one.trials)} ({states.get('stopped early', 0)} stopped early)",
                "validation, first trial": "-" if one.first is None else f"{one.first:.4f}",
                "validation, best trial": f"{one.value:.4f}",
                "test": f"{accuracy.mean():.4f}{spread}",
                "n": str(len(accuracy)),
                "nll": f"{mine['nll'].mean():.2f}",
                "epochs": f"{mine['epochs'].mean():.1f}",
                "seconds": f"{mine['seconds'].mean():.0f}",
                "settings": " ".join(f"{k}={v}" for k, v in best.items()),
                "published": published(COMMON["data"], model, str(COMMON["labels"])),
            }
        )
    table = pd.DataFrame(lines)
    notes = [
        "Validation: of one label draw, by which the settings were chosen. Test: of n label draws, "
        "mean and standard deviation. Seconds: a fit and its evaluation.",
        *note_of_marks(table),
        *footnotes(results, public_command("equal_trials.py")),
    ]
    write_tables(table, out, notes)


def log(line: str) -> None:
    click.echo(line, err=True)


@click.command()
@click.option("--data-dir", required=True, help="Folder of MNIST's files.")
@click.option("--models", type=NameList(), default=",".join(COMPARED), show_default=True)
@click.option("--trials", default=10, show_default=True, type=click.IntRange(1))
@click.option("--minutes", type=float, default=1.5, show_default=True, help="Of each fit.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Label draws.")
@click.option("--quick", is_flag=True, help="Two trials of one epoch, one label draw.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    data_dir: str,
    models: tuple[str, ...],
    trials: int,
    minutes: float,
    seeds: int,
    quick: bool,
    out: Path,
) -> None:
    """Search the settings of each model, fit it with the best ones, and write the table."""
    torch.set_num_threads(1)
    budget: dict[str, Any] = {"epochs": 1} if quick else {"minutes": minutes}
    trials, seeds = (2, 1) if quick else (trials, seeds)
    keys, studies = {"data_dir": data_dir, **budget}, {}
    begun = [name for name in COMPARED if (out / "studies" / name).exists()]
    for model in dict.fromkeys([*models, *begun]):
        studies[model] = study(model, keys, trials, out)
        runs = plan_sweep(
            {"data": COMMON["data"], **keys},
            models=[model],
            presets=[COMMON["preset"]],
            variants=[best_settings(studies[model])],
            labels=[COMMON["labels"]],
            seeds=range(seeds),
            log=log,
        )
        _, failures = sweep(runs, out, log=log)
        if failures:
            raise click.ClickException(f"{len(failures)} runs failed; the first: {failures[0]}")
    report(studies, out)


if __name__ == "__main__":
    run(main)
