"""A grid of generated rows, one line per class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

CELL_INCHES = 0.55
INCHES_PER_LETTER = 0.09


def sample_grid(draws: NDArray[Any], names: Sequence[str]) -> Figure:
    """Images as pictures, other rows as profiles over their features.

    Args:
        draws: (classes, n, *x_shape); images are (channels, height, width).
        names: one per class, written at the left.

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
                axis.plot(np.ravel(draws[row, column]), linewidth=0.8, color="#0072B2")
                axis.set_ylim(low, high)
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    return figure


def _image(axis: Any, image: NDArray[Any], low: float, high: float) -> None:
    pixels = np.moveaxis(image, 0, -1)
    if pixels.shape[-1] == 1:
        axis.imshow(pixels[..., 0], cmap="gray_r", vmin=low, vmax=high)
    else:
        axis.imshow(((pixels - low) / max(high - low, 1e-12)).clip(0, 1))
