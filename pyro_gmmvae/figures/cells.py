"""One row drawn into a small cell: as an image, a profile over its features, or a person."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from pyro_gmmvae.figures.style import BLUE

CELL_INCHES = 0.55
CHANNELS = (1, 3, 4)

Painter = Callable[[Axes, int], None]
"""Draws the row of a number into axes."""


def is_image(x_shape: Sequence[int]) -> bool:
    """Whether rows of this shape are pictures, (channels, height, width)."""
    return len(x_shape) == 3 and x_shape[0] in CHANNELS


def bare(axes: Axes) -> None:
    """Take ticks and frame away."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def row_painter(rows: NDArray[Any]) -> Painter:
    """Images as pictures on one scale, other rows as profiles over their features.

    Each feature of a profile is drawn between its smallest and largest value over all rows;
    where it is missing the line has a gap.

    Args:
        rows: (N, *x_shape).
    """
    if is_image(rows.shape[1:]):
        low, high = float(rows.min()), float(rows.max())
        return lambda axes, n: _image(axes, rows[n], low, high)
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    known = np.ma.masked_invalid(flat)
    lowest, highest = (np.ma.filled(edge, 0.0) for edge in (known.min(0), known.max(0)))
    profiles = (flat - lowest) / np.where(highest > lowest, highest - lowest, 1)
    return lambda axes, n: _profile(axes, profiles[n])


def pose_painter(
    poses: NDArray[Any], edges: Sequence[tuple[int, int]], *, y_down: bool = True
) -> Painter:
    """Stick figures, each as large as its cell allows.

    Args:
        poses: (N, J, 2), NaN where a joint is missing.
        edges: bones, as pairs of joint numbers.
        y_down: whether y grows downwards, as in a picture.
    """
    bones = np.array(edges, int).reshape(-1, 2)
    return lambda axes, n: _pose(axes, poses[n], bones, y_down)


def _image(axes: Axes, image: NDArray[Any], low: float, high: float) -> None:
    pixels = np.moveaxis(image, 0, -1)
    if pixels.shape[-1] == 1:
        axes.imshow(pixels[..., 0], cmap="gray_r", vmin=low, vmax=high)
    else:
        axes.imshow(((pixels - low) / max(high - low, 1e-12)).clip(0, 1))


def _profile(axes: Axes, values: NDArray[Any]) -> None:
    axes.plot(values, linewidth=0.8, marker=".", markersize=3, color=BLUE)
    axes.set_ylim(-0.1, 1.1)
    axes.axhline(0, linewidth=0.4, color="#bbbbbb", zorder=0)


def _pose(axes: Axes, pose: NDArray[Any], bones: NDArray[np.int64], y_down: bool) -> None:
    lines = pose[bones]  # (edges, 2 ends, 2)
    drawn = lines[np.isfinite(lines).all((1, 2))]
    axes.add_collection(LineCollection(list(drawn), colors=BLUE, linewidths=1.4))
    seen = pose[np.isfinite(pose).all(-1)]
    axes.scatter(seen[:, 0], seen[:, 1], s=3, color=BLUE)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.1)
    if y_down:
        axes.invert_yaxis()
