"""gmmvae skeleton: what is done with people's joints before they are rows."""

import click

from pyro_gmmvae.cli.skeleton.inspect import inspect
from pyro_gmmvae.cli.skeleton.render import render


@click.group(short_help="Look at OpenPose frames and tracks.", no_args_is_help=True)
def skeleton() -> None:
    """Look at OpenPose frames and tracks.

    \b
    gmmvae skeleton inspect frames/
    gmmvae skeleton render tracks.npz --out people.gif
    """


for command in (inspect, render):
    skeleton.add_command(command)
