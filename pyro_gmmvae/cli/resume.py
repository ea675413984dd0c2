"""gmmvae resume"""

from pathlib import Path

import click

from pyro_gmmvae.cli.options import device_option, json_option, run_argument


@click.command(short_help="Go on with a run that was stopped.")
@run_argument
@click.option("--epochs", type=int, metavar="N", help="Train up to N epochs in all.")
@click.option("--minutes", type=float, metavar="M", help="Train up to M minutes in all.")
@device_option
@json_option
def resume(
    run: Path, epochs: int | None, minutes: float | None, device: str | None, as_json: bool
) -> int:
    """Go on with RUN from its last checkpoint.

    On the same machine it continues bit for bit: the history is that of a run that was never
    stopped. A run that is complete goes on where --epochs or --minutes gives it a longer budget.
    """
    from pyro_gmmvae.cli.progress import run_with_progress
    from pyro_gmmvae.runs import resume as resume_run

    return run_with_progress(
        lambda callbacks: resume_run(
            run, epochs=epochs, minutes=minutes, device=device, callbacks=callbacks
        ),
        as_json,
    )
