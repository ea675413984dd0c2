"""Tables made from the code whenever the pages are built, so that they stay up to date.

A line ``<!-- made from code: NAME -->`` of a page is replaced by the output of the function of that
name in ``MADE``.
"""

import inspect
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import pandas as pd

ROOT = Path(__file__).parents[2]

MARK = re.compile(r"^<!-- made from code: (\S+) -->$", re.MULTILINE)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(c).replace("|", "\\|").replace("\n", " ") for c in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def code(text: object) -> str:
    return f"`{text}`"


def marked(text: str) -> str:
    """Help with options and quoted commands as code; otherwise their dashes become typography."""
    return re.sub(r"'(gmmvae [^']+)'|(?<![\w`])(--[a-z][a-z-]*)", r"`\1\2`", text)


def summary(thing: Any) -> str:
    """The first sentence of a docstring, with its markup turned from reST to Markdown."""
    first = (inspect.getdoc(thing) or "").split("\n\n")[0].removesuffix("::").rstrip(":")
    plain = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", " ".join(first.split()))
    return re.sub(r"``([^`]+)``", r"`\1`", plain).rstrip(".")


# -- configuration -------------------------------------------------------------------------


def keys() -> str:
    """The configuration keys of every fit: default, allowed values and meaning."""
    from pyro_gmmvae.config import Config

    rows = [
        [code(name), code(_default(field)), _bounds(field), _meaning(field)]
        for name, field in Config.model_fields.items()
    ]
    return table(("key", "default", "allowed", "meaning"), rows)


def own_keys() -> str:
    """The configuration keys of some models and guides: default, meaning and who has them."""
    from pyro_gmmvae.guides import GUIDES
    from pyro_gmmvae.models import MODELS
    from pyro_gmmvae.runs.keys import config_class, own_keys, takes_guide

    fields: dict[str, Any] = {}
    owners: dict[str, dict[str, str]] = {}  # by key, the default of each model or guide
    for model in MODELS:
        for guide in GUIDES if takes_guide(model) else (None,):
            of_guide = config_class(model, guide).guide_keys
            for key, field in own_keys(model, guide).items():
                fields.setdefault(key, field)
                owner = f"guide {guide}" if key in of_guide else model
                owners.setdefault(key, {})[owner] = _default(field)
    rows = []
    for key in sorted(fields):
        names = owners[key]
        usual = max(names.values(), key=list(names.values()).count)
        others = [f"{owner}: {value}" for owner, value in names.items() if value != usual]
        default = code(usual) + (f" ({', '.join(others)})" if others else "")
        rows.append([code(key), default, _meaning(fields[key]), ", ".join(names)])
    return table(("key", "default", "meaning", "models and guides"), rows)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    values = field.default if isinstance(field.default, tuple) else (field.default,)
    return ",".join(map(str, values)) if values not in ((), (None,)) else "none"


def _meaning(field: Any) -> str:
    plain = re.sub(r"``([^`]+)``", r"`\1`", field.description or "")
    return marked(plain.rstrip("."))


def _bounds(field: Any) -> str:
    """The allowed values of a key, if its type limits them."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(code(value) for value in get_args(field.annotation))
    rules = {
        sign: getattr(rule, name)
        for rule in field.metadata
        for name, sign in (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below"))
        if getattr(rule, name, None) is not None
    }
    return ", ".join(f"{sign} {bound}" for sign, bound in rules.items())


def presets() -> str:
    """The settings of each preset of each data set."""
    from pyro_gmmvae.datasets import DATA, FILE_PRESETS

    sources = {name: (source.presets, source.preset) for name, source in DATA.items()}
    sources["a file"] = (FILE_PRESETS, "permutation-invariant")
    parts = []
    for data, (found, default) in sources.items():
        parts.append(f"## {data}\n\nWithout `--preset`: `{default}`.\n")
        rows = [[code(name), _settings(keys)] for name, keys in found.items()]
        parts.append(table(("preset", "settings over the defaults"), rows))
    return "\n".join(parts)


def _settings(found: Any) -> str:
    shown = {k: ",".join(map(str, v)) if isinstance(v, tuple) else v for k, v in found.items()}
    return ", ".join(f"`{key}={value}`" for key, value in shown.items()) or "none"


# -- tables of the package -----------------------------------------------------------------


def _named(found: dict[str, Any], module: str) -> str:
    rows = [[code(n), f"{{py:obj}}`~{module}.{c.__name__}`", summary(c)] for n, c in found.items()]
    return table(("name", "class", "description"), rows)


def models() -> str:
    from pyro_gmmvae.models import MODELS

    return _named(MODELS, "pyro_gmmvae.models")


def guides() -> str:
    from pyro_gmmvae.guides import GUIDES

    return _named(GUIDES, "pyro_gmmvae.guides")


def objectives() -> str:
    from pyro_gmmvae.objectives import OBJECTIVES

    return _named(OBJECTIVES, "pyro_gmmvae.objectives")


def latent_terms() -> str:
    """The terms on z: key, meaning, lines of code and reference."""
    from pyro_gmmvae.objectives import LATENT_TERMS

    rows = []
    for name, term in LATENT_TERMS.items():
        length = len(inspect.getsource(term).splitlines()) - len(_doc(term).splitlines())
        rows.append([code(name), summary(term), length, _reference(term), _measured(name)])
    return table(("key", "term", "lines of code", "reference", "measured in"), rows)


def methods() -> str:
    """Every model: lines of its class, without those of its docstring and of its bases."""
    from pyro_gmmvae.models import MODELS

    rows = []
    for name, model in MODELS.items():
        length = len(inspect.getsource(model).splitlines()) - len(_doc(model).splitlines())
        base = model.__mro__[1].__name__
        beyond = "" if base == "LatentModel" or base[0] == "_" else f" beyond `{base}`"
        reference = _reference(model) or _reference(model.__mro__[1])
        measured = _measured(name)
        for term in () if measured else [*model.key_defaults][:1]:
            measured = f"{_measured(term)} (as {code(term)})"
        rows.append([code(name), f"{length}{beyond}", reference, measured])
    return table(("model", "lines of code", "reference", "measured in"), rows)


@cache
def _measured(name: str) -> str:
    """The committed results with the most seeds of a model or a term, and their number."""
    found = {}
    for file in sorted((ROOT / "benchmarks" / "results").glob("*/results.csv")):
        rows = pd.read_csv(file, dtype=str).fillna("")
        if "seed" not in rows:
            continue
        texts = rows.reindex(columns=["model", "line", "settings"], fill_value="")
        own = (texts["model"] == name) | texts["line"].str.match(rf"{name}(?![\w-])")
        own |= texts["settings"].str.contains(rf"(?:^| ){name}=")
        found[file.parent.name] = rows.loc[own, "seed"].nunique()
    if not any(found.values()):
        return ""
    most = max(found, key=lambda one: found[one])
    return f"{code(most)}, n = {found[most]}"


def _doc(thing: Any) -> str:
    return inspect.getdoc(thing) or ""


def _reference(thing: Any) -> str:
    _, _, text = re.sub("References:", "Reference:", _doc(thing)).partition("Reference:")
    plain = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.lstrip().split("\n\n")[0])
    return " ".join(plain.split()).rstrip(".")


def names() -> str:
    """Every other table of names for options and keys."""
    from pyro_gmmvae.cli.options import table_names as tables

    shown = {k: v for k, v in tables().items() if k not in ("models", "guides", "objectives")}
    return table(("kind", "names"), ([k, ", ".join(map(code, v))] for k, v in shown.items()))


def metrics() -> str:
    """Every number of evaluate, with its meaning as on the command line."""
    from pyro_gmmvae.cli.evaluate import MEANING

    return table(("number", "meaning"), ([code(k), v] for k, v in MEANING.items()))


def run_files() -> str:
    """The files of a run folder."""
    from pyro_gmmvae.runs.folder import OURS

    return table(("file",), ([code(name)] for name in OURS))


EXTRAS = {
    "docs": "these pages",
    "excel": "tables in files of Excel (`.xlsx`)",
    "explore": "`gmmvae explore`",
    "mlflow": "`--log mlflow`",
    "parquet": "parquet files",
    "ray": "`gmmvae ablate --backend ray`",
    "tensorboard": "`--log tensorboard`",
    "tune": "`gmmvae tune`",
    "umap": "maps of z by UMAP",
    "video": "mp4 films",
    "dev": "the tests",
    "dev-all": "`scripts/test --all`",
}


def extras() -> str:
    """The optional packages; an extra that is not in ``EXTRAS`` fails the build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = project["optional-dependencies"]
    if set(found) != set(EXTRAS):
        raise KeyError(f"EXTRAS and pyproject.toml differ in: {set(found) ^ set(EXTRAS)}")
    found["dev"] = ["all of these, and test tools"]
    rows = [[code(n), EXTRAS[n], ", ".join(packages)] for n, packages in found.items()]
    return table(("extra", "for", "packages"), rows)


# -- the command line ----------------------------------------------------------------------


def commands() -> str:
    """Every command with its help and options."""
    from pyro_gmmvae.cli import cli

    return "\n".join(_pages(cli, ("gmmvae",)))


def _pages(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(command, click.Group):
        if len(path) > 1:
            yield f"## {' '.join(path)}\n\n{_help(command)}\n"
        for name, inner in command.commands.items():
            yield from _pages(inner, (*path, name))
        return
    yield f"{'#' * len(path)} {' '.join(path)}\n"
    context = click.Context(command, info_name=" ".join(path))
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{' '.join(path)} {usage}\n```\n\n{_help(command)}\n"
    options = [p.get_help_record(context) for p in command.params]
    rows = [[code(o[0]), marked(o[1])] for o in options if o]
    if rows:
        yield table(("option", "meaning"), rows)


def _help(command: click.Command) -> str:
    """Help as Markdown: paragraphs marked with a backspace are command lines."""
    parts = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            parts.append(f"```text\n{paragraph.removeprefix(chr(8)).strip()}\n```")
        else:
            parts.append(marked(" ".join(paragraph.split())))
    return "\n\n".join(parts)


MADE: dict[str, Callable[[], str]] = {
    f.__name__: f
    for f in (
        *(keys, own_keys, presets, models, guides, objectives, latent_terms, methods),
        *(names, metrics, run_files, extras, commands),
    )
}


def _fill(app: Any, docname: str, source: list[str]) -> None:  # noqa: ARG001
    source[0] = MARK.sub(lambda found: MADE[found[1]](), source[0])


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
