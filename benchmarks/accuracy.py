"""Test accuracy of all models over label counts and draws, beside published numbers.

    python benchmarks/accuracy.py --data digits --labels 50,100,500 --seeds 5 --jobs 2 \\
        --out benchmarks/results/digits
    python benchmarks/accuracy.py --data mnist --data-dir DIR --labels 100,1000 --seeds 3 \\
        --minutes 2 --jobs 2 --out benchmarks/results/mnist

Every row is a run of ``gmmvae train`` on one thread (the row has its command), measured by
``gmmvae evaluate``. The references (scikit-learn, labelled rows only) see the same
label draw and the same test rows. The same command resumes an interrupted benchmark: runs with a
row in OUT/results.csv are skipped. OUT gets results.csv, table.md, table.tex, table.png and
errors.png; --redraw measures nothing, and writes the tables and pictures of the rows that are
there, such as those of several commands:

    python benchmarks/accuracy.py --redraw --out benchmarks/results/mnist-few-labels
"""

import itertools
from pathlib import Path
from typing import Any

import click
import pandas as pd
from figures.error_curves import error_curves
from references import REFERENCES, add_references
from table_notes import note_of_marks, public_command

from pyro_gmmvae.cli import run
from pyro_gmmvae.cli.options import NameList, assignments
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.runs import default_config
from pyro_gmmvae.sweeps import (
    footnotes,
    format_table,
    latest_rows,
    plan_sweep,
    read_results,
    read_stored_results,
    summarize,
    sweep,
    write_dot_plot,
    write_tables,
)

PUBLISHED = Path(__file__).with_name("published.csv")


@click.command()
@click.option("--data", default="digits", show_default=True)
@click.option("--data-dir", help="Folder of the data set's files.")
@click.option("--models", type=NameList("models"), help="Comma-separated.  [default: all]")
@click.option("--preset", help="Named settings.  [default: that of the data]")
@click.option("--labels", type=NameList(), default="100", show_default=True)
@click.option("--seeds", default=5, show_default=True, help="Label draws, seeds 0, 1, ...")
@click.option("--epochs", type=int, help="Epochs of each run.")
@click.option("--minutes", type=float, help="Wall-clock budget of each run.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="As for gmmvae train.")
@click.option(
    "--variant", "variants", multiple=True, metavar="K=V,K=V", help="A set of keys to compare."
)
@click.option("--device", help="Where to compute.  [default: auto]")
@click.option("--jobs", default=1, show_default=True, help="Runs at once.")
@click.option("--backend", default="local", show_default=True, help="local, or ray.")
@click.option("--references/--no-references", default=True, show_default=True)
@click.option(
    "--redraw", is_flag=True, help="Measure nothing; write the tables and pictures again."
)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    data: str,
    data_dir: str | None,
    models: tuple[str, ...] | None,
    preset: str | None,
    labels: tuple[str, ...],
    seeds: int,
    epochs: int | None,
    minutes: float | None,
    sets: tuple[str, ...],
    variants: tuple[str, ...],
    device: str | None,
    jobs: int,
    backend: str,
    references: bool,
    redraw: bool,
    out: Path,
) -> None:
    """Measure the runs that OUT/results.csv lacks, then write the tables and the plots."""
    if redraw:
        stored = read_stored_results(out / "results.csv", log)
        if stored.empty:
            raise click.UsageError(f"--redraw: {out / 'results.csv'} has no rows")
        report(latest_rows(stored), out)
        return
    given = {"data_dir": data_dir, "epochs": epochs, "minutes": minutes, "device": device}
    common = {"data": data} | {k: v for k, v in given.items() if v is not None}
    runs = plan_sweep(
        common | assignments(sets),
        # images have no further factors, and without them gmmvae-factors is gmmvae
        models=models or [name for name in MODELS if name != "gmmvae-factors"],
        presets=[preset],
        variants=[assignments(text.split(",") if text else ()) for text in variants] or [{}],
        labels=labels,
        seeds=range(seeds),
        log=log,
    )
    out.mkdir(parents=True, exist_ok=True)
    if references:
        chosen = {} if preset is None else {"preset": preset}
        for label, seed in itertools.product(labels, range(seeds)):
            layers = (common, assignments(sets), chosen, {"labels": label, "seed": seed})
            add_references(default_config(data, *layers), out / "results.csv", log)
    _, failures = sweep(runs, out, jobs=jobs, backend=backend, log=log)
    report(latest_rows(read_results(out / "results.csv", log)), out)
    if failures:
        raise click.ClickException(f"{len(failures)} runs failed; the first: {failures[0]}")


def report(table: pd.DataFrame, out: Path) -> None:
    """Write the tables and the plots of all rows, including rows of other commands."""
    table = scored(table)
    table = table.sort_values(
        ["data", "labels", "preset", "settings", "model", "seed"],
        key=_position,
    )
    summary = summarize(table, "score")
    probes = set(table[table["probe"]]["model"])
    # a difference to the first line says something where parts of one recipe are left out
    if table.groupby(["data", "labels", "model"])["settings"].nunique().max() == 1:
        summary = summary.assign(difference=None)
    text = format_table(summary, "accuracy")
    text["model"] = [f"{m} *" if m in probes else m for m in summary["model"]]
    text["published"] = [published(row.data, row.model, row.labels) for row in summary.itertuples()]
    command = public_command("accuracy.py")
    notes = [
        "Supervised references see the labelled rows only. Seconds: training and evaluation. "
        "Published: accuracy as 1 - test error, with its protocol.",
        *note_of_marks(text),
        "\\* has no classifier: logistic regression on z of the labelled rows. The elbo and nll "
        "of cvae are of log p(x|y) at the true y, those of the others of log p(x).",
        *footnotes(table[table["guide"].notna() & (table["steps"].notna())], command),
    ]
    write_tables(text, out, notes)
    error_curves(summary).savefig(out / "errors.png", dpi=150)
    draw(table, out)


def scored(table: pd.DataFrame) -> pd.DataFrame:
    """Add the score to compare, and whether it is that of a linear probe."""
    return table.assign(
        probe=table["accuracy"].isna(),
        score=table["accuracy"].fillna(table["probe_accuracy"]),
    )


def draw(table: pd.DataFrame, out: Path) -> None:
    """Draw OUT/table.png: accuracy with intervals; the first model of ours is dashed."""
    table = scored(table)
    ours = table.assign(other=table["model"] != "gmmvae", model=_marked(table))
    labels = ours["labels"].replace("all", "inf").astype(float)
    ours = ours.assign(count=labels).sort_values(["count", "other"], kind="stable")
    axis = "accuracy of test rows" + (" (* linear probe of z)" if ours["probe"].any() else "")
    write_dot_plot(ours, out, "score", axis)


def _marked(table: pd.DataFrame) -> list[str]:
    """Names of models, with a star for models without a classifier."""
    probes = set(table[table["probe"]]["model"])
    return [f"{model} *" if model in probes else model for model in table["model"]]


def _position(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Sorting keys: models in the order of their table, label counts as numbers, "all" last."""
    if column.name == "labels":
        return column.replace("all", "inf").astype(float)
    if column.name == "model":
        order = {name: number for number, name in enumerate([*MODELS, *REFERENCES])}
        return column.map(order).fillna(len(order))
    return column


def published(data: str, model: str, labels: str) -> str:
    """The published accuracy of a model, its protocol and source, or an empty text."""
    table = pd.read_csv(PUBLISHED, dtype={"labels": str})
    rows = table[(table.data == data) & (table.model == model) & (table.labels == labels)]
    if not len(rows):
        return ""
    row = rows.iloc[0]
    spread = "" if pd.isna(row["std"]) else f" ± {row['std'] / 100:.4f}"
    return f"{1 - row['error'] / 100:.4f}{spread} ({row['protocol']}; {row['source']})"


def log(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    run(main)
