"""gmmvae explore"""

import os
import sys
from pathlib import Path

import click

from pyro_gmmvae.cli.options import (
    device_option,
    moved_data_option,
    run_argument,
    weights_option,
)


@click.command(short_help="Explore the latent space of a run in the browser.")
@run_argument
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=5006,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@moved_data_option
@weights_option
@device_option
@click.option(
    "--open/--no-browser",
    "browser",
    default=False,
    help="Open the page in the browser, whose command line then has the token.  [default: print "
    "the address]",
)
def explore(
    run: Path,
    port: int,
    data: str | None,
    weights: str | None,
    device: str | None,
    browser: bool,
) -> None:
    """Serve a page on 127.0.0.1 to explore RUN, until Ctrl-C.

    Sliders set z and the class weights s, and the page shows the decoded row. A click on the map of
    the data's z decodes that point and shows the nearest rows. The address has a token, without
    which no other user of this machine can open the page, and the page loads nothing from other
    hosts.
    """
    import logging

    from pyro_gmmvae.runs.folder import read_config

    read_config(run)
    # torch is imported from here on
    from pyro_gmmvae.explorer import explore

    def ready(address: str) -> None:
        click.echo(f"{run.name} at {address} (Ctrl-C ends)")
        if browser:
            import webbrowser

            webbrowser.open(address)

    # refused requests and closed connections are not errors of this command
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    logging.getLogger("bokeh").setLevel(logging.ERROR)
    explore(run, port=port, data=data, weights=weights, device=device or "auto", ready=ready)
    # the server has stopped; the interpreter would take seconds to free what torch holds
    sys.stdout.flush()
    os._exit(0)
