"""Options that several commands share, under the same names."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., Any])


def is_first_process() -> bool:
    """Whether this process speaks: of those that torchrun starts, one does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK") == "0"


class TableName(click.ParamType):
    """A key of one of the package's tables; the table is loaded to complete, not to parse."""

    name = "name"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        from pyro_gmmvae.cli.list import names

        known = names().get(self.kind, [])
        return [CompletionItem(n) for n in known if n.startswith(incomplete)]


class Names(TableName):
    """Comma-separated keys of one of the package's tables, or words of no table."""

    name = "names"

    def __init__(self, kind: str | None) -> None:
        super().__init__(kind or "")

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        names = tuple(part.strip() for part in value.split(",") if part.strip())
        if not names:
            self.fail("name at least one", param, ctx)
        return tuple(dict.fromkeys(names))  # a name given twice is meant once


class KeyOption(click.Option):
    """An option that sets the configuration key of its name; its help shows the key's default."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from pyro_gmmvae.config import Config

        record = super().get_help_record(ctx)
        default = Config.model_fields[str(self.name)].default
        if record is None or default in (None, False, ()):
            return record
        return record[0], f"{record[1]}  [default: {default}]"


class Count(click.ParamType):
    """A number of labels, or "all"."""

    name = "n|all"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "all" or isinstance(value, int):
            return value
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'all'", param, ctx)


def run_argument(command: Command) -> Command:
    """RUN: the run folder."""
    return click.argument("run", type=click.Path(path_type=Path))(command)


def device_option(command: Command) -> Command:
    """--device."""
    return click.option(
        "--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.  [default: auto]"
    )(command)


def moved_data_option(command: Command) -> Command:
    """--data, for a run whose data has moved."""
    return click.option(
        "--data",
        metavar="FILE|DIR",
        help="Where the run's data is now, if it has moved: the file, or the set's folder.",
    )(command)


def log_option(command: Command) -> Command:
    """--log."""
    return click.option(
        "--log",
        type=Names("loggers"),
        metavar="NAME,...|none",
        callback=lambda ctx, param, names: () if names == ("none",) else names,  # noqa: ARG005
        help="Logs beside history.csv: tensorboard (in the run folder), mlflow.",
    )(command)


def json_option(command: Command) -> Command:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def force_option(command: Command) -> Command:
    """--force."""
    return click.option("--force", is_flag=True, help="Replace an output that exists.")(command)


def weights_option(command: Command) -> Command:
    """--weights."""
    return click.option(
        "--weights",
        type=click.Choice(["last", "best"]),
        help="Which weights to use: the last epoch's, or the best on validation rows.  "
        "[default: best after training with patience, else last]",
    )(command)


def drop_nonfinite_option(command: Command) -> Command:
    """--drop-nonfinite."""
    return click.option(
        "--drop-nonfinite",
        is_flag=True,
        default=None,
        help="Leave out rows with NaN or infinite values instead of refusing the file.",
    )(command)


def check_output(out: Path, force: bool, suffixes: tuple[str, ...]) -> None:
    """Refuse, before any work, an output that can't or should not be written."""
    if out.suffix not in suffixes:
        raise click.UsageError(f"{out}: the name must end in {' or '.join(suffixes)}")
    if out.is_dir():
        raise click.UsageError(f"{out} is a folder")
    if out.exists() and not force:
        raise click.UsageError(f"{out} exists and is kept; replace it with --force")
    if not out.parent.is_dir():
        raise click.UsageError(f"{out.parent} is not a folder; make it first")
