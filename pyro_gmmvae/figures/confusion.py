"""Which classes are taken for which, and which components hold which classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from pyro_gmmvae.figures.style import (
    INCHES_PER_LETTER,
    SMALL,
    TEXT,
    TITLE,
    VERMILION,
    cut,
    new_figure,
    plain,
)

CELL_INCHES = 0.46
SMALLEST_SIDE, LARGEST_SIDE = 2.2, 11.0  # inches, of the cells together
MOST_WITH_SHARES = 12
MOST_WITH_COUNTS = 30
MOST_NAMES = 100
MOST_LETTERS = 18
NARROWEST = 5.2  # inches, for the title
COLORS = "Blues"  # one hue, from light to dark: order is seen in gray, too


def confusion_matrix(
    counts: NDArray[np.int64],
    names: Sequence[str],
    interval: tuple[float, float] | None = None,
    unit: str = "test row",
) -> Figure:
    """Counts of true against predicted classes, shaded by their share of the true class.

    Cells hold the count and, up to 12 classes, the share in percent; past 30 classes only the
    shade is left. A class without rows has a line of dashes.

    Args:
        counts: (C, K), row the true class, column the predicted one, of K >= C.
        names: K of them, the C classes first.
        interval: of the accuracy, 95 %; None: leave it out.
        unit: what was counted.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    total, right = int(counts.sum()), int(np.trace(counts))
    title = f"Predicted against true class of {_counted(total, unit)}"
    if total:
        title += f"\naccuracy {right / total:.3f}{_between(interval)}"
    # of many classes the diagonal is seen without frames
    frames = [(k, k) for k in range(len(counts))] if len(names) <= MOST_WITH_COUNTS else []
    return _matrix(counts, names[: len(counts)], names, title, "predicted class", frames)


def contingency_matrix(
    counts: NDArray[np.int64],
    classes: Sequence[str],
    components: Sequence[str],
    matches: Sequence[tuple[int, int]],
    interval: tuple[float, float] | None = None,
    unit: str = "test row",
) -> Figure:
    """Counts of true classes against components that were fitted without labels.

    Args:
        counts: (C, K), row the true class, column the component.
        classes: C names.
        components: K names.
        matches: row and column of each class and the component it is matched with, one to one;
            their cells are framed.
        interval: of the share of rows in framed cells, 95 %; None: leave it out.
        unit: what was counted.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    total, right = int(counts.sum()), sum(int(counts[match]) for match in matches)
    title = f"Components against true classes of {_counted(total, unit)}"
    if total:
        title += "\nunder the best one-to-one naming (framed)"
        title += f"\naccuracy {right / total:.3f}{_between(interval)}"
    return _matrix(counts, classes, components, title, "component", matches)


def _matrix(
    counts: NDArray[np.int64],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    xlabel: str,
    frames: Sequence[tuple[int, int]],
) -> Figure:
    most = max(counts.shape)
    cell = float(np.clip(CELL_INCHES, SMALLEST_SIDE / most, LARGEST_SIDE / most))
    row_names = [plain(cut(str(name), MOST_LETTERS)) for name in rows]
    column_names = [plain(cut(str(name), MOST_LETTERS)) for name in columns]
    # upright where they fit above their cells
    flat = max(map(len, column_names)) * INCHES_PER_LETTER < cell
    below = 0.2 if flat else INCHES_PER_LETTER * max(map(len, column_names))
    left = INCHES_PER_LETTER * max(map(len, row_names))
    wide, high = cell * counts.shape[1], cell * counts.shape[0]
    figure = new_figure(
        max(left + wide + 1.5, NARROWEST), high + below + 0.7 + 0.22 * (1 + title.count("\n"))
    )
    axes = figure.subplots()
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.where(totals > 0, totals, 1)
    image = axes.imshow(shares, cmap=COLORS, vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label("share of the true class", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL)
    for axis, names in ((axes.xaxis, column_names), (axes.yaxis, row_names)):
        step = -(-len(names) // MOST_NAMES)
        size = float(np.clip(72 * cell * step * 0.75, 3.5, 8.5))
        axis.set_ticks(range(0, len(names), step), names[::step], fontsize=size)
    if not flat:
        axes.tick_params(axis="x", rotation=90)
    axes.tick_params(length=2)
    axes.set_xlabel(xlabel, fontsize=TEXT)
    axes.set_ylabel("true class", fontsize=TEXT)
    figure.suptitle(title, x=0.02, ha="left", fontsize=TITLE)
    if most <= MOST_WITH_COUNTS:
        _write(axes, counts, shares, with_shares=most <= MOST_WITH_SHARES)
    for row, column in frames:
        corner = (column - 0.5, row - 0.5)
        thick = min(1.0, 72 * cell / 18)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=VERMILION, linewidth=thick))
    return figure


def _write(
    axes: Axes, counts: NDArray[np.int64], shares: NDArray[Any], *, with_shares: bool
) -> None:
    """Numbers into cells; zeros are left out, so that errors stand out."""
    empty = counts.sum(1) == 0
    for (row, column), count in np.ndenumerate(counts):
        if not count and not empty[row]:
            continue
        text = "-" if empty[row] else str(count)
        if with_shares and count:
            text += f"\n{shares[row, column]:.0%}"
        color = "white" if shares[row, column] > 0.55 else "#222222"
        size = 6.5 if with_shares else 6.0 if count < 1000 else 5.0
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def _between(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    return f", 95 % Wilson interval {interval[0]:.3f} to {interval[1]:.3f}"


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"
