"""Progress of a fit: a bar on a terminal, plain lines elsewhere."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from signal import Signals
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pyro_gmmvae.cli.options import is_first_process
from pyro_gmmvae.training.callbacks import Callback

SECONDS_BETWEEN_LINES = 5.0


class Bar(Callback):
    """A rich bar with the newest epoch's numbers and the time left."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = progress.add_task("", total=1.0, numbers="first epoch")

    def on_start(self, about: str) -> None:
        self.progress.console.print(about, highlight=False)

    def on_step(self, progress: float) -> None:
        self.progress.update(self.task, completed=progress)

    def on_epoch(self, record: dict[str, float]) -> None:
        self.progress.update(self.task, numbers=describe(record))

    def on_end(self, outcome: str) -> None:
        if outcome == "complete":
            self.progress.update(self.task, completed=1.0)


class Lines(Callback):
    """One plain line per epoch, at most one in five seconds, and the last one."""

    def __init__(self) -> None:
        self.printed_at = -SECONDS_BETWEEN_LINES
        self.unprinted: dict[str, float] | None = None

    def on_start(self, about: str) -> None:
        click.echo(about, err=True)

    def on_epoch(self, record: dict[str, float]) -> None:
        self.unprinted = record
        if time.monotonic() - self.printed_at >= SECONDS_BETWEEN_LINES:
            self._print()

    def on_end(self, outcome: str) -> None:  # noqa: ARG002
        self._print()

    def _print(self) -> None:
        if self.unprinted is not None:
            click.echo(f"{describe(self.unprinted)}  {self.unprinted['seconds']:.0f} s", err=True)
            self.unprinted, self.printed_at = None, time.monotonic()


def describe(record: dict[str, float]) -> str:
    """One epoch in a line: held-out ELBO, its KL terms, accuracy."""
    text = f"epoch {int(record['epoch'])}  ELBO {record['val_elbo']:.2f}"
    text += "".join(
        f"  KL({name[7:]}) {value:.2f}" for name, value in record.items() if name[:7] == "val_kl_"
    )
    if "val_accuracy" in record:
        text += f"  accuracy {record['val_accuracy']:.3f}"
    return text


def run_with_progress(fit: Callable[[Sequence[Any]], Any], as_json: bool) -> int:
    """Run a fit under a bar or lines, print the outcome, and return the exit status."""
    console = Console(stderr=True)
    speaks = is_first_process()
    with ExitStack() as stack:
        callback: Bar | Lines = Lines()
        if console.is_terminal and speaks:
            columns = (BarColumn(20), TaskProgressColumn(), TextColumn("{task.fields[numbers]}"))
            bar = Progress(*columns, TimeRemainingColumn(), console=console)
            callback = Bar(stack.enter_context(bar))
        run = fit([callback] if speaks else [])
    metrics = json.loads((run.path / "metrics.json").read_text("utf-8"))
    outcome = metrics["outcome"]
    status = 128 + int(Signals[outcome]) if outcome.startswith("SIG") else 0
    if not speaks:
        return status
    if as_json:
        shown = {k: v for k, v in metrics.items() if k != "elbo_quantiles"}
        click.echo(json.dumps({"run": str(run.path), **shown}))
    else:
        click.echo(
            f"{outcome} after {metrics['epochs']} epochs, {metrics['seconds']:.0f} s -> {run.path}"
        )
    if status:
        click.echo(f"stopped by {outcome}; go on with: gmmvae resume {run.path}", err=True)
    elif not as_json:
        click.echo(f"next: gmmvae evaluate {run.path}")
    return status
