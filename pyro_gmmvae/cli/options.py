"""Options that several commands share, and gmmvae list."""

import functools
import json
import os
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import click
from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., Any])

# placeholders of values in help texts, where the type of a key says too little
METAVARS = {
    "column": "NAME=KIND",
    "components": "K",
    "covariates": "NAME,...",
    "cv": "N",
    "data": "NAME|FILE",
    "data_dir": "DIR",
    "factors": "NAME[=K],...",
    "init": "NAME|RUN",
    "labels": "N|all",
    "labels_file": "CSV",
    "latent_dim": "D",
    "layout": "NAME|TOML",
    "leave_out": "CLASS",
    "likelihood": "NAME[(N)]",
    "tracks": "FILE",
    "x_range": "LOW,HIGH",
}
REPEATED = ("column",)  # options that are given once for each value
# keys that take names of a table, by the kind of 'gmmvae list'
TABLES_OF_KEYS = {
    "data": "data",
    "guide": "guides",
    "likelihood": "likelihoods",
    "log": "loggers",
    "model": "models",
    "network": "networks",
    "objective": "objectives",
    "preset": "presets",
}


def is_first_process() -> bool:
    """Whether this process prints: of those that torchrun starts, one does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK") == "0"


# -- names of the package's tables -----------------------------------------------------------------


def table_names() -> dict[str, list[str]]:
    """The names of every table of the package, by kind."""
    from pyro_gmmvae.datasets import DATA, FILE_PRESETS, KINDS
    from pyro_gmmvae.distributions import LIKELIHOODS
    from pyro_gmmvae.guides import GUIDES
    from pyro_gmmvae.models import MODELS
    from pyro_gmmvae.networks import ACTIVATIONS, NETWORKS
    from pyro_gmmvae.objectives import OBJECTIVES
    from pyro_gmmvae.training.loggers import LOGGERS

    augmentations = [name for kind in KINDS.values() for name in kind.augmentations]
    presets = {*FILE_PRESETS, *(name for source in DATA.values() for name in source.presets)}
    return {
        "models": list(MODELS),
        "guides": list(GUIDES),
        "objectives": list(OBJECTIVES),
        "data": list(DATA),
        "networks": list(NETWORKS),
        "presets": sorted(presets),
        "likelihoods": list(LIKELIHOODS),
        "activations": list(ACTIVATIONS),
        "augmentations": ["auto", *dict.fromkeys(augmentations)],
        "loggers": list(LOGGERS),
    }


class NameList(click.ParamType):
    """Comma-separated names of one of the package's tables, or of no table."""

    name = "names"

    def __init__(self, kind: str | None = None) -> None:
        self.kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        names = tuple(part.strip() for part in value.split(",") if part.strip())
        if not names:
            self.fail("name at least one", param, ctx)
        return tuple(dict.fromkeys(names))  # a name given twice is meant once

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        known = table_names().get(self.kind or "", [])
        return [CompletionItem(name) for name in known if name.startswith(incomplete)]


# -- options of configuration keys -----------------------------------------------------------------


class KeyOption(click.Option):
    """An option that sets the configuration key of its name; type and help are the key's.

    The configuration checks the value.
    """

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from pyro_gmmvae.runs.keys import all_keys

        field = all_keys()[str(self.name)]
        self.help = field.description
        if not self.is_flag:
            self.metavar = METAVARS.get(str(self.name)) or metavar(field.annotation)
        record = super().get_help_record(ctx)
        if record is None or field.default in (None, False, ()):
            return record
        default = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else None
        return record[0], f"{record[1]}  [default: {default or str(field.default).lower()}]"

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return NameList(TABLES_OF_KEYS.get(str(self.name))).shell_complete(ctx, self, incomplete)


def metavar(annotation: Any) -> str:
    """The placeholder for values of a type."""
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    parts = [
        part
        for part in (get_args(annotation) if _is_union(annotation) else (annotation,))
        if part is not type(None)
    ]
    if get_origin(parts[0]) is tuple:
        return f"{metavar(get_args(parts[0])[0])},..."
    return {int: "N", float: "X", str: "NAME"}.get(parts[-1], "VALUE")


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (types.UnionType, Union)


def key_options(*keys: str, **flags: bool) -> Callable[[Command], Command]:
    """Options for configuration keys, in this order.

    Args:
        keys: names of keys.
        flags: keys that are true or false, with their defaults, which come last.
    """

    def decorate(command: Command) -> Command:
        for key, default in reversed(flags.items()):
            name = key.replace("_", "-")
            declaration = f"--{name}/--no-{name}" if default else f"--{name}"
            command = click.option(declaration, cls=KeyOption, is_flag=True, default=None)(command)
        for key in reversed(keys):
            several: dict[str, Any] = {}
            if key in REPEATED:
                several = {"multiple": True, "callback": lambda _, __, values: values or None}
            command = click.option(f"--{key.replace('_', '-')}", cls=KeyOption, **several)(command)
        return command

    return decorate


def assignments(texts: Iterable[str]) -> dict[str, str | None]:
    """Keys and values from "key=value"; "none" is no value."""
    values = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise click.UsageError(f"{text!r}: write key=value")
        values[key] = None if value.lower() == "none" else value
    return values


def without_none(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; "none" is no value."""
    values = {key: value for key, value in options.items() if value is not None}
    return {key: None if value == "none" else value for key, value in values.items()}


class PathName(click.Path):
    """A path. An empty one, of a shell variable without a value, is not the working folder."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "":
            self.fail("the path is empty; name a file or folder", param, ctx)
        return super().convert(value, param, ctx)


PATH = PathName(path_type=Path)


def _folder(ctx: click.Context, param: click.Parameter, out: Path) -> Path:  # noqa: ARG001
    if out.exists() and not out.is_dir():
        raise click.UsageError(f"{out} is a file; name a folder")
    return out


set_option = click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key ('gmmvae list keys')."
)
config_option = click.option("--config", type=PATH, metavar="TOML", help="File of keys.")

# -- other options ---------------------------------------------------------------------------------


def run_argument(command: Command) -> Command:
    """RUN, which is refused before torch is imported if it is not a run folder."""

    @functools.wraps(command)
    def checked(run: Path, **options: Any) -> Any:
        from pyro_gmmvae.runs.folder import read_config

        read_config(run)
        return command(run=run, **options)

    argument = click.argument("run", type=PATH)
    return cast(Command, argument(checked))


out_folder_option = click.option("--out", type=PATH, required=True, metavar="DIR", callback=_folder)
device_option = click.option(
    "--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.  [default: auto]"
)
moved_data_option = click.option(
    "--data",
    metavar="FILE|DIR",
    help="Where the run's data is now, if it has moved: the file, or the set's folder.",
)
log_option = click.option(
    "--log",
    type=NameList("loggers"),
    metavar="NAME,...|none",
    callback=lambda ctx, param, names: () if names == ("none",) else names,  # noqa: ARG005
    help="Logs beside history.csv: tensorboard (in the run folder), mlflow.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
force_option = click.option("--force", is_flag=True, help="Replace an output that exists.")
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Fits at once; with more than one, each is in a process of its own.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the draws.",
)
weights_option = click.option(
    "--weights",
    type=click.Choice(["last", "best"]),
    help="Which weights to use: the last epoch's, or the best on validation rows.  "
    "[default: best after training with patience, else last]",
)
drop_nonfinite_option = click.option(
    "--drop-nonfinite",
    is_flag=True,
    default=None,
    help="Leave out rows with missing cells or infinite values.",
)


def _values(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:  # noqa: ARG001
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise click.UsageError(f"--as {name}{equals}{value}: write --as NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in pairs}


given_option = click.option(
    "--as",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_values,
    help="Give this covariate this value in all rows.  [repeatable]",
)


def check_output(out: Path, force: bool, suffixes: tuple[str, ...]) -> None:
    """Refuse, before any work, an output that can't or should not be written."""
    from pyro_gmmvae.files import ending

    if ending(out) not in suffixes:
        raise click.UsageError(f"{out}: the name must end in {' or '.join(suffixes)}")
    if out.is_dir():
        raise click.UsageError(f"{out} is a folder")
    if out.exists() and not force:
        raise click.UsageError(f"{out} exists and is kept; replace it with --force")
    if not out.parent.is_dir():
        raise click.UsageError(f"{out.parent} is not a folder; make it first")


# -- gmmvae list -----------------------------------------------------------------------------------


@click.command(name="list", short_help="List models, guides, data sets and configuration keys.")
@click.argument("kind", required=False)
@json_option
def list_names(kind: str | None, as_json: bool) -> None:
    """List available models, guides, objectives, data sets, networks, or configuration keys.

    \b
    gmmvae list            all names
    gmmvae list guides     one kind
    gmmvae list keys       every key with its default and meaning
    """
    from pyro_gmmvae.errors import unknown_name

    if kind == "keys":
        click.echo(json.dumps(_keys()) if as_json else _describe_keys())
        return
    names = table_names()
    if kind is not None:
        if kind not in names:
            raise unknown_name("kind", kind, [*names, "keys"])
        names = {kind: names[kind]}
    if as_json:
        click.echo(json.dumps(names))
        return
    for name, values in names.items():
        click.echo(f"{name:<14}{', '.join(values)}")


def _keys() -> dict[str, dict[str, str]]:
    from pyro_gmmvae.runs.keys import all_keys

    return {
        key: {"default": str(field.default), "meaning": field.description or ""}
        for key, field in all_keys().items()
    }


def _describe_keys() -> str:
    return "\n".join(
        f"{key:<20}{entry['default']:<15} {entry['meaning']}".rstrip()
        for key, entry in _keys().items()
    )
