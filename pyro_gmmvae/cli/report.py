"""gmmvae report"""

import time
from pathlib import Path

import click

from pyro_gmmvae.cli.options import (
    check_output,
    device_option,
    force_option,
    moved_data_option,
    run_argument,
    weights_option,
)


@click.command(short_help="Write all about a run into one HTML file.")
@run_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write.  [default: RUN/report.html]",
)
@moved_data_option
@weights_option
@force_option
@device_option
def report(
    run: Path,
    out: Path | None,
    data: str | None,
    weights: str | None,
    force: bool,
    device: str | None,
) -> None:
    """Put RUN's numbers, pictures, configuration and origin into one HTML file.

    The file needs nothing beside it and no network. Numbers are those of the last 'gmmvae
    evaluate'; without one, or where --weights is given, RUN is measured first.
    """
    start = time.monotonic()
    from pyro_gmmvae.cli.evaluate import MEANING
    from pyro_gmmvae.figures.all import View
    from pyro_gmmvae.figures.report import report as page_of
    from pyro_gmmvae.files import atomic_write
    from pyro_gmmvae.runs import Run
    from pyro_gmmvae.runs.folder import REPORT

    loaded = Run.load(run, device=device or "auto", weights=weights)
    file = run / REPORT if out is None else out
    check_output(file, force, (".html", ".htm"))
    view = View(loaded, data)
    if data is not None:
        _ = view.rows  # its place was said: what is wrong there is an error
    content = page_of(view, MEANING, measure=weights is not None).encode()
    atomic_write(file, content)
    size = f"{len(content) / 1e6:.1f} MB"
    click.echo(f"{size} in {time.monotonic() - start:.1f} s -> {file}", err=True)
