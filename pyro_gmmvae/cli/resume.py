"""gmmvae resume"""

import shlex
import sys
from pathlib import Path

import click

from pyro_gmmvae.cli.options import (
    device_option,
    json_option,
    log_option,
    moved_data_option,
    run_argument,
)


@click.command(short_help="Go on with a run that was stopped.")
@run_argument
@click.option("--epochs", type=int, metavar="N", help="Train up to N epochs in all.")
@click.option("--minutes", type=float, metavar="M", help="Train up to M minutes in all.")
@moved_data_option
@device_option
@log_option
@json_option
def resume(
    run: Path,
    epochs: int | None,
    minutes: float | None,
    data: str | None,
    device: str | None,
    log: tuple[str, ...] | None,
    as_json: bool,
) -> int:
    """Go on with RUN from its last checkpoint.

    On the same machine a run bounded by epochs continues bit for bit: its history is that of a
    run that was never stopped. (One bounded by minutes follows the clock.) A run that is
    complete goes on where --epochs or --minutes gives it a longer budget.
    """
    from pyro_gmmvae.cli.progress import run_with_progress
    from pyro_gmmvae.runs import resume as resume_run

    command = shlex.join(["gmmvae", *sys.argv[1:]])
    return run_with_progress(
        lambda callbacks: resume_run(
            run,
            epochs=epochs,
            minutes=minutes,
            data=data,
            device=device,
            log=log,
            callbacks=callbacks,
            command=command,
        ),
        as_json,
    )
