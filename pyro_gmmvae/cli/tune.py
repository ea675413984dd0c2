"""gmmvae tune"""

import json
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyro_gmmvae.cli.options import (
    assignments,
    config_option,
    jobs_option,
    json_option,
    key_options,
    out_folder_option,
    set_option,
    without_none,
)

if TYPE_CHECKING:
    from pyro_gmmvae.sweeps import TrialReport, Tuned


@click.command(short_help="Tune a model's settings on validation rows.")
@key_options(
    *("data", "data_dir", "label_column", "labels", "preset", "model", "guide", "epochs"),
    *("seed", "device"),
    drop_nonfinite=False,
)
@click.option(
    "--trial-minutes", "minutes", type=float, metavar="M", help="Wall-clock budget of each trial."
)
@config_option
@set_option
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
    help="Method that proposes trials: gp, tpe or random.",
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
    help="Number of trials of the study.",
)
@click.option(
    "--minutes", "budget", type=float, metavar="M", help="Start no trial after M minutes."
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Fits of each trial; its value is their mean.",
)
@jobs_option
@click.option(
    "--prune/--no-prune",
    default=True,
    show_default=True,
    help="Stop trials below the median.",
)
@click.option("--keep-runs", is_flag=True, help="Keep run folders under DIR/trials.")
@out_folder_option
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
    """Search a model's settings; later trials learn from earlier ones.

    Each model declares which of its keys are searched ('--search' adds or replaces one); a key
    with a value from an option, --set or --config keeps it. The first trial has the settings of
    'gmmvae train'. The value of a trial is its metric on validation rows at the end; test rows
    are never used. The best of many values is optimistic: evaluate the run that you train with
    these settings. Ctrl-C keeps finished trials; the same command resumes the study, and several
    processes or machines may share DIR.

    DIR gets best.toml (for 'gmmvae train --config'), trials.csv, and with enough trials
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
        raise click.UsageError(f"{key} has a value and is searched as well: leave out one of them")
    with ExitStack() as stack:
        log, on_trial_end = _progress(stack, trials)
        try:
            tuned = run_study(
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
                log=log,
                on_trial_end=on_trial_end,
            )
        except KeyboardInterrupt:
            if (out / "journal.log").exists():
                log(
                    f"finished trials are kept in {out}; resume with: "
                    f"{shlex.join(['gmmvae', *sys.argv[1:]])}"
                )
            raise
    _print_best(tuned, out, as_json)


def _searches(texts: tuple[str, ...]) -> dict[str, str]:
    """Keys and ranges from "key=range"."""
    ranges = {}
    for text in texts:
        key, equals, dimension = (part.strip() for part in text.partition("="))
        if not equals or not dimension:
            raise click.UsageError(
                f"--search {text}: write KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A,B"
            )
        if key in ranges:
            raise click.UsageError(f"--search names {key} twice")
        ranges[key] = dimension
    return ranges


def _progress(
    stack: ExitStack, trials: int
) -> tuple[Callable[[str], None], Callable[["TrialReport"], None]]:
    """Functions that print lines and ends of trials: with a bar on a terminal, plain elsewhere."""
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
            lambda report: click.echo(trial_line(report), err=True)
        )
    columns = (BarColumn(20), MofNCompleteColumn(), TextColumn("trials"), TimeElapsedColumn())
    bar = stack.enter_context(Progress(*columns, console=console))
    task = bar.add_task("", total=trials)

    def log(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    def on_trial_end(report: "TrialReport") -> None:
        log(trial_line(report))
        bar.update(task, completed=report.finished)

    return log, on_trial_end


def trial_line(report: "TrialReport") -> str:
    """Describe the end of a trial in one line."""
    text = f"trial {report.number}: "
    text += report.reason if report.value is None else f"{report.value:.4f}"
    text += "" if report.state == "complete" else f" ({report.state})"
    words = [
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in report.params.items()
    ]
    return f"{text}, {report.seconds:.0f} s; {' '.join(words)}"


def _print_best(tuned: "Tuned", out: Path, as_json: bool) -> None:
    """Print the best trial, the value without tuning, and the command that trains the best."""
    if as_json:
        click.echo(
            json.dumps(
                {
                    "metric": tuned.metric,
                    "value": tuned.value,
                    "trial": tuned.number,
                    "first": tuned.first,
                    "config": str(out / "best.toml"),
                    "trials": len(tuned.trials),
                }
            )
        )
        return
    states = tuned.trials["state"].value_counts()
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    first = "" if tuned.first is None else f", {tuned.first:.4f} with the first settings"
    click.echo(f"best {tuned.metric} {tuned.value:.4f} in trial {tuned.number}{first} ({counts})")
    click.echo(
        f"next: {shlex.join(['gmmvae', 'train', '--config', str(out / 'best.toml')])} --out RUN"
    )
