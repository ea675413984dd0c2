"""gmmvae predict"""

from pathlib import Path

import click

from pyro_gmmvae.cli.options import (
    check_output,
    device_option,
    drop_nonfinite_option,
    force_option,
    json_option,
    run_argument,
    weights_option,
)


@click.command(short_help="Classify the rows of a file.")
@run_argument
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Table to write (.csv or .parquet).  [default: print CSV]",
)
@drop_nonfinite_option
@weights_option
@force_option
@device_option
@json_option
def predict(
    run: Path,
    file: Path,
    out: Path | None,
    drop_nonfinite: bool | None,
    weights: str | None,
    force: bool,
    device: str | None,
    as_json: bool,
) -> None:
    """Label the rows of FILE (npz, npy, csv, parquet, IDX images) with RUN.

    For a run on skeletons FILE is a table of tracks; there is a row per sequence, with columns
    sequence, windows (how many), person, probability, p_CLASS, elbo and elbo_quantile.

    Columns: row (number in the file, from 0), label, p_CLASS (its probability), elbo (nats)
    and elbo_quantile (share of validation rows with a higher ELBO: near 1 for a row unlike the
    training data). A label column in FILE is ignored. Where RUN was
    trained without labels, classes are the names that 'gmmvae name' gave, or else components.
    """
    from pyro_gmmvae.files import atomic_write
    from pyro_gmmvae.runs import Run

    if out is not None:
        check_output(out, force, (".csv", ".parquet"))
    loaded = Run.load(run, device=device or "auto", weights=weights)
    table = loaded.predict(file, drop_nonfinite=bool(drop_nonfinite))
    if as_json:
        click.echo(table.to_json(orient="records"))
    if out is None:
        if not as_json:
            click.echo(table.to_csv(index=False), nl=False)
        return
    text = table.to_csv(index=False).encode()
    atomic_write(out, text if out.suffix == ".csv" else table.to_parquet(index=False))
    click.echo(f"{len(table)} rows -> {out}", err=True)
