"""Figures and tables as files."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures.animation import Animation
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
        dpi: dots per inch, of PNG and of raster images in the others.
    """
    buffer = io.BytesIO()
    with rc_context(RC), boxes_for_missing_letters():
        figure.savefig(buffer, format=ending, dpi=dpi, metadata=UNDATED[ending])
    return buffer.getvalue()


def file_names(stem: str, ending: str) -> tuple[str, str]:
    """The file of a picture, and that of its animation."""
    return f"{stem}.{ending}", f"{stem}.gif"


def save(drawn: Figure | Animation, folder: Path, stem: str, ending: str = "png") -> list[Path]:
    """Write a picture into a folder, an animation also as GIF.

    Raises:
        GMMVAEError: a folder that can't be written to.
    """
    still, moving = (folder / name for name in file_names(stem, ending))
    if not isinstance(drawn, Animation):
        atomic_write(still, figure_bytes(drawn, ending))
        return [still]
    atomic_write(still, figure_bytes(drawn.still, ending))
    atomic_write(moving, drawn.gif)
    return [still, moving]


def save_clusters(clusters: Clusters, folder: Path) -> None:
    """Write the assignment of all rows to components as ``clusters.csv``.

    Raises:
        GMMVAEError: a folder that can't be written to.
    """
    atomic_write(folder / CLUSTERS, clusters.table().to_csv(index=False).encode())


def make_folder(folder: Path) -> None:
    """Make a folder, with those above it.

    Raises:
        GMMVAEError: a file of this name, or a folder that can't be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise GMMVAEError(f"{folder} is a file; name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GMMVAEError(f"can't make {folder}: {error.strerror or error}") from error


def refuse_existing(folder: Path, names: Iterable[str]) -> None:
    """Check that no file of some names exists.

    Raises:
        GMMVAEError: the first one that does.
    """
    for name in names:
        if (folder / name).exists():
            raise GMMVAEError(f"{folder / name} exists and is kept; replace it with --force")
