"""gmmvae list"""

import json

import click

from pyro_gmmvae.cli.options import json_option


@click.command(name="list", short_help="Names that options take, and all keys.")
@click.argument("kind", required=False)
@json_option
def list_names(kind: str | None, as_json: bool) -> None:
    """Name the models, guides, objectives, data sets, networks, or the keys of --set.

    \b
    gmmvae list            all names
    gmmvae list guides     one kind
    gmmvae list keys       every key with its default and meaning
    """
    from pyro_gmmvae.errors import unknown_name

    if kind == "keys":
        click.echo(json.dumps(keys()) if as_json else _describe(keys()))
        return
    found = names()
    if kind is not None:
        if kind not in found:
            raise unknown_name("kind", kind, [*found, "keys"])
        found = {kind: found[kind]}
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, values in found.items():
        click.echo(f"{name:<14}{', '.join(values)}")


def names() -> dict[str, list[str]]:
    """Every table of the package by kind."""
    from pyro_gmmvae.datasets import DATA, FILE_PRESETS, KINDS
    from pyro_gmmvae.distributions import LIKELIHOODS
    from pyro_gmmvae.guides import GUIDES
    from pyro_gmmvae.models import MODELS
    from pyro_gmmvae.networks import ACTIVATIONS, NETWORKS
    from pyro_gmmvae.objectives import OBJECTIVES
    from pyro_gmmvae.training.loggers import LOGGERS

    return {
        "models": list(MODELS),
        "guides": list(GUIDES),
        "objectives": list(OBJECTIVES),
        "data": list(DATA),
        "networks": list(NETWORKS),
        "presets": sorted({*FILE_PRESETS, *(p for s in DATA.values() for p in s.presets)}),
        "likelihoods": list(LIKELIHOODS),
        "activations": list(ACTIVATIONS),
        "augmentations": [
            "auto",
            *(name for kind in KINDS.values() for name in kind.augmentations),
        ],
        "loggers": list(LOGGERS),
    }


def keys() -> dict[str, dict[str, str]]:
    """Every configuration key with its default and meaning."""
    from pyro_gmmvae.config import Config

    return {
        key: {"default": str(field.default), "meaning": field.description or ""}
        for key, field in Config.model_fields.items()
    }


def _describe(found: dict[str, dict[str, str]]) -> str:
    return "\n".join(
        f"{key:<20}{entry['default']:<15}{entry['meaning']}".rstrip()
        for key, entry in found.items()
    )
