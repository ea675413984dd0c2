"""gmmvae skeleton: what is done with people's joints before they are rows."""

import click

from pyro_gmmvae.cli.skeleton.inspect import inspect
from pyro_gmmvae.cli.skeleton.render import render
from pyro_gmmvae.cli.skeleton.track import track


@click.group(short_help="Look at OpenPose frames and tracks.", no_args_is_help=True)
def skeleton() -> None:
    """Look at OpenPose frames and tracks.

    \b
    gmmvae skeleton inspect frames/
    gmmvae skeleton track frames/ --out tracks.parquet
    gmmvae skeleton render tracks.parquet --out people.gif
    """


for command in (inspect, track, render):
    skeleton.add_command(command)
