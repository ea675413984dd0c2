"""The scikit-learn estimator and the command line: same rows and labels, same numbers.

    python benchmarks/estimators.py --seeds 3 --out benchmarks/results/estimators

Each seed draws 100 labels of digits and fits the preset "best" (images, 50 epochs) twice: as
``gmmvae train`` and ``gmmvae evaluate`` do, and by ``GMMVAEClassifier`` on arrays. OUT gets
results.csv and table.md.
"""

import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch

from pyro_gmmvae.estimators import GMMVAEClassifier
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.runs import TrainingData, default_config, machine, train


@click.command()
@click.option("--seeds", default=3, show_default=True, help="Label draws, seeds 0, 1, ...")
@click.option("--epochs", type=int, help="Passes over the rows.  [default: the preset's]")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(seeds: int, epochs: int | None, out: Path) -> None:
    """Measure the test accuracy of both on 500 rows."""
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in range(seeds):
        found.append(both(seed, epochs))
        click.echo("  ".join(f"{key} {value:.4g}" for key, value in found[-1].items()))
    table = pd.DataFrame(found)
    about = machine(torch.device("cpu"))
    environment = {key: about[key] for key in ("pyro_gmmvae", "python", "processor", "threads")}
    atomic_write(out / "results.csv", table.assign(**environment).to_csv(index=False).encode())
    atomic_write(out / "table.md", page(table, environment, epochs).encode())


def both(seed: int, epochs: int | None) -> dict[str, float]:
    """Test accuracy of a run of the command line, and of the estimator."""
    keys = {"seed": seed} if epochs is None else {"seed": seed, "epochs": epochs}
    config = default_config("digits", keys)
    with tempfile.TemporaryDirectory() as folder:
        run = train(config, Path(folder) / "run")
        accuracy = run.evaluate(samples=2, nll_rows=2)["accuracy"]
    rows = TrainingData.from_config(config)
    X, y = rows.dataset.x.reshape(-1, 64) / 16, rows.dataset.y
    shown = np.where(np.isin(np.arange(len(y)), rows.split.labelled), y, -1)
    fitted = rows.split.train
    model = GMMVAEClassifier(
        preset="digits/best", image_shape=(8, 8), epochs=epochs, random_state=seed
    ).fit(X[fitted], shown[fitted])
    return {
        "seed": seed,
        "command line": accuracy,
        "estimator": model.score(X[rows.split.test], y[rows.split.test]),
    }


def page(table: pd.DataFrame, environment: dict[str, Any], epochs: int | None) -> str:
    """The table in Markdown, with means, versions and machine."""
    lines = ["| " + " | ".join(table.columns) + " |", "|---" * len(table.columns) + "|"]
    mean = table.mean().to_dict() | {"seed": "mean"}
    for row in [*table.astype({"seed": object}).to_dict("records"), mean]:
        cells = [str(value) if key == "seed" else f"{value:.4f}" for key, value in row.items()]
        lines.append("| " + " | ".join(cells) + " |")
    budget = "" if epochs is None else f" --epochs {epochs}"
    lines += [
        "",
        "Accuracy on 500 test rows of digits with 100 labels, preset best.",
        "",
        f"    python benchmarks/estimators.py --seeds {len(table)}{budget} --out OUT",
        "",
        ", ".join(f"{key} {value}" for key, value in environment.items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
