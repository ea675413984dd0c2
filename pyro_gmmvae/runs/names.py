"""What a run's components are called: by the classes of a fit with labels, or afterwards."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_json, write_json
from pyro_gmmvae.runs.data import Schema

NAMES = "names.json"


def named_by_fit(config: Config, schema: Schema) -> tuple[str, ...]:
    """The classes that the first components stand for; none where the fit saw no label."""
    return () if config.labels == 0 else schema.classes


def component_names(first: Sequence[str], components: int) -> list[str]:
    """K names: those of the first components, then "component_k" for those beyond them."""
    return [*first, *(f"component_{k}" for k in range(len(first), components))]


def read_names(path: Path, components: int) -> tuple[str, ...] | None:
    """The names that ``gmmvae name`` gave to the components of the run in a folder, or None.

    Raises:
        GMMVAEError: a file that is damaged, or of a run with another number of components.
    """
    file = path / NAMES
    if not file.exists():
        return None
    advice = f"delete it, and name the components again with 'gmmvae name {path} LABELS.csv'"
    try:
        content = read_json(file)
    except GMMVAEError as error:
        raise GMMVAEError(f"{error}; {advice}") from error
    names = content.get("names") if isinstance(content, dict) else None
    if not isinstance(names, list) or not all(isinstance(n, str) and n.strip() for n in names):
        raise GMMVAEError(f"{file} is damaged: it holds no list of names; {advice}")
    if len(names) != components:
        raise GMMVAEError(
            f"{file} holds {len(names)} names and the run has {components} components: it is of "
            f"another run; {advice}"
        )
    return tuple(names)


def write_names(path: Path, names: Sequence[str], counts: Mapping[int, Mapping[str, int]]) -> None:
    """Write ``names.json`` into a run folder, atomically.

    Args:
        path: the run folder.
        names: K of them.
        counts: of each component that labels spoke of, how many said which name.
    """
    told = {str(k): dict(labels) for k, labels in counts.items()}
    write_json(path / NAMES, {"names": list(names), "from": told})
