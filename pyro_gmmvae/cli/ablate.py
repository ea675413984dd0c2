"""gmmvae ablate"""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from pyro_gmmvae.cli.options import NameList, device_option, json_option


@click.command(short_help="Compare models, guides, objectives or presets in a table.")
@click.option("--data", default="digits", show_default=True, metavar="NAME|FILE")
@click.option("--data-dir", metavar="DIR", help="Folder with the data set's files (mnist).")
@click.option("--label-column", metavar="NAME", help="Column or array with the labels.")
@click.option("--models", type=NameList("models"), metavar="A,B", help="[default: gmmvae]")
@click.option("--guides", type=NameList("guides"), metavar="A,B", help="[default: the model's own]")
@click.option(
    "--objectives",
    type=NameList("objectives"),
    metavar="A,B",
    help="[default: what fits the guide]",
)
@click.option("--presets", type=NameList(), metavar="A,B", help="[default: that of the data]")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="K=V,K=V",
    help="A column of its own with these keys, '' for none; repeat it.",
)
@click.option("--labels", type=NameList(), metavar="N,M", help="Label counts, or 'all'.")
@click.option(
    "--seeds", type=click.IntRange(1), default=5, show_default=True, help="Seeds 0, 1, ... each."
)
@click.option("--epochs", type=int, metavar="N", help="Passes over the rows, for every cell.")
@click.option("--minutes", type=float, metavar="M", help="Wall-clock budget of every cell.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="A key of every cell.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Cells at once.")
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of each."
)
@click.option("--backend", default="local", show_default=True, help="Where cells run: local, ray.")
@click.option("--metric", default="accuracy", show_default=True, help="Column to compare.")
@click.option("--keep-runs", is_flag=True, help="Keep each cell's run folder under DIR/runs.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@device_option
@json_option
def ablate(
    models: tuple[str, ...] | None,
    guides: tuple[str, ...] | None,
    objectives: tuple[str, ...] | None,
    presets: tuple[str, ...] | None,
    variants: tuple[str, ...],
    labels: tuple[str, ...] | None,
    seeds: int,
    sets: tuple[str, ...],
    jobs: int,
    threads: int,
    backend: str,
    metric: str,
    keep_runs: bool,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Train and evaluate every combination, each over several seeds, into one table.

    DIR/results.csv gets a row per run, DIR/table.md and DIR/table.tex a line per combination:
    mean, standard deviation and n over seeds, and the paired difference to the first
    combination with its 95 % interval. DIR/table.png shows the means with their 95 % intervals and
    every seed. A cell whose row is there is skipped; one that was
    stopped half-way goes on. Combinations that do not fit are named and left out.

    \b
    gmmvae ablate --guides product,mean-field,bayes --seeds 5 --labels 100 --out ablation
    gmmvae ablate --variant '' --variant alpha=0 --variant input_noise=0 --out parts
    """
    from pyro_gmmvae.cli.options import assignments
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.sweeps.execute import sweep
    from pyro_gmmvae.sweeps.plan import plan
    from pyro_gmmvae.sweeps.run_cell import NUMBERS
    from pyro_gmmvae.sweeps.tables import (
        markdown,
        notes_of,
        shown,
        summarize,
        write_dots,
        write_tables,
    )

    def say(line: str) -> None:
        click.echo(line, err=True)

    if metric not in (*NUMBERS, "val_accuracy"):
        known = ", ".join((*NUMBERS, "val_accuracy"))
        raise click.UsageError(f"--metric {metric}: choose from {known}")
    common = {key: value for key, value in options.items() if value is not None}
    cells = plan(
        common | assignments(sets),
        models=models or ("gmmvae",),
        guides=guides or (None,),
        objectives=objectives or (None,),
        presets=presets or (None,),
        variants=[variant(text) for text in variants] or [{}],
        labels=labels or (None,),
        seeds=range(seeds),
        say=say,
    )
    table, failures = sweep(
        cells, out, jobs=jobs, threads=threads, backend=backend, keep_runs=keep_runs, say=say
    )
    if table.empty:
        raise GMMVAEError(f"{len(failures)} of {len(cells)} cells failed; the first: {failures[0]}")
    summary = summarize(table, metric)
    if summary["mean"].isna().all():
        say(f"no line has a number for {metric}; --metric names another, as probe_accuracy")
    text = shown(summary, metric)
    command = shlex.join(["gmmvae", *sys.argv[1:]])
    write_tables(text, out, notes_of(table, command))
    write_dots(table, out, metric)
    click.echo(summary.to_json(orient="records") if as_json else markdown(text), nl=as_json)
    if failures:
        raise GMMVAEError(f"{len(failures)} of {len(cells)} cells failed; the first: {failures[0]}")


def variant(text: str) -> dict[str, str | None]:
    """Keys and values of "key=value,key=value"; a value may hold commas itself, as hidden=16,16."""
    from pyro_gmmvae.cli.options import assignments

    pairs = re.split(r",(?=\s*\w+\s*=)", text) if text else []
    found = assignments(pairs)
    if len(found) < len(pairs):
        raise click.UsageError(f"--variant {text} names a key twice; repeat --variant for columns")
    return found
