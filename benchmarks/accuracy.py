"""Test accuracy over label draws, beside supervised references on the same labels.

    python benchmarks/accuracy.py --data digits --seeds 5 --out benchmarks/results/digits
    python benchmarks/accuracy.py --data mnist --data-dir DIR --labels 100,1000 --seeds 3 \\
        --set minutes=1.25 --out benchmarks/results/mnist

Each cell is what a user types: ``gmmvae train`` and ``gmmvae evaluate`` in processes of their own,
on one thread. ``seconds`` is the wall time of the whole train command, imports and saving included.
The references (scikit-learn, labelled rows only) see the same label draw and the same test rows.
A cell whose row is in DIR/results.csv is skipped, so an interrupted benchmark goes on.
"""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import pandas as pd

KEY = ["data", "model", "labels", "seed", "settings", "config"]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@click.command()
@click.option("--data", default="digits", show_default=True)
@click.option("--data-dir", help="Folder of the data set's files.")
@click.option("--models", default="gmmvae", show_default=True, help="Comma-separated.")
@click.option("--labels", default="100", show_default=True, help="Comma-separated.")
@click.option("--seeds", default=5, show_default=True, help="Label draws, seeds 0, 1, ...")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="As for gmmvae train.")
@click.option("--references/--no-references", default=True, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    data: str,
    data_dir: str | None,
    models: str,
    labels: str,
    seeds: int,
    sets: tuple[str, ...],
    references: bool,
    out: Path,
) -> None:
    """Measure, append to OUT/results.csv, and write OUT/table.md."""
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.csv"
    for count in (int(n) for n in labels.split(",")):
        for seed in range(seeds):
            where = ["--data", data, *(["--data-dir", data_dir] if data_dir else [])]
            draw = ["--labels", str(count), "--seed", str(seed)]
            for model in models.split(","):
                config = fingerprint(data, model, count, sets)
                values = (data, model, count, seed, " ".join(sets), config)
                cell = dict(zip(KEY, values, strict=True))
                if not is_done(results, cell):
                    options = [*draw, "--model", model, *(f"--set={text}" for text in sets)]
                    append(results, cell | train_and_evaluate(where, options))
            if references:
                supervised(results, data, data_dir, count, seed)
            write_table(out)


def fingerprint(data: str, model: str, labels: int, sets: tuple[str, ...]) -> str:
    """Short hash of all settings a cell is trained with, so that a changed recipe is run anew."""
    from pyro_gmmvae.runs import default_config

    changes = dict(text.split("=", 1) for text in sets)
    config = default_config(data, {"model": model, "labels": labels}, changes)
    changed = config.model_dump_json(exclude_defaults=True)  # a new key leaves old cells alone
    return hashlib.sha256(changed.encode()).hexdigest()[:8]


def train_and_evaluate(where: list[str], options: list[str]) -> dict[str, Any]:
    """One cell through the command line, on one thread."""
    environment = os.environ | ONE_THREAD
    program = [sys.executable, "-m", "pyro_gmmvae"]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        started = time.monotonic()
        arguments = [*program, "train", *where, *options, "--out", str(run)]
        subprocess.run(arguments, env=environment, check=True, capture_output=True)
        seconds = time.monotonic() - started
        printed = subprocess.run(
            [*program, "evaluate", str(run), "--json"],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        numbers = json.loads(printed)
        metrics = json.loads((run / "metrics.json").read_text())
        about = json.loads((run / "environment.json").read_text())
    click.echo(f"{shlex.join(options)}: accuracy {numbers['accuracy']}, {seconds:.1f} s")
    taken = ("accuracy", "elbo", "nll", "test_rows", "guide", "objective")
    return {name: numbers[name] for name in taken} | {
        "val_accuracy": metrics["training"].get("val_accuracy"),
        "seconds": round(seconds, 1),
        "fit_seconds": round(metrics["seconds"], 1),
        "epochs": metrics["epochs"],
        "steps": metrics["steps"],
        "device": about["device"],
        "threads": about["threads"],
        "processor": about["processor"],
        "versions": " ".join(f"{k}={v}" for k, v in about["packages"].items()),
        "command": shlex.join(["gmmvae", "train", "--data", where[1], *options]),
    }


def supervised(results: Path, data: str, data_dir: str | None, labels: int, seed: int) -> None:
    """Rows of scikit-learn's classifiers on the labelled rows alone."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC
    from threadpoolctl import threadpool_limits

    from pyro_gmmvae.runs import default_config
    from pyro_gmmvae.runs.build import load_rows

    config = default_config(data, {"data_dir": data_dir, "labels": labels, "seed": seed})
    classifiers = {
        "logistic regression": LogisticRegression(max_iter=2000),
        "1-nearest neighbor": KNeighborsClassifier(1),
        "SVM (RBF)": SVC(C=10),
        "MLP, labels only": MLPClassifier(config.hidden, max_iter=500, random_state=seed),
    }
    rows = None
    for name, classifier in classifiers.items():
        cell = dict(zip(KEY, (data, name, labels, seed, "", ""), strict=True))
        if is_done(results, cell):
            continue
        rows = rows or load_rows(config)
        x, y = (
            part.flatten(1) if part.dim() > 1 else part for part in rows.part(rows.split.labelled)
        )
        test_x, test_y = rows.part(rows.split.test)
        started = time.monotonic()
        with threadpool_limits(1):
            classifier.fit(x.flatten(1).numpy(), y.numpy())
            seconds = time.monotonic() - started
            accuracy = classifier.score(test_x.flatten(1).numpy(), test_y.numpy())
        machine = {"device": "cpu", "threads": 1, "processor": platform.machine()}
        measured = {"accuracy": accuracy, "seconds": round(seconds, 1), "test_rows": len(test_y)}
        append(results, cell | measured | machine)


def is_done(results: Path, cell: dict[str, Any]) -> bool:
    """Whether the cell's row is there."""
    if not results.exists():
        return False
    table = pd.read_csv(results, keep_default_na=False)
    return bool((table[KEY].astype(str) == pd.Series(cell).astype(str)).all(axis=1).any())


def append(results: Path, row: dict[str, Any]) -> None:
    """Add one row; the file is replaced whole, so it is never half-written."""
    before = [pd.read_csv(results, keep_default_na=False)] if results.exists() else []
    table = pd.concat([*before, pd.DataFrame([row])], ignore_index=True)
    temporary = results.with_suffix(".part")
    table.to_csv(temporary, index=False)
    temporary.replace(results)


def write_table(out: Path) -> None:
    """Mean and standard deviation over label draws, best first."""
    table = pd.read_csv(out / "results.csv", dtype={"settings": str, "config": str})
    groups = table.fillna({"settings": "", "config": ""}).groupby(KEY[:3] + KEY[4:])
    lines = [
        "| data | labels | model | settings | accuracy | draws | seconds (largest) |",
        "|---|---|---|---|---|---|---|",
    ]
    summary = groups.agg(
        mean=("accuracy", "mean"),
        std=("accuracy", "std"),
        n=("accuracy", "size"),
        seconds=("seconds", "max"),
    ).reset_index()
    for row in summary.sort_values(["data", "labels", "mean"], ascending=[1, 1, 0]).itertuples():
        lines.append(
            f"| {row.data} | {row.labels} | {row.model} | {row.settings} "
            f"| {row.mean:.4f} ± {row.std:.4f} | {row.n} | {row.seconds:.1f} |"
        )
    about = table[table["versions"].notna()].iloc[-1]
    lines += ["", f"{about['processor']}, {int(about['threads'])} thread. {about['versions']}.", ""]
    lines.append(f"Made by `python benchmarks/accuracy.py {shlex.join(_public(sys.argv[1:]))}`.")
    (out / "table.md").write_text("\n".join(lines) + "\n")


def _public(arguments: list[str]) -> list[str]:
    """The command without this machine's folder."""
    return [
        "DIR" if i and arguments[i - 1] == "--data-dir" else text
        for i, text in enumerate(arguments)
    ]


if __name__ == "__main__":
    main()
