"""All of a two-dimensional latent space at a glance: a decoded grid for each class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_gmmvae.figures.cells import bare
from pyro_gmmvae.figures.sheet import LINE_INCHES, MARGIN, Look
from pyro_gmmvae.figures.style import FAINT, GRAY, SMALL, TEXT, TITLE, cut, new_figure

MOST_ACROSS = 4
GAP = 0.1  # of a cell
PANEL_INCHES = 2.6
SINGLE_INCHES = 6.0
BETWEEN = (0.16, 0.34)  # inches: beside and below a panel


def manifold(look: Look, cells: NDArray[Any], names: Sequence[str], title: str) -> Figure:
    """A panel per class, z0 growing to the right and z1 upwards.

    Args:
        look: draws the cells.
        cells: (classes, n, n, ...) decoded; the second axis is z1 from its lowest value.
        names: of the classes.
        title: stands above.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    panels, steps = cells.shape[:2]
    columns = min(panels, MOST_ACROSS)
    lines = -(-panels // columns)
    longer = PANEL_INCHES if panels > 1 else SINGLE_INCHES
    width, height = (longer * side / max(look.inches) for side in look.inches)
    head = title.split("\n")
    top = MARGIN + LINE_INCHES * len(head) + 0.3
    wide = max(2 * MARGIN + 0.2 + columns * (width + BETWEEN[0]), 0.068 * max(map(len, head)))
    high = top + lines * (height + BETWEEN[1]) + MARGIN
    figure = new_figure(wide, high, constrained=False)
    at = MARGIN / wide
    figure.text(at, 1 - MARGIN / high, head[0], va="top", fontsize=TITLE, parse_math=False)
    figure.text(
        at,
        1 - (MARGIN + LINE_INCHES) / high,
        "\n".join(head[1:]),
        va="top",
        fontsize=SMALL,
        color=GRAY,
        parse_math=False,
    )
    places = np.arange(steps, dtype=float)
    for panel, name in enumerate(names):
        line, column = divmod(panel, columns)
        left = MARGIN + 0.2 + column * (width + BETWEEN[0])
        bottom = high - top - line * (height + BETWEEN[1]) - height
        axes = figure.add_axes((left / wide, bottom / high, width / wide, height / high))
        axes.set(xlim=(0, steps), ylim=(steps, 0))
        look.place(axes, cells[panel, ::-1], places, places, GAP)
        bare(axes)
        axes.set(xlim=(0, steps), ylim=(steps, 0))
        for spine in axes.spines.values():
            spine.set(visible=True, color=FAINT)
        axes.set_title(cut(name, 28), fontsize=TEXT, pad=3, parse_math=False)
        if column == 0:
            axes.set_ylabel("z1 →", fontsize=SMALL, color=GRAY, labelpad=2)
        if panel + columns >= panels:
            axes.set_xlabel("z0 →", fontsize=SMALL, color=GRAY, labelpad=2)
    return figure
