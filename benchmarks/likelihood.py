"""Negative log-likelihood of MNIST by the protocol of Burda et al. 2016, against minutes.

    python benchmarks/likelihood.py --data-dir DIR --minutes 10 --jobs 2 \\
        --out benchmarks/results/likelihood

All 60,000 training rows, binarized anew in each batch; encoder 784-200-200-50 and decoder
50-200-200-784 with tanh; importance-weighted bound of 5,000 draws on the 10,000 test rows. With
--binarize threshold pixels are 1 from 1/2 on, which is another data set. Lines: a VAE, IWAE with 50
particles, and VAEs with other priors. "from VAE": half of the minutes fit a VAE, whose weights the
other half starts from, as in experiment 1 of that paper. Any set in MNIST's files can be in DIR.

Each line is one process of one thread. The same command resumes: a line with a file in OUT is
skipped, and one that was stopped goes on from its checkpoint; other --minutes add rows. OUT gets a
json file of each line, table.md, table.tex and curves.png. --quick takes one epoch, 50 test rows
and 20 draws, to test this script.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from table_notes import note_of_marks, public_command

from pyro_gmmvae.cli import run as run_command
from pyro_gmmvae.cli.options import NameList
from pyro_gmmvae.figures.style import COLORS, STYLES
from pyro_gmmvae.files import read_json, write_json
from pyro_gmmvae.runs import TrainingData, default_config
from pyro_gmmvae.sweeps import train_command, write_tables
from pyro_gmmvae.sweeps.execute import train_run
from pyro_gmmvae.training.processes import process_pool

MIXTURE = {"model": "vae", "prior": "mixture"}
# name -> keys, and the figure and the source of a paper
LINES: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "VAE": ({"model": "vae"}, "86.76 (arXiv:1509.00519 †)"),
    "IWAE 50 particles": (
        {"model": "vae", "objective": "iwae", "particles": 50},
        "84.78 (arXiv:1509.00519 †)",
    ),
    "from VAE: IWAE 50 particles": (
        {"model": "vae", "objective": "iwae", "particles": 50, "init": "VAE"},
        "84.88 (arXiv:1509.00519 †)",
    ),
    "mixture of Gaussians K=10": (MIXTURE | {"prior_components": 10}, ""),
    "mixture of Gaussians K=50": (MIXTURE | {"prior_components": 50}, ""),
    "mixture of Gaussians K=500": (MIXTURE | {"prior_components": 500}, ""),
    "flow prior": ({"model": "vae", "prior": "flow"}, ""),
    # with tanh a fit with VampPrior does not use z
    "ReLU: VAE": ({"model": "vae", "activation": "relu"}, ""),
    "ReLU: VampPrior K=500": (
        {"model": "vae", "activation": "relu", "prior": "vamp", "prior_components": 500},
        "85.6 (other networks; arXiv:1705.07120 †)",
    ),
}
SHOWN = 60  # nats of the curves above the lowest value; the first minute is far above
COMMON: Mapping[str, Any] = {
    "data": "mnist",
    "labels": 0,
    "validation": 0,
    "hidden": (200, 200),
    "activation": "tanh",
    "latent_dim": 50,
    "likelihood": "bernoulli",
    "batch_size": 100,
    "labelled_per_batch": 0,
    "learning_rate": 1e-3,
    "preset": "paper",
}


def measure(line: str, keys: Mapping[str, Any], out: Path, samples: int, rows: int) -> None:
    """Train a line, or resume it, and write its file."""
    torch.set_num_threads(1)
    stages, name = stages_of(keys), file_name(line, keys)
    folders = [out / "runs" / f"{name}-{number}" for number in range(len(stages))]
    commands = []
    for stage, folder, before in zip(stages, folders, [None, *folders], strict=False):
        start = {} if before is None else {"init": str(before)}
        config = default_config("mnist", {**stage, **start})
        trained = train_run(config, folder)
        commands.append(train_command(config.replace(init="random")))
    data = TrainingData.from_config(config, trained.schema)
    x, _ = data.tensors(data.split.test[:rows])
    started = time.monotonic()
    bounds = [trained.bounds(part, samples) for part in x.split(500)]
    metrics = [read_json(folder / "metrics.json") for folder in folders]
    environment = read_json(folders[-1] / "environment.json")
    write_json(
        out / f"{name}.json",
        {
            "line": line,
            "binarize": keys["binarize"],
            "minutes": keys.get("minutes"),
            "nll": -float(np.mean([b.iwae.mean().item() for b in bounds])),
            "elbo": float(np.mean([b.elbo.mean().item() for b in bounds])),
            "samples": samples,
            "test_rows": len(x),
            "seed": config.seed,
            "epochs": [one["epochs"] for one in metrics],
            "fit_seconds": sum(one["seconds"] for one in metrics),
            "evaluation_seconds": time.monotonic() - started,
            "curve": curve_of(folders),
            "engine": metrics[-1]["engine"],
            "threads": environment["threads"],
            "processor": environment["processor"],
            "packages": environment["packages"],
            "command": ", then from its weights ".join(commands),
        },
    )
    for folder in folders:
        shutil.rmtree(folder)


def stages_of(keys: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The keys of the fits of a line, each of which starts from the one before."""
    if "init" not in keys:
        return [dict(keys)]
    last = {key: value for key, value in keys.items() if key != "init"}
    if "minutes" in last:
        last["minutes"] /= 2
    budget = {
        key: last[key] for key in ("minutes", "epochs", "binarize", "data_dir") if key in last
    }
    return [{**COMMON, **LINES[keys["init"]][0], **budget}, last]


def curve_of(folders: Sequence[Path]) -> list[list[float]]:
    """Seconds and the ELBO of training rows, of fits one after the other."""
    points, passed = [], 0.0
    for folder in folders:
        history = pd.read_csv(folder / "history.csv")[["seconds", "val_elbo"]]
        points.append(history.assign(seconds=history["seconds"] + passed))
        passed += history["seconds"].iloc[-1]
    return pd.concat(points).round(3).to_numpy().tolist()


def file_name(line: str, keys: Mapping[str, Any]) -> str:
    """The name of a line's file, without its ending."""
    words = "".join(c if c.isalnum() else " " for c in line.lower()).split()
    budget = [f"{keys['minutes']:g}"] if "minutes" in keys else []
    return "-".join([*words, str(keys["binarize"]), *budget])


def report(out: Path) -> None:
    """Write the table and the curves of all files in a folder."""
    found = [json.loads(file.read_text()) for file in out.glob("*.json")]
    names = [*LINES]
    found.sort(key=lambda one: (names.index(one["line"]), one.get("minutes") or 0, one["binarize"]))
    lines = []
    for (line, _), same in groupby(found, key=lambda one: (one["line"], one.get("minutes"))):
        of_line = {one["binarize"]: one for one in same}
        first = next(iter(of_line.values()))
        lines.append(
            {
                "prior or bound": line,
                **{
                    f"NLL, {how}": f"{of_line[how]['nll']:.2f}" if how in of_line else "-"
                    for how in ("dynamic", "threshold")
                },
                "ELBO, dynamic": f"{of_line['dynamic']['elbo']:.2f}"
                if "dynamic" in of_line
                else "-",
                "epochs": " + ".join(str(epochs) for epochs in first["epochs"]),
                "minutes": f"{first['fit_seconds'] / 60:.1f}",
                "n": "1",
                "published, dynamic": LINES[line][1],
            }
        )
    one = found[0]
    table = pd.DataFrame(lines)
    notes = [
        f"Nats per row, {one['test_rows']:,} test rows, {one['samples']:,} draws of the guide; one "
        "fit each, on one thread. dynamic: pixels are drawn anew in each batch, and once for the "
        "test. threshold: 1 from 1/2 on, another data set with other values. The published figures "
        "took hundreds to thousands of epochs.",
        *note_of_marks(table),
        f"{one['processor']}, " + " ".join(f"{k}={v}" for k, v in one["packages"].items()),
        f"`{public_command('likelihood.py')}`",
    ]
    write_tables(table, out, notes)
    curves(found).savefig(out / "curves.png", dpi=130)


def curves(found: list[dict[str, Any]]) -> Figure:
    """The ELBO of training rows against minutes, with dynamic binarization."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axis = figure.subplots()
    shown = [one for one in found if one["binarize"] == "dynamic"]
    for number, one in enumerate(shown):
        minutes, elbo = np.array(one["curve"]).T
        wraps, color = divmod(number, len(COLORS))
        label = f"{one['line']}, {minutes[-1] / 60:.0f} minutes"
        axis.plot(
            minutes / 60, -elbo, STYLES[wraps % len(STYLES)], label=label, color=COLORS[color]
        )
    axis.set(xlabel="minutes of one thread", ylabel="-ELBO of training rows, nats")
    best = min((-elbo for one in shown for _, elbo in one["curve"]), default=0)
    axis.set_ylim(best - 2, best + SHOWN)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return figure


@click.command()
@click.option("--data-dir", required=True, help="Folder of MNIST's files.")
@click.option("--minutes", type=float, default=10, show_default=True, help="Of each line.")
@click.option("--lines", type=NameList(), help="Some lines, by the first words of their names.")
@click.option("--binarize", type=NameList(), default="dynamic,threshold", show_default=True)
@click.option(
    "--samples",
    default=5000,
    show_default=True,
    type=click.IntRange(2),
    help="Draws for each test row.",
)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Fits at once.")
@click.option("--quick", is_flag=True, help="One epoch, 50 test rows, 20 draws.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    data_dir: str,
    minutes: float,
    lines: tuple[str, ...] | None,
    binarize: tuple[str, ...],
    samples: int,
    jobs: int,
    quick: bool,
    out: Path,
) -> None:
    """Measure the lines that OUT lacks, then write the table and the curves."""
    chosen = [name for name in LINES if not lines or name.startswith(lines)]
    if not chosen:
        raise click.UsageError(f"--lines: choose from {', '.join(LINES)}")
    out.mkdir(parents=True, exist_ok=True)
    budget = {"epochs": 1} if quick else {"minutes": minutes}
    samples, rows = (20, 50) if quick else (samples, 10_000)
    tasks = []
    for how in binarize:
        for line in chosen:
            keys = {**COMMON, **LINES[line][0], "binarize": how, "data_dir": data_dir, **budget}
            if not (out / f"{file_name(line, keys)}.json").exists():
                tasks.append(partial(measure, line, keys, out, samples, rows))
    with process_pool(jobs, 1) as pool:
        for task in as_completed([pool.submit(task) for task in tasks]):
            task.result()
            report(out)
    report(out)


if __name__ == "__main__":
    run_command(main)
