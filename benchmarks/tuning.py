"""Samplers of ``gmmvae tune`` on digits with 100 labels: a Gaussian process, TPE and random draws.

python benchmarks/tuning.py --out benchmarks/results/tuning

Each study has the same number of trials, and starts with the settings of the preset; seed s draws
its 100 labels, its trials and its fits, and all samplers draw the same first ten trials. The
studies optimize the accuracy of 150 validation rows, whose labels choose the settings. The best
settings of a study are trained again with new seeds, on the same labels, and measured once on the
500 test rows. The line "preset" is the settings of the first trial, measured in the same way.

One process, one thread. Studies in the folder --studies are resumed; a study with a row in
results.csv is skipped.
"""

import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

import pyro_gmmvae
from pyro_gmmvae.cli import run
from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import accuracy
from pyro_gmmvae.figures.style import COLORS, MARKERS
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.runs import TrainingData, default_config, machine, train
from pyro_gmmvae.sweeps import SAMPLERS, tune

COMMON: dict[str, Any] = {"data": "digits", "labels": 100, "preset": "permutation-invariant"}
SEARCH = {"hidden": "32,64,128,64x64,128x128"}  # so that no trial takes longer than seconds
NAMES = {"gp": "Gaussian process", "tpe": "TPE", "random": "random draws", "preset": "preset"}
FIRST_FRESH_SEED = 1000


def keys_of(seed: int, epochs: int) -> dict[str, Any]:
    """Configuration keys of one study."""
    return COMMON | {"epochs": epochs, "seed": seed, "hidden": "64"}


def test_accuracies(config: Config, fits: int) -> list[float]:
    """Test accuracy of the last weights of a configuration, for new seeds."""
    found = []
    for number in range(fits):
        fresh = config.replace(seed=FIRST_FRESH_SEED + number, label_seed=config.seed)
        with tempfile.TemporaryDirectory() as folder:
            trained = train(fresh, Path(folder) / "run")
            rows = TrainingData.from_config(fresh, trained.schema)
            x, y = rows.tensors(rows.split.test)
            log_probs = trained.log_probs(x)
        right = None if log_probs is None else accuracy(log_probs, y.numpy())
        if right is None:
            raise GMMVAEError("the test rows have no labels")
        found.append(right)
    return found


def study_of(
    sampler: str, seed: int, folder: Path, trials: int, epochs: int, metric: str
) -> tuple[dict[str, Any], pd.DataFrame, Config]:
    """Run or resume a study: its row without the test, its trials, its best settings."""
    started = time.perf_counter()
    keys = {key: value for key, value in keys_of(seed, epochs).items() if key != "hidden"}
    tuned = tune(
        keys,
        folder,
        search=SEARCH,
        trials=trials,
        sampler=sampler,
        metric=metric,
        pictures=False,
        start={"hidden": "64"},
        log=lambda line: None,  # noqa: ARG005
    )
    table = tuned.trials.assign(sampler=sampler, study=seed)
    row = {
        "trial": tuned.number,
        "validation": table.loc[table["number"] == tuned.number, "val_accuracy"].iloc[0],
        "value": tuned.value,
        "finished_seconds": round(time.perf_counter() - started, 1),
        "trial_seconds": round(float(table["seconds"].sum()), 1),
        "stopped_early": int((table["state"] == "stopped early").sum()),
        "failed": int((table["state"] == "failed").sum()),
    }
    return row, table, tuned.config


def best_so_far(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Best value up to each trial that was run to its end: sampler, study, number, best."""
    sign = -1 if metric == "val_log_loss" else 1
    lines = trials.sort_values("number").copy()
    ended = (sign * lines["value"]).where(lines["state"] == "complete", -np.inf)
    lines["best"] = sign * ended.groupby([lines["sampler"], lines["study"]]).cummax()
    return lines[["sampler", "study", "number", "best"]]


def picture(results: pd.DataFrame, trials: pd.DataFrame, metric: str) -> Figure:
    """Plot the best value against trials, and validation and test accuracy of the best settings."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    curves, chosen = figure.subplots(1, 2, width_ratios=(3, 2))
    best = best_so_far(trials, metric)
    for name, color in zip(SAMPLERS, COLORS, strict=False):
        lines = best[best["sampler"] == name]
        if lines.empty:
            continue
        table = lines.pivot(index="number", columns="study", values="best")
        mean, spread = table.mean(axis=1), table.std(axis=1).fillna(0)
        curves.plot(table.index + 1, mean, color=color, label=NAMES[name])
        curves.fill_between(
            table.index + 1, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0
        )
    curves.set(xlabel="trials", ylabel=f"best {metric} so far")
    curves.set_title(f"mean and standard deviation over {results['study'].nunique()} studies")
    curves.xaxis.set_major_locator(MaxNLocator(integer=True))
    curves.legend(loc="best", frameon=False)
    colors = dict(zip((*SAMPLERS, "preset"), COLORS, strict=False))
    shown = [name for name in NAMES if name in set(results["sampler"])]
    for place, name in enumerate(shown):
        lines = results[results["sampler"] == name]
        for shift, column, marker in ((-0.12, "validation", MARKERS[0]), (0.12, "test", "D")):
            values = lines[column].dropna()
            if values.empty:
                continue
            where = np.full(len(values), place + shift)
            filled = "none" if column == "validation" else colors[name]
            chosen.scatter(
                where, values, marker=marker, facecolors=filled, edgecolors=colors[name], s=28
            )
            chosen.hlines(
                values.mean(), place + shift - 0.09, place + shift + 0.09, color=colors[name]
            )
    chosen.set_xticks(range(len(shown)), [NAMES[name].replace(" ", "\n") for name in shown])
    chosen.set(ylabel="accuracy")
    chosen.set_title("the chosen settings:\nvalidation (open) and test (filled)")
    for axis in (curves, chosen):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def table_of(results: pd.DataFrame, command: str) -> str:
    """A line per sampler: validation, test, and the paired difference to random draws."""
    lines = [
        "| settings from | validation accuracy | test accuracy | test, less random draws | "
        "seconds a study | stopped early | studies |",
        "|---|---|---|---|---|---|---|",
    ]
    by_study = results.pivot(index="study", columns="sampler", values="test")
    for name in (n for n in NAMES if n in by_study):
        rows = results[results["sampler"] == name]
        difference = (
            ""
            if name == "random" or "random" not in by_study
            else interval((by_study[name] - by_study["random"]).dropna())
        )
        timed = rows["trial_seconds"].notna().any()
        cells = [
            NAMES[name],
            spread(rows["validation"]),
            spread(rows["test"]),
            difference,
            f"{rows['finished_seconds'].mean():.0f}" if timed else "",
            f"{rows['stopped_early'].mean():.1f}" if timed else "",
            str(len(rows)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Mean and standard deviation over studies, of different labels; in the difference the 95 % "
        "interval of its mean (paired, Student's t). The validation accuracy is that of the trial "
        "that was chosen by it, and optimistic; test rows were measured once per study, with fits "
        f"of fresh seeds ({int(results['fits'].iloc[0])} each, the mean counts). 150 validation "
        "and 500 test rows.",
        "",
        f"`{command}`",
    ]
    return "\n".join(lines) + "\n"


def spread(values: pd.Series) -> str:
    """Mean and standard deviation."""
    values = values.dropna()
    if values.empty:
        return ""
    return f"{values.mean():.4f}" + (f" ± {values.std():.4f}" if len(values) > 1 else "")


def interval(values: pd.Series) -> str:
    """Mean and its 95 % interval."""
    if len(values) < 2:
        return f"{values.mean():+.4f}" if len(values) else ""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std() / np.sqrt(len(values))
    return f"{values.mean():+.4f} ({values.mean() - half:+.4f} to {values.mean() + half:+.4f})"


def report(out: Path, metric: str, command: str) -> None:
    """Write the table and the picture from the two csv files."""
    results, trials = pd.read_csv(out / "results.csv"), pd.read_csv(out / "trials.csv")
    atomic_write(out / "table.md", table_of(results, command).encode())
    picture(results, trials, metric).savefig(out / "best-so-far.png", dpi=130)


def add(file: Path, new: pd.DataFrame, key: Sequence[str]) -> None:
    """Append rows; those of the same key are replaced."""
    table = pd.concat([pd.read_csv(file), new]) if file.exists() else new
    table = table.drop_duplicates(list(key), keep="last")
    atomic_write(file, table.to_csv(index=False).encode())


@click.command()
@click.option("--samplers", default=",".join(SAMPLERS), show_default=True)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--trials", default=30, show_default=True, type=click.IntRange(1))
@click.option("--epochs", default=20, show_default=True, type=click.IntRange(1))
@click.option("--fits", default=3, show_default=True, type=click.IntRange(1), help="On test rows.")
@click.option("--metric", default="val_accuracy", show_default=True)
@click.option("--studies", type=click.Path(path_type=Path), default=Path("runs/tuning"))
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    samplers: str,
    seeds: int,
    trials: int,
    epochs: int,
    fits: int,
    metric: str,
    studies: Path,
    out: Path,
) -> None:
    """Run the studies that results.csv lacks, then write the table and the picture."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", *sys.argv])
    about = machine(torch.device("cpu"))
    versions = " ".join(f"{k}={v}" for k, v in about["packages"].items())
    done = set()
    if (out / "results.csv").exists():
        known = pd.read_csv(out / "results.csv")
        done = set(zip(known["sampler"], known["study"], strict=True))
    # seed by seed, so that a part of it is a comparison too
    for seed in range(seeds):
        for name in ("preset", *samplers.split(",")):
            if (name, seed) in done:
                continue
            if name == "preset":
                config, row = default_config("digits", keys_of(seed, epochs)), {}
            else:
                row, table, config = study_of(
                    name, seed, studies / f"{name}-{seed}", trials, epochs, metric
                )
                add(out / "trials.csv", table, ["sampler", "study", "number"])
            tests = test_accuracies(config, fits)
            row = {"sampler": name, "study": seed, **row, "test": float(np.mean(tests))}
            row |= {
                "tests": " ".join(f"{value:.4f}" for value in tests),
                "fits": fits,
                "trials": trials,
                "epochs": epochs,
                "metric": metric,
                "threads": about["threads"],
                "processor": about["processor"],
                "versions": versions,
                "version": pyro_gmmvae.__version__,
                "command": command,
            }
            add(out / "results.csv", pd.DataFrame([row]), ["sampler", "study"])
            shown = f"{row['validation']:.4f}" if "validation" in row else "none"
            click.echo(f"{name} {seed}: validation {shown}, test {row['test']:.4f}")
            shutil.rmtree(studies / f"{name}-{seed}", ignore_errors=True)
    report(out, metric, command)


if __name__ == "__main__":
    run(main)
