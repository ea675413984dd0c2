"""Accuracy against the number of labels a class: the mean over tables, and each table."""

from collections.abc import Collection

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from pyro_gmmvae.figures.style import COLORS, GRAY, MARKERS, STYLES, TEXT, new_figure, tidy

COLUMNS = 4


def label_curves(found: pd.DataFrame, references: Collection[str]) -> Figure:
    """A panel for the mean and one for each table; lines are methods, bars standard errors.

    Args:
        found: a row for each ``table``, ``labels``, ``draw`` and ``method``, with ``accuracy``.
        references: the methods that have thin lines.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    order = found.groupby("method")["accuracy"].mean().sort_values(ascending=False).index
    methods = sorted(order, key=lambda name: name in references)  # ours first
    per_draw = found.groupby(["labels", "draw", "method"], as_index=False)["accuracy"].mean()
    panels = {"mean over tables": per_draw} | dict(iter(found.groupby("table")))
    rows = -(-len(panels) // COLUMNS)
    counts = sorted(found["labels"].unique())
    figure = new_figure(10, 2.3 * rows + 0.8)
    grid = figure.subplots(rows, COLUMNS, sharex=True, squeeze=False).flat
    for axes, (title, part) in zip(grid, panels.items(), strict=False):
        for number, method in enumerate(methods):
            ours = method not in references
            groups = part[part["method"] == method].groupby("labels")["accuracy"]
            axes.errorbar(
                groups.mean().index,
                100 * groups.mean(),
                yerr=100 * groups.sem().fillna(0),
                label=method if title == "mean over tables" else None,
                color=COLORS[number % len(COLORS)],
                linestyle=STYLES[number // len(COLORS) % len(STYLES)],
                marker=MARKERS[number % len(MARKERS)],
                markersize=3,
                linewidth=2 if ours else 0.9,
                elinewidth=0.8,
            )
        axes.set_title(title, fontsize=TEXT)
        axes.set(xscale="log", xlim=(counts[0] / 1.2, counts[-1] * 1.2))
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        tidy(axes)
    for axes in list(figure.axes)[len(panels) :]:
        axes.set_visible(False)
    about = "by labels of each class; bars: standard error over draws"
    figure.suptitle(about, fontsize=TEXT, color=GRAY)
    figure.supylabel("accuracy of test rows (%)", fontsize=TEXT, color=GRAY)
    figure.legend(loc="outside lower center", ncols=4, fontsize=TEXT, frameon=False)
    return figure
