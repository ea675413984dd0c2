"""Figures and tables as files."""

import io
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from pyro_gmmvae.figures.animation import Animation
from pyro_gmmvae.figures.fonts import all_letters
from pyro_gmmvae.figures.style import DPI
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
    with rc_context(RC), all_letters(figure):
        figure.savefig(buffer, format=ending, dpi=dpi, metadata=UNDATED[ending])
    return buffer.getvalue()


def save(drawn: Figure | Animation, folder: Path, stem: str, ending: str = "png") -> list[Path]:
    """Write a picture into a folder, an animation also as GIF.

    Raises:
        GMMVAEError: a folder that can't be written to.
    """
    still = folder / f"{stem}.{ending}"
    if not isinstance(drawn, Animation):
        atomic_write(still, figure_bytes(drawn, ending))
        return [still]
    atomic_write(still, figure_bytes(drawn.still, ending))
    moving = folder / f"{stem}.gif"
    atomic_write(moving, drawn.gif)
    return [still, moving]


def save_clusters(clusters: Clusters, folder: Path) -> None:
    """Write the assignment of all rows to components as ``clusters.csv``.

    Raises:
        GMMVAEError: a folder that can't be written to.
    """
    atomic_write(folder / CLUSTERS, clusters.table().to_csv(index=False).encode())
