"""Models as classifiers and as generators, over label draws.

    python benchmarks/generation.py --data digits --draws 5 --out benchmarks/results/generation
    python benchmarks/generation.py --data mnist --data-dir DIR --preset best --minutes 10 \\
        --draws 3 --out benchmarks/results/generation
    python benchmarks/generation.py --data fashion-mnist --data-dir DIR --preset best \\
        --minutes 10 --draws 3 --out benchmarks/results/generation

Fashion-MNIST has files of the same names and format as MNIST's; DIR is the folder that holds its
four files. Every row is a run of ``gmmvae train`` on one thread (the row has its command),
measured by ``gmmvae evaluate``. The reference is a Gaussian mixture of pixels per class from
scikit-learn, which sees the true labels of up to 10,000 training rows. The same command resumes
an interrupted benchmark: runs with a row in OUT/DATA/results.csv are skipped. OUT/DATA gets
results.csv, table.md and table.tex. --quick trains one epoch on one label draw, to test this
script.
"""

from pathlib import Path

import click
import pandas as pd
from pixel_mixture import REFERENCE, add_mixture
from table_notes import public_command

from pyro_gmmvae.cli import run
from pyro_gmmvae.cli.options import NameList, assignments
from pyro_gmmvae.runs import default_config
from pyro_gmmvae.sweeps import (
    footnotes,
    latest_rows,
    plan_sweep,
    read_results,
    sweep,
    write_tables,
)

MODELS = ("gmmvae", "gmvae-discrete", "m2", "cvae", "vae")
DATA = {"digits": "digits", "mnist": "mnist", "fashion-mnist": "mnist"}
# columns of the table, with the number of decimals
COLUMNS = {
    "accuracy": 3,
    "recognized": 3,
    "recall": 3,
    "precision": 3,
    "coverage": 3,
    "spread": 2,
    "recall_sampled": 3,
    "precision_sampled": 3,
    "nll": 2,
    "rate": 1,
    "seconds": 0,
}
# of the line of real rows
OF_REAL_ROWS = {
    "recognized": "judge_accuracy",
    "recall": "recall_reference",
    "precision": "precision_reference",
}


@click.command()
@click.option("--data", type=click.Choice(list(DATA)), default="digits", show_default=True)
@click.option("--data-dir", help="Folder of the data set's files.")
@click.option("--models", type=NameList("models"), default=",".join(MODELS), show_default=True)
@click.option("--preset", help="Named settings.  [default: that of the data]")
@click.option("--labels", default="100", show_default=True)
@click.option("--draws", default=5, show_default=True, help="Label draws, seeds 0, 1, ...")
@click.option("--epochs", type=int, help="Epochs of each run.")
@click.option("--minutes", type=float, help="Wall-clock budget of each run.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="As for gmmvae train.")
@click.option("--jobs", default=1, show_default=True, help="Runs at once.")
@click.option("--quick", is_flag=True, help="One epoch and one label draw.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    data: str,
    data_dir: str | None,
    models: tuple[str, ...],
    preset: str | None,
    labels: str,
    draws: int,
    epochs: int | None,
    minutes: float | None,
    sets: tuple[str, ...],
    jobs: int,
    quick: bool,
    out: Path,
) -> None:
    """Measure the runs that OUT/DATA/results.csv lacks, then write the tables."""
    if data == "fashion-mnist" and data_dir is None:
        raise click.UsageError("--data fashion-mnist needs --data-dir, the folder of its files")
    draws, epochs = (1, 1) if quick else (draws, epochs)
    given = {"data_dir": data_dir, "epochs": epochs, "minutes": minutes}
    common = {"data": DATA[data]} | {k: v for k, v in given.items() if v is not None}
    runs = plan_sweep(
        common | assignments(sets),
        models=models,
        presets=[preset],
        labels=[labels],
        seeds=range(draws),
        log=log,
    )
    folder = out / data
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {} if preset is None else {"preset": preset}
    config = default_config(DATA[data], common, assignments(sets), chosen, {"labels": labels})
    add_mixture(config, range(draws), folder / "results.csv", log)
    _, failures = sweep(runs, folder, jobs=jobs, log=log)
    report(latest_rows(read_results(folder / "results.csv", log)), folder, data)
    if failures:
        raise click.ClickException(f"{len(failures)} runs failed; the first: {failures[0]}")


def report(table: pd.DataFrame, out: Path, data: str) -> None:
    """Write OUT/table.md and OUT/table.tex: means over label draws, and the line of real rows."""
    lines = [_line(model, rows, COLUMNS) for model, rows in _by_line(table)]
    # every run has the same test rows
    real = table.head(1).rename(columns={name: key for key, name in OF_REAL_ROWS.items()})
    real = real.loc[:, ~real.columns.duplicated(keep="last")]
    lines.append(_line("real rows", real, {key: COLUMNS[key] for key in OF_REAL_ROWS}))
    text = pd.DataFrame(lines).fillna("")
    command = public_command("generation.py")
    notes = [
        f"{data}: draws beside as many test rows, at most 1,000. recognized: share of draws that "
        "an SVM of all labels gives their class; recall and precision with 5 neighbors, of means "
        'of p(x|z) and, "sampled", of draws of x. Real rows: test rows beside training rows.',
        "The nll of cvae is of log p(x|y) at the true y. vae has no classes. "
        f"{REFERENCE}: a Gaussian mixture of pixels per class, which sees all labels. All its "
        "columns are of draws of x, and its nll is left out: it is the density of numbers.",
        *footnotes(table[table["model"] != REFERENCE], command),
    ]
    write_tables(text, out, notes)


def _by_line(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each line: a model with its settings, the models in their order."""
    order = {name: number for number, name in enumerate((*MODELS, REFERENCE))}
    table = table.sort_values("model", key=lambda names: names.map(order).fillna(99), kind="stable")
    groups = table.groupby(["model", "preset", "settings", "labels"], sort=False, dropna=False)
    several = groups.ngroups > table["model"].nunique()
    return [
        (" ".join(str(word) for word in (keys if several else keys[:1]) if word), rows)
        for keys, rows in groups
    ]


def _line(name: str, rows: pd.DataFrame, columns: dict[str, int]) -> dict[str, str]:
    line = {"model": name}
    for key, decimals in columns.items():
        values = rows[key].dropna() if key in rows else pd.Series(dtype=float)
        spread = f" ± {values.std():.{decimals}f}" if len(values) > 1 and key != "seconds" else ""
        line[key] = f"{values.mean():.{decimals}f}{spread}" if len(values) else "-"
    return line | {"n": str(len(rows))}


def log(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    run(main)
