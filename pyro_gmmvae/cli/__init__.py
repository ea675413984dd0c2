"""The command line. One file per command; the only place that uses click, prints or exits.

Command modules import click alone at the top and the package inside their functions, so that
``gmmvae --help`` answers before torch could be loaded.
"""

import codecs
import io
import os
import sys
import warnings
from typing import Any

import click

from pyro_gmmvae import __version__
from pyro_gmmvae.cli.ablate import ablate, components
from pyro_gmmvae.cli.evaluate import evaluate
from pyro_gmmvae.cli.explore import explore
from pyro_gmmvae.cli.export import export
from pyro_gmmvae.cli.figures import figures, report, traverse
from pyro_gmmvae.cli.impute import impute
from pyro_gmmvae.cli.inspect import inspect_file
from pyro_gmmvae.cli.name import name
from pyro_gmmvae.cli.options import is_first_process, list_names
from pyro_gmmvae.cli.predict import generate, predict
from pyro_gmmvae.cli.skeleton import skeleton
from pyro_gmmvae.cli.suggest import suggest
from pyro_gmmvae.cli.train import resume, train
from pyro_gmmvae.cli.tune import tune
from pyro_gmmvae.errors import GMMVAEError, GMMVAEWarning

LONGEST = 700  # characters of an error


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(__version__, prog_name="gmmvae")
def cli() -> None:
    """Gaussian-mixture variational autoencoders: train, evaluate, predict, generate.

    \b
    gmmvae train --data digits --labels 100 --out runs/digits
    gmmvae evaluate runs/digits
    gmmvae predict runs/digits rows.csv --out predictions.csv
    gmmvae generate runs/digits --out grid.png

    'gmmvae COMMAND --help' describes a command.
    """


COMMANDS = (
    *(train, resume, evaluate, predict, impute, generate, traverse),
    *(figures, report, name, suggest, components, explore, export),
    *(inspect_file, tune, ablate, skeleton, list_names),
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command line."""
    run(cli, "gmmvae")


def run(command: click.Command, name: str | None = None) -> None:
    """Run a command: errors of input print one line and exit with status 2."""
    warnings.showwarning = _show_warning
    _print_all_letters()
    try:
        code = command.main(prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 0
    except click.ClickException as error:
        code = _complain(error.format_message())
    except GMMVAEError as error:
        code = _complain(str(error), error)
    except (click.Abort, KeyboardInterrupt):
        click.echo("gmmvae: interrupted", err=True)
        code = 130
    except BrokenPipeError:
        # the reader of our output went away: nothing is left to say, not even at shutdown
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:  # a full disk behind a redirected output
        about = error.filename or "can't write the output"
        code = _complain(f"{about}: {error.strerror or error}")
    except ValueError as error:  # of a distribution, for its parameters
        if not str(error).startswith("Expected "):
            raise
        code = _complain(
            f"the model gives numbers out of range ({str(error).splitlines()[0]}); its weights are "
            "too large: train again, with a smaller learning_rate",
            error,
        )
    except (MemoryError, RuntimeError) as error:
        texts = ("memory", "Storage size calculation overflowed")
        if not isinstance(error, MemoryError) and not any(text in str(error) for text in texts):
            raise
        code = _complain(
            "not enough memory for these sizes; make hidden, latent_dim or batch_size smaller",
            error,
        )
    sys.exit(code if isinstance(code, int) else 0)


def _print_all_letters() -> None:
    """Print UTF-8 where the locale knows ASCII only: names of classes may be of any script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name == "ascii":
            stream.reconfigure(encoding="utf-8")


_show_other_warning = warnings.showwarning


def _show_warning(message: Any, category: type[Warning], *others: Any, **options: Any) -> None:
    if not issubclass(category, GMMVAEWarning | UserWarning | RuntimeWarning):
        _show_other_warning(message, category, *others, **options)
    elif is_first_process():
        click.echo(f"gmmvae: warning: {' '.join(str(message).split())}", err=True)


def _complain(message: str, error: BaseException | None = None) -> int:
    """One line, of one process where several met an error (see ``inference.distributed``)."""
    if not getattr(error, "reported_elsewhere", not is_first_process()):
        line = " ".join(message.split())
        if len(line) > LONGEST:  # it repeats a value: its beginning, and the advice at its end
            line = f"{line[: LONGEST - 200]} ... {line[-200:]}"
        click.echo(f"gmmvae: {line}", err=True)
    return 2
