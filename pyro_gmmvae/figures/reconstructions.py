"""Rows beside their reconstructions: the worst, some at random, the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_gmmvae.figures.cells import CELL_INCHES, Painter, bare, is_image
from pyro_gmmvae.figures.style import BLUE, GRAY, TEXT, VERMILION, cut, new_figure, plain

GAP_INCHES = 0.3
CAPTION_INCHES = 0.26
HEAD_INCHES = 0.75
LEFT_INCHES = 1.05
MOST_LETTERS = 12


@dataclass(frozen=True)
class Part:
    """Rows that stand together.

    Attributes:
        title: why they do.
        rows: numbers of what the painters draw, and what stands below each.
    """

    title: str
    rows: Sequence[tuple[int, str]]


def reconstruction_sheet(
    parts: Sequence[Part], lines: Mapping[str, Painter], title: str, *, scale: float = 1.0
) -> Figure:
    """A column per row of the data, a line per painter: the row, its reconstruction, and so on.

    Args:
        parts: the columns, in groups.
        lines: painters by what they draw, from the top.
        title: above all.
        scale: of the cells; 1 suits small images.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    cell = CELL_INCHES * scale * 1.2
    parts = [part for part in parts if len(part.rows)]
    columns = sum(len(part.rows) for part in parts)
    gaps = GAP_INCHES * max(len(parts) - 1, 0)
    wide = max(LEFT_INCHES + columns * cell + gaps + 0.1, 6.5)
    high = HEAD_INCHES + 0.2 + len(lines) * cell + CAPTION_INCHES
    figure = new_figure(wide, high, constrained=False)
    figure.text(0.1 / wide, 1 - 0.08 / high, title, va="top", fontsize=TEXT, parse_math=False)
    left = LEFT_INCHES
    for part in parts:
        top = high - HEAD_INCHES
        figure.text(left / wide, top / high, plain(part.title), va="bottom", fontsize=TEXT)
        for number, caption in part.rows:
            for line, paint in enumerate(lines.values()):
                bottom = top - 0.05 - (line + 1) * cell
                corner = (left / wide, bottom / high)
                axes = figure.add_axes((*corner, 0.94 * cell / wide, 0.94 * cell / high))
                bare(axes)
                paint(axes, number)
            text = "\n".join(
                plain(cut(one, round(MOST_LETTERS * max(scale, 1)))) for one in caption.splitlines()
            )
            axes.set_xlabel(text, fontsize=6, labelpad=2, color="#333333")
            left += cell
        left += GAP_INCHES
    for line, name in enumerate(lines):
        middle = high - HEAD_INCHES - 0.05 - (line + 0.5) * cell
        figure.text(
            (LEFT_INCHES - 0.1) / wide, middle / high, name, ha="right", va="center", fontsize=TEXT
        )
    return figure


def difference_painter(rows: NDArray[Any], reconstructed: NDArray[Any]) -> tuple[Painter, str]:
    """Rows minus their reconstructions, and what the scale is.

    Images are red where the row is higher and blue where it is lower; of other rows each
    feature is a point about a line at zero, in units of its range over the rows.

    Args:
        rows: (N, *x_shape).
        reconstructed: (N, *x_shape).
    """
    apart = (rows - reconstructed).astype(np.float64)
    if is_image(rows.shape[1:]):
        most = _largest(apart)
        about = f"red where the row is higher, blue where it is lower, to {most:.3g}"
        # of several channels the mean: a signed picture has one
        flat = apart.mean(1)
        return lambda axes, n: _signed(axes, flat[n], most), about
    flat = apart.reshape(len(apart), -1)
    known = np.ma.masked_invalid(rows.reshape(len(rows), -1).astype(np.float64))
    width = np.ma.filled(known.max(0) - known.min(0), 0.0) if len(known) else np.ones(flat.shape[1])
    scaled = flat / np.where(width > 0, width, 1)
    most = _largest(scaled)
    about = f"in units of each feature's range, the line at 0, the frame at ±{most:.3g}"
    return lambda axes, n: _profile(axes, scaled[n], most), about


def pose_pair_painter(
    poses: NDArray[Any],
    reconstructed: NDArray[Any],
    edges: Sequence[tuple[int, int]],
    *,
    y_down: bool = True,
) -> tuple[Painter, str]:
    """A pose with its reconstruction laid over it, joint tied to joint.

    Args:
        poses: (N, J, 2), NaN where a joint is missing.
        reconstructed: (N, J, 2).
        edges: bones, as pairs of joint numbers.
        y_down: whether y grows downwards, as in a picture.
    """
    bones = np.array(edges, int).reshape(-1, 2)

    def paint(axes: Axes, n: int) -> None:
        for pose, color in ((poses[n], GRAY), (reconstructed[n], BLUE)):
            axes.add_collection(LineCollection(_finite(pose[bones]), colors=color, linewidths=1.2))
        ties = _finite(np.stack([poses[n], reconstructed[n]], 1))
        axes.add_collection(LineCollection(ties, colors=VERMILION, linewidths=1.6))
        axes.set_aspect("equal", adjustable="datalim")
        axes.autoscale_view()
        axes.margins(0.1)
        if y_down:
            axes.invert_yaxis()

    return paint, "the row in gray, its reconstruction in blue, how joints moved in orange"


def _finite(lines: NDArray[Any]) -> list[NDArray[Any]]:
    return list(lines[np.isfinite(lines).all((1, 2))])


def _largest(values: NDArray[Any]) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return max(float(finite.max()), 1e-12) if len(finite) else 1.0


def _signed(axes: Axes, image: NDArray[Any], most: float) -> None:
    axes.imshow(image, cmap="RdBu_r", vmin=-most, vmax=most)


def _profile(axes: Axes, values: NDArray[Any], most: float) -> None:
    axes.axhline(0, linewidth=0.5, color="#999999", zorder=0)
    axes.vlines(range(len(values)), 0, values, color=VERMILION, linewidth=1.0)
    axes.plot(values, linestyle="", marker=".", markersize=3, color=VERMILION)
    axes.set_ylim(-1.1 * most, 1.1 * most)
