"""gmmvae suggest"""

from pathlib import Path

import click

from pyro_gmmvae.cli.options import (
    PATH,
    check_output,
    device_option,
    drop_nonfinite_option,
    force_option,
    run_argument,
    weights_option,
)
from pyro_gmmvae.cli.predict import csv_text


@click.command(short_help="Name the rows of a file to label next.")
@run_argument
@click.argument("file", type=PATH)
@click.option(
    "--n",
    "number",
    type=click.IntRange(1, 100_000),
    default=20,
    show_default=True,
    help="How many rows to name.",
)
@click.option("--out", type=PATH, metavar="CSV", help="Table to write.  [default: print it]")
@drop_nonfinite_option
@weights_option
@force_option
@device_option
def suggest(
    run: Path,
    file: Path,
    number: int,
    out: Path | None,
    drop_nonfinite: bool | None,
    weights: str | None,
    force: bool,
    device: str | None,
) -> None:
    """Name the rows of FILE that RUN is least certain of, and that differ from each other.

    The table has the columns row (number in FILE, from 0), label (the most probable class) and
    reason, the row to label first in the first line. Rows that have a label in FILE are left out.
    Write the labels into FILE, and train again.
    """
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.files import atomic_write

    if not file.exists():
        raise GMMVAEError(f"{file} does not exist")
    if out is not None:
        check_output(out, force, (".csv",))
    from pyro_gmmvae.runs import Run
    from pyro_gmmvae.runs.suggest import suggest_rows

    loaded = Run.load(run, device=device or "auto", weights=weights)
    columns = suggest_rows(loaded, file, number, drop_nonfinite=bool(drop_nonfinite))
    if out is None:
        click.echo(csv_text(columns), nl=False)
        return
    atomic_write(out, csv_text(columns).encode())
    click.echo(f"{len(columns['label'])} rows -> {out}", err=True)
