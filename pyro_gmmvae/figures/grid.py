"""A grid of generated rows, one line per class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

CELL_INCHES = 0.55
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
    is_image = draws.ndim == 5 and draws.shape[2] in (1, 3, 4)
    cell = CELL_INCHES if is_image else 2 * CELL_INCHES
    margin = 0.15 + INCHES_PER_LETTER * max(len(name) for name in names)
    figure = Figure(figsize=(margin + n * cell, classes * cell + 0.1))
    left = margin / figure.get_figwidth()
    low, high = float(draws.min()), float(draws.max())
    if not is_image:
        flat = draws.reshape(classes, n, -1)
        lowest, highest = flat.min((0, 1)), flat.max((0, 1))
        draws = (flat - lowest) / np.where(highest > lowest, highest - lowest, 1)
    axes = figure.subplots(classes, n, squeeze=False)
    figure.subplots_adjust(left=left, right=0.995, bottom=0.01, top=0.99, wspace=0.06, hspace=0.06)
    for row, name in enumerate(names):
        for column in range(n):
            axis = axes[row, column]
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if is_image:
                _image(axis, draws[row, column], low, high)
            else:
                axis.plot(draws[row, column], linewidth=0.8, marker=".", color="#0072B2")
                axis.set_ylim(-0.1, 1.1)
                axis.axhline(0, linewidth=0.4, color="#bbbbbb", zorder=0)
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    if not is_image and features is not None and len(features) <= MOST_FEATURE_NAMES:
        figure.subplots_adjust(bottom=0.02 + 0.5 / figure.get_figheight())
        for axis in axes[-1]:
            axis.set_xticks(range(len(features)), features, rotation=90, fontsize=6)
    return figure


def _image(axis: Any, image: NDArray[Any], low: float, high: float) -> None:
    pixels = np.moveaxis(image, 0, -1)
    if pixels.shape[-1] == 1:
        axis.imshow(pixels[..., 0], cmap="gray_r", vmin=low, vmax=high)
    else:
        axis.imshow(((pixels - low) / max(high - low, 1e-12)).clip(0, 1))
