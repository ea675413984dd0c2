"""Numbers of repeated runs: a line per setting, its mean with an interval, and every seed."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_gmmvae.figures.style import (
    BLUE,
    GRAY,
    INCHES_PER_LETTER,
    MARKERS,
    TEXT,
    TITLE,
    VERMILION,
    cut,
    new_figure,
    plain,
    tidy,
)

JITTER = 0.12
MOST_LETTERS = 60
PANELS_ABREAST = 3
LINE_INCHES = 0.26
TALLEST = 24.0  # inches


def t_interval(values: "Sequence[float] | pd.Series[float]") -> tuple[float, float]:
    """95 % interval of the mean by Student's t; NaN for fewer than two finite values."""
    from scipy.stats import t

    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    if len(finite) < 2:
        return float("nan"), float("nan")
    half = float(t.ppf(0.975, len(finite) - 1) * finite.std(ddof=1) / np.sqrt(len(finite)))
    return float(finite.mean()) - half, float(finite.mean()) + half


def dot_plot(
    table: pd.DataFrame,
    label: str,
    title: str = "",
    *,
    reference: Hashable | None = None,
    ascending: bool = False,
) -> Figure:
    """Means with their 95 % t-intervals over seeds, the seeds as faint dots, the best on top.

    The panels share their lines, which are sorted by their mean over the panels. Intervals are
    of each mean; lines that share their seeds are compared more sharply by paired differences.

    Args:
        table: a row per panel, line and seed with the columns ``panel``, ``line`` and ``value``;
            rows without a finite value are left out.
        label: of the values, with their unit.
        title: stands above.
        reference: the line whose mean is a dashed line through its panel; None: none is.
        ascending: whether low values are the good ones.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    rows = table[np.isfinite(table["value"].astype(float))].astype({"value": float})
    means = rows.groupby(["panel", "line"], sort=False)["value"].mean()
    panels = list(dict.fromkeys(table["panel"]))
    # by their distance to their panel's mean: a line that an easy panel lacks is not put behind
    distance = (means - means.groupby("panel").transform("mean")).groupby("line").mean()
    order = list(distance.sort_values(ascending=ascending, kind="stable").index)
    abreast = max(1, min(PANELS_ABREAST, len(panels)))
    down = max(1, -(-len(panels) // abreast))
    names = [plain(cut(str(line), MOST_LETTERS)) for line in order]
    left = INCHES_PER_LETTER * max([8, *map(len, names)])
    high = min(TALLEST, down * (0.75 + LINE_INCHES * max(len(order), 2)) + 0.9)
    figure = new_figure(left + max(3.0 * abreast, 5.0), high)
    axes = figure.subplots(down, abreast, sharey=True, squeeze=False)
    for panel, axis in zip(panels, axes.flat, strict=False):
        mine = rows[rows["panel"] == panel]
        _panel(axis, {line: mine[mine["line"] == line]["value"] for line in order}, reference)
        axis.set_xlabel(label, fontsize=TEXT)
        axis.set_title(plain(panel), fontsize=TEXT)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    per_line = 72 * (high - 0.9) / down / max(len(order), 1)
    axes[0, 0].set_yticks(range(len(order)), names, fontsize=float(np.clip(per_line, 4, TEXT)))
    axes[0, 0].set_ylim(len(order) - 0.4, -0.6)
    seeds = "mean and 95 % t-interval over seeds (faint dots)"
    dashed = f"; dashed: {plain(reference)}" if reference in order else ""
    figure.suptitle(f"{plain(title)}\n{seeds}{dashed}".strip(), fontsize=TITLE)
    return figure


def _panel(
    axis: Axes, lines: dict[Hashable, "pd.Series[float]"], reference: Hashable | None
) -> None:
    for place, (line, values) in enumerate(lines.items()):
        if not len(values):
            continue
        color = VERMILION if line == reference else BLUE
        seeds(axis, place, values, color=color, alpha=0.3)
        low, high = t_interval(values)
        if np.isfinite(low):
            axis.hlines(place, low, high, color=color, linewidth=1.6)
        axis.plot(values.mean(), place, marker="o", markersize=5.5, color=color)
    if reference in lines and len(lines[reference]):
        axis.axvline(lines[reference].mean(), color=GRAY, linestyle="--", linewidth=0.9, zorder=1)
    tidy(axis)


def seeds(
    axis: Axes, place: float, values: "pd.Series[float]", marker: str = MARKERS[0], **look: Any
) -> None:
    """A dot per value around a height, a little apart, so that equal ones are all seen."""
    middle = (len(values) - 1) / 2
    heights = [place + JITTER * (i - middle) / max(middle, 1) for i in range(len(values))]
    axis.plot(values, heights, linestyle="", marker=marker, markersize=4, markeredgewidth=0, **look)
