"""Pictures as files, each whole or not there."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures.film import Film
from pyro_gmmvae.figures.style import DPI, boxes_for_missing_letters
from pyro_gmmvae.files import atomic_write
from pyro_gmmvae.runs.clusters import Clusters
from pyro_gmmvae.runs.folder import CLUSTERS

# the same figure gives the same bytes
UNDATED: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
    "png": {},
}
RC: dict[Any, Any] = {"svg.hashsalt": "gmmvae", "pdf.fonttype": 42}


def figure_bytes(figure: Figure, ending: str = "png", dpi: int = DPI) -> bytes:
    """A figure as the content of a file.

    Args:
        figure: any.
        ending: "png", "svg" or "pdf".
        dpi: dots per inch, of PNG and of pictures in the others.
    """
    buffer = io.BytesIO()
    with rc_context(RC), boxes_for_missing_letters():
        figure.savefig(buffer, format=ending, dpi=dpi, metadata=UNDATED[ending])
    return buffer.getvalue()


def files_of(stem: str, ending: str) -> tuple[str, str]:
    """The names of a picture's files, of which the second is there where it moves."""
    return f"{stem}.{ending}", f"{stem}.gif"


def save(drawn: Figure | Film, folder: Path, stem: str, ending: str = "png") -> list[Path]:
    """Write a picture into a folder, a film also as GIF.

    Raises:
        GMMVAEError: a place that can't be written.
    """
    still, moving = (folder / name for name in files_of(stem, ending))
    figure = drawn.sheet if isinstance(drawn, Film) else drawn
    atomic_write(still, figure_bytes(figure, ending))
    if not isinstance(drawn, Film):
        return [still]
    atomic_write(moving, drawn.gif)
    return [still, moving]


def save_clusters(clusters: Clusters, folder: Path) -> None:
    """Write the table of who is in which component.

    Raises:
        GMMVAEError: a place that can't be written.
    """
    atomic_write(folder / CLUSTERS, clusters.table().to_csv(index=False).encode())


def make_folder(folder: Path) -> None:
    """Make a folder to write into, with those above it.

    Raises:
        GMMVAEError: a file of this name, or a place that can't be written.
    """
    if folder.exists() and not folder.is_dir():
        raise GMMVAEError(f"{folder} is a file; name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GMMVAEError(f"can't make {folder}: {error.strerror or error}") from error


def refuse_existing(folder: Path, names: Iterable[str]) -> None:
    """Refuse, before any work, files that are there.

    Raises:
        GMMVAEError: naming the first of them.
    """
    for name in names:
        if (folder / name).exists():
            raise GMMVAEError(f"{folder / name} exists and is kept; replace it with --force")
