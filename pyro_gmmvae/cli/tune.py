"""gmmvae tune"""

import json
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from pyro_gmmvae.cli.options import assignments, json_option, key_options, without_none


@click.command(short_help="Search a model's settings by validation rows.")
@key_options(
    *("data", "data_dir", "label_column", "labels", "preset", "model", "guide", "epochs"),
    *("seed", "device"),
    drop_nonfinite=False,
)
@click.option(
    "--trial-minutes", "minutes", type=float, metavar="M", help="Or wall-clock minutes of each."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="TOML",
    help="Keys to keep; --search frees one.",
)
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key, to keep; repeat it."
)
@click.option(
    "--search",
    "searches",
    multiple=True,
    metavar="KEY=RANGE",
    help="Search a key from LOW:HIGH, LOW:HIGH:log, or among A,B,C; repeat it.",
)
@click.option(
    "--sampler",
    default="gp",
    show_default=True,
    metavar="NAME",
    help="What chooses the next trial: gp, tpe or random.",
)
@click.option(
    "--metric",
    metavar="NAME",
    help="val_accuracy, val_log_loss, val_elbo or val_sequence_accuracy.  "
    "[default: val_accuracy, without labels val_elbo]",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="How many DIR has in the end.",
)
@click.option(
    "--minutes", "budget", type=float, metavar="M", help="Begin no trial after M minutes."
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Fits of each trial; their mean counts.",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Trials at once."
)
@click.option(
    "--prune/--no-prune",
    default=True,
    show_default=True,
    help="Stop trials that lag behind.",
)
@click.option("--keep-runs", is_flag=True, help="Keep run folders under DIR/trials.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@json_option
def tune(
    config: Path | None,
    sets: tuple[str, ...],
    searches: tuple[str, ...],
    budget: float | None,
    out: Path,
    as_json: bool,
    data: str | None,
    sampler: str,
    metric: str | None,
    trials: int,
    seeds: int,
    jobs: int,
    prune: bool,
    keep_runs: bool,
    **options: Any,
) -> None:
    """Search a model's settings in trials that learn from each other.

    Each model says which of its keys are worth searching ('--search' adds or replaces one); a
    key that is given by an option, --set or --config keeps its value. The first trial has the
    settings of 'gmmvae train'. A trial's value is that of validation rows at its end; test rows
    are never looked at. As the best of many, it is optimistic: evaluate the run you train with
    it. Ctrl-C keeps what is finished; the same command goes on, and several processes or
    machines may work in one DIR.

    DIR gets best.toml (for 'gmmvae train --config'), trials.csv, and where trials are enough
    importance.csv, importance.md and pictures.

    \b
    gmmvae tune --data digits --labels 100 --trials 50 --minutes 30 --jobs 2 --out tuned
    gmmvae tune --data rows.csv --model m2 --search alpha=0.1:100:log --search hidden=64,128x128 \\
        --epochs 20 --out tuned
    gmmvae train --config tuned/best.toml --out runs/tuned
    """
    from pyro_gmmvae.config import read_config
    from pyro_gmmvae.sweeps import tune as run_study

    if data is not None:
        options["data"] = data
    given = without_none(options)
    fixed, search = assignments(sets), _searches(searches)
    for key in sorted(search.keys() & (given.keys() | fixed.keys())):
        raise click.UsageError(
            f"{key} is given a value and searched as well: leave one of them out"
        )
    with ExitStack() as stack:
        say, heard = _progress(stack, trials)
        try:
            found = run_study(
                given | fixed,
                out,
                start=read_config(config) if config else {},
                search=search,
                trials=trials,
                minutes=budget,
                jobs=jobs,
                sampler=sampler,
                metric=metric,
                seeds=seeds,
                prune=prune,
                keep_runs=keep_runs,
                say=say,
                heard=heard,
            )
        except KeyboardInterrupt:
            if (out / "journal.log").exists():
                say(
                    f"finished trials are kept in {out}; go on with: "
                    f"{shlex.join(['gmmvae', *sys.argv[1:]])}"
                )
            raise
    _conclude(found, out, as_json)


def _searches(texts: tuple[str, ...]) -> dict[str, str]:
    """Keys and ranges from "key=range"."""
    found = {}
    for text in texts:
        key, equals, wanted = (part.strip() for part in text.partition("="))
        if not equals or not wanted:
            raise click.UsageError(
                f"--search {text}: write KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A,B"
            )
        if key in found:
            raise click.UsageError(f"--search names {key} twice")
        found[key] = wanted
    return found


def _progress(stack: ExitStack, trials: int) -> tuple[Callable[[str], None], Callable[[Any], None]]:
    """What hears lines and trials: a bar on a terminal, plain lines elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        return (lambda line: click.echo(line, err=True)), (
            lambda report: click.echo(describe(report), err=True)
        )
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("trials"), TimeElapsedColumn())
    bar = stack.enter_context(Progress(*columns, console=console))
    task = bar.add_task("", total=trials)

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    def heard(report: Any) -> None:
        say(describe(report))
        bar.update(task, completed=report.finished)

    return say, heard


def describe(report: Any) -> str:
    """A trial's end in a line."""
    text = f"trial {report.number}: "
    text += report.reason if report.value is None else f"{report.value:.4f}"
    text += "" if report.state == "complete" else f" ({report.state})"
    words = [
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in report.params.items()
    ]
    return f"{text}, {report.seconds:.0f} s; {' '.join(words)}"


def _conclude(found: Any, out: Path, as_json: bool) -> None:
    """The best trial, what it is to be held against, and the command that trains it."""
    if as_json:
        click.echo(
            json.dumps(
                {
                    "metric": found.metric,
                    "value": found.value,
                    "trial": found.number,
                    "first": found.first,
                    "config": str(out / "best.toml"),
                    "trials": len(found.trials),
                }
            )
        )
        return
    states = found.trials["state"].value_counts()
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    before = "" if found.first is None else f", {found.first:.4f} with the settings it began with"
    click.echo(f"best {found.metric} {found.value:.4f} in trial {found.number}{before} ({counts})")
    click.echo(
        f"next: {shlex.join(['gmmvae', 'train', '--config', str(out / 'best.toml')])} --out RUN"
    )
