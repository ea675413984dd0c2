"""Few labels on tables: gmmvae beside the classifiers of scikit-learn.

    python benchmarks/tables.py --data-dir DIR --out benchmarks/results/tables
    python benchmarks/tables.py --data-dir DIR --methods gmmvae --out benchmarks/results/tables
    python benchmarks/tables.py --summary --out benchmarks/results/tables

The tables are scikit-learn's iris, wine, breast_cancer and digits, and each csv file of DIR, whose
last column is the label (or the column of ``table_data.LABEL_COLUMNS``). A draw holds out 30 % of
the rows for the test, and shows some labels of each class; the other training rows have no label.
All methods get the same draws. gmmvae trains on a csv file, with the settings of
``gmmvae train --data FILE --cv 0``; ``--variant NAME --set KEY=VALUE`` is measured as
``gmmvae:NAME``. ``--validation`` leaves the test rows out, and measures on training rows that are
held out: by them settings are chosen, and their results are for another folder. ``--coverage 0.9``
cross-validates, and measures sets of classes: their coverage and size, as ``gmmvae:sets``.
``--leave-out`` trains without the rows of one class, in each draw another, and measures the AUROC
of its test rows against the others by the column ``new`` of gmmvae and by 1 - max p of other
methods, as ``METHOD:new``; the accuracy is that of the other classes. Tables of two classes are
left out there.

The same command resumes an interrupted benchmark: OUT/TABLE-LABELS.json has all results, and
``--again`` measures them once more. A table that a method refused is tried in each command.
Several commands may write to one folder. At the end, and by ``--summary``, OUT gets table.md and
labels.png.
"""

import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import table_references
import table_runs
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from table_data import Draw, LabelledTable, draw, leaving_out, read_labelled, table_names
from table_report import read_measured, report
from threadpoolctl import threadpool_limits

import pyro_gmmvae
from pyro_gmmvae.cli import run
from pyro_gmmvae.cli.options import NameList, assignments
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.files import atomic_write, read_json
from pyro_gmmvae.runs.locks import acquire_lock

# class numbers, probabilities or None, and the columns of gmmvae predict or None
Prediction = tuple[NDArray[np.int64], NDArray[np.float64] | None, pd.DataFrame | None]
OURS = "gmmvae"
# a probability of 0 for the true class would count as infinitely wrong
SMALLEST = 1e-4


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of csv files.")
@click.option("--tables", type=NameList(), help="Comma-separated.  [default: all]")
@click.option("--methods", type=NameList(), help="Comma-separated.  [default: scikit-learn's]")
@click.option("--labels", default="3,10,30", show_default=True, type=NameList())
@click.option("--draws", default=10, show_default=True, help="Splits and labels, seeds 0, 1, ...")
@click.option("--variant", metavar="NAME", help="Name of the settings of --set: gmmvae:NAME.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="As for gmmvae train.")
@click.option("--coverage", type=float, help="Measure the sets of gmmvae, as gmmvae:sets.")
@click.option("--validation", is_flag=True, help="Measure on held-out training rows instead.")
@click.option("--leave-out", is_flag=True, help="Measure the AUROC for a new class: METHOD:new.")
@click.option("--budget", type=float, help="Minutes; what is left is for the next call.")
@click.option("--again", is_flag=True, help="Measure again what OUT has.")
@click.option("--summary", is_flag=True, help="Measure nothing; write table.md and labels.png.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    data_dir: Path | None,
    tables: tuple[str, ...] | None,
    methods: tuple[str, ...] | None,
    labels: tuple[str, ...],
    draws: int,
    variant: str | None,
    sets: tuple[str, ...],
    coverage: float | None,
    validation: bool,
    leave_out: bool,
    budget: float | None,
    again: bool,
    summary: bool,
    out: Path,
) -> None:
    """Measure what OUT lacks, then write the table and the figure."""
    if summary:
        report(read_measured(out), out, methods)
        return
    if variant is None and sets:
        raise click.UsageError("--set needs --variant, the name of these settings")
    if data_dir is not None and not data_dir.is_dir():
        raise GMMVAEError(f"{data_dir} is not a folder")
    tables = chosen("table", tables, table_names(data_dir))
    asks_ours = variant is not None or coverage is not None
    default = (OURS,) if asks_ours else table_references.REFERENCES
    methods = chosen("method", methods, [*table_references.REFERENCES, OURS], default)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of processes that a method starts
    out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * (np.inf if budget is None else budget)
    read = functools.cache(lambda name: read_labelled(name, data_dir))
    # the first draws of everything come first
    for seed, name, count in itertools.product(range(draws), tables, map(int, labels)):
        file = out / f"{name}-{count}.json"
        if leave_out and len(read(name).classes) < 3:
            continue  # one class would be left
        known = {} if again or not file.exists() else read_json(file)["measured"]
        for method in methods:
            line = f"{OURS}:{variant}" if method == OURS and variant else method
            line += ":sets" * (coverage is not None) + ":new" * leave_out
            if "accuracy" in known.get(line, {}).get(str(seed), {}):
                continue
            if time.monotonic() > until:
                log("the budget is used up; give the command again for the rest")
                report(read_measured(out), out)
                return
            one = draw(read(name), count, seed, validation)
            if leave_out:
                measured = measure_new(method, one, assignments(sets))
            else:
                measured = measure(method, one, assignments(sets), coverage)
            write(file, about(read(name), count), line, seed, measured)
            shown = measured.get("accuracy", measured.get("error"))
            log(f"{name}, {count} labels a class, draw {seed}: {line} {shown}")
    report(read_measured(out), out)


def chosen(
    kind: str,
    given: tuple[str, ...] | None,
    known: list[str],
    default: tuple[str, ...] | None = None,
) -> tuple[str, ...]:
    """The names that were given, or the default ones (None: all).

    Raises:
        GMMVAEError: an unknown name.
    """
    for name in given or ():
        if name not in known:
            raise unknown_name(kind, name, known)
    return given or default or tuple(known)


def measure(
    method: str, draw: Draw, settings: Mapping[str, Any], coverage: float | None = None
) -> dict[str, Any]:
    """Accuracy, log loss and seconds of a method on a draw, or its error.

    With ``coverage`` also ``coverage``, the share of test rows whose set has their class, and
    ``set_size``, the mean number of its classes.
    """

    def predict() -> Prediction:
        if method == OURS:
            sets = {"folds": coverage is not None, "coverage": coverage}
            return table_runs.predict(draw, settings, **sets)
        return *table_references.predict(method, draw), None

    y, result = draw.table.y[draw.test], timed(predict)
    if isinstance(result, str):
        return {"error": result}
    (label, p, columns), seconds = result
    found = {"accuracy": share(label == y)}
    if p is not None:
        p = p.clip(SMALLEST) / p.clip(SMALLEST).sum(1, keepdims=True)
        found["log_loss"] = round(float(-np.log(p[np.arange(len(y)), y]).mean()), 4)
    if coverage is not None and columns is not None:
        sets = [text.split("|") if text else [] for text in columns["set"]]
        true = draw.table.labels[draw.test]
        covered = [name in names for name, names in zip(true, sets, strict=True)]
        found["coverage"] = share(covered)
        found["set_size"] = round(float(np.mean([len(names) for names in sets])), 3)
    return found | {"seconds": seconds}


def measure_new(method: str, draw: Draw, settings: Mapping[str, Any]) -> dict[str, Any]:
    """AUROC of the test rows of a class without training rows against those of the others.

    Returns:
        ``auroc``, ``accuracy`` of the others, and ``seconds``; or ``error``.
    """
    seen, left_out = leaving_out(draw)

    def predict() -> Prediction:
        if method == OURS:
            return table_runs.predict(seen, settings, folds=True)
        return *table_references.predict(method, seen), None

    y, result = draw.table.y[draw.test], timed(predict)
    if isinstance(result, str):
        return {"error": result}
    (label, p, columns), seconds = result
    if p is None:
        return {"error": "no probabilities"}
    new = 1 - p.max(1) if columns is None else columns["new"]
    known = y != left_out
    found = {"accuracy": share((label == y)[known]), "auroc": round(roc_auc_score(~known, new), 4)}
    return found | {"seconds": seconds}


def timed(predict: Callable[[], Prediction]) -> tuple[Prediction, float] | str:
    """What a method predicts and its seconds on one thread, or its error."""
    started = time.monotonic()
    try:
        with threadpool_limits(1):
            return predict(), round(time.monotonic() - started, 2)
    except Exception as error:  # the other tables are measured all the same
        return ("" if isinstance(error, GMMVAEError) else f"{type(error).__name__}: ") + str(error)


def share(right: Any) -> float:
    """The share of true values."""
    return round(float(np.mean(right)), 4)


def about(table: LabelledTable, labels: int) -> dict[str, Any]:
    """The head of a file of results."""
    rows, columns = table.x.shape
    size = {"rows": rows, "columns": columns, "classes": len(table.classes)}
    return {"table": table.name, "labels": labels, **size, "version": pyro_gmmvae.__version__}


def write(
    file: Path, head: Mapping[str, Any], method: str, seed: int, measured: Mapping[str, Any]
) -> None:
    """Add a result to a file that other processes add to as well."""
    with acquire_lock(file.parent / ".lock"):
        known = read_json(file)["measured"] if file.exists() else {}
        of_method = known.get(method, {}) | {str(seed): measured}
        known[method] = dict(sorted(of_method.items(), key=lambda item: int(item[0])))
        atomic_write(file, text_of(head, known).encode())


def text_of(head: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON with a line for each result."""
    methods = [
        f"  {json.dumps(method)}: {{\n"
        + ",\n".join(f"   {json.dumps(k)}: {json.dumps(v)}" for k, v in draws.items())
        + "\n  }"
        for method, draws in sorted(measured.items())
    ]
    first = json.dumps(head).removesuffix("}")
    return f'{first},\n "measured": {{\n' + ",\n".join(methods) + "\n }\n}\n"


def log(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    run(main)
