"""Names of a run's components: those of classes, and those that were given later."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, StringConstraints

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import write_json
from pyro_gmmvae.models import LatentModel
from pyro_gmmvae.runs.folder import NAMES, read_record
from pyro_gmmvae.runs.schema import Schema


def fitted_names(config: Config, schema: Schema) -> tuple[str, ...]:
    """The classes that the first components stand for; empty where the fit saw no label."""
    return () if config.labels == 0 else schema.classes


def component_names(first: Sequence[str], components: int) -> list[str]:
    """K names: those of the first components, then "component_k" for the others."""
    return [*first, *(f"component_{k}" for k in range(len(first), components))]


class _Names(BaseModel):
    names: list[Annotated[str, StringConstraints(pattern=r"\S")]]


def read_names(path: Path, components: int) -> tuple[str, ...] | None:
    """The names that ``gmmvae name`` gave to the components of a run, or None.

    Raises:
        GMMVAEError: a damaged file, or one of a run with another number of components.
    """
    file = path / NAMES
    advice = f"delete it, and name the components again with 'gmmvae name {path} LABELS.csv'"
    content = read_record(file, _Names, advice)
    if not content:
        return None
    names = tuple(content["names"])
    if len(names) != components:
        raise GMMVAEError(
            f"{file} holds {len(names)} names and the run has {components} components: it is of "
            f"another run; {advice}"
        )
    return names


def write_names(path: Path, names: Sequence[str], counts: Mapping[int, Mapping[str, int]]) -> None:
    """Write ``names.json`` into a run folder, atomically.

    Args:
        path: the run folder.
        names: K of them.
        counts: for each labelled component, how often each name was given.
    """
    labels = {str(k): dict(labels) for k, labels in counts.items()}
    write_json(path / NAMES, {"names": list(names), "from": labels})


def names_given(
    path: Path, config: Config, schema: Schema, model: LatentModel
) -> tuple[str, ...] | None:
    """The names given to the components of a run after a fit without labels, or None.

    Raises:
        GMMVAEError: a damaged ``names.json``, or one of another run.
    """
    if not model.components or fitted_names(config, schema):
        return None
    return read_names(path, model.components)
