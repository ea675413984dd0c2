"""gmmvae impute"""

from pathlib import Path

import click

from pyro_gmmvae.cli.options import (
    PATH,
    check_output,
    device_option,
    force_option,
    run_argument,
    seed_option,
    weights_option,
)


@click.command(short_help="Fill the missing cells of a table.")
@run_argument
@click.argument("file", type=PATH)
@click.option(
    "--out", type=PATH, required=True, metavar="FILE", help="Table: .csv, .parquet or .xlsx."
)
@click.option(
    "--statistic",
    type=click.Choice(("mean", "mode")),
    default="mean",
    show_default=True,
    help="Of what the model expects of a cell. Categories get the most probable one.",
)
@click.option(
    "--draws",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Write N tables with cells drawn at random, one below the other (multiple imputation).",
)
@click.option(
    "--interval",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="Add columns NAME_low and NAME_high, between which a filled number is with probability P.",
)
@seed_option
@weights_option
@force_option
@device_option
def impute(
    run: Path,
    file: Path,
    out: Path,
    statistic: str,
    draws: int | None,
    interval: float | None,
    seed: int,
    weights: str | None,
    force: bool,
    device: str | None,
) -> None:
    """Fill the missing cells of FILE (csv, parquet, feather, xlsx) with RUN.

    A cell gets what the model expects there, given the other cells of its row. All other cells,
    columns that RUN does not use, and the order of rows and columns stay. With --draws the column
    draw has the number of the table, from 1.
    """
    from pyro_gmmvae.data.cell_table import WRITTEN
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.files import ending

    if not file.exists():
        raise GMMVAEError(f"{file} does not exist")
    check_output(out, force, WRITTEN)
    # imported after the checks, since it loads torch
    from pyro_gmmvae.runs import Run
    from pyro_gmmvae.runs.imputation import impute_file

    loaded = Run.load(run, device=device or "auto", weights=weights)
    table, notes = impute_file(
        loaded,
        file,
        statistic=statistic,
        draws=draws or 0,
        interval=interval,
        typed=ending(out) != ".csv",
        seed=seed,
    )
    table.write(out)
    click.echo(f"{'; '.join(notes)}; {len(table.cells)} rows -> {out}", err=True)
