"""A grid of generated rows, one line per class."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_gmmvae.figures.cells import CELL_INCHES, bare, is_image, row_painter

INCHES_PER_LETTER = 0.09
MOST_FEATURE_NAMES = 12


def sample_grid(
    draws: NDArray[Any], names: Sequence[str], features: Sequence[str] | None = None
) -> Figure:
    """Images as pictures, other rows as profiles over their features.

    Each feature of a profile is drawn between its smallest and largest value over all draws.

    Args:
        draws: (classes, n, *x_shape); images are (channels, height, width).
        names: one per class, written at the left.
        features: names of the features of a profile, written below where they are few.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    classes, n = draws.shape[:2]
    has_images = is_image(draws.shape[2:])
    cell = CELL_INCHES if has_images else 2 * CELL_INCHES
    margin = 0.15 + INCHES_PER_LETTER * max(len(name) for name in names)
    figure = Figure(figsize=(margin + n * cell, classes * cell + 0.1))
    left = margin / figure.get_figwidth()
    paint = row_painter(draws.reshape(-1, *draws.shape[2:]))
    axes = figure.subplots(classes, n, squeeze=False)
    figure.subplots_adjust(left=left, right=0.995, bottom=0.01, top=0.99, wspace=0.06, hspace=0.06)
    for row, name in enumerate(names):
        for column in range(n):
            bare(axes[row, column])
            paint(axes[row, column], row * n + column)
        # a name that was given may hold dollars
        axes[row, 0].set_ylabel(
            name, rotation=0, ha="right", va="center", fontsize=10, parse_math=False
        )
    if not has_images and features is not None and len(features) <= MOST_FEATURE_NAMES:
        figure.subplots_adjust(bottom=0.02 + 0.5 / figure.get_figheight())
        for axis in axes[-1]:
            axis.set_xticks(range(len(features)), features, rotation=90, fontsize=6)
    return figure
