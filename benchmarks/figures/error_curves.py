"""Test error against the number of labels, one line per model."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from pyro_gmmvae.figures.style import COLORS, MARKERS, STYLES


def error_curves(summary: pd.DataFrame) -> Figure:
    """Mean test error with its standard deviation over label draws, both axes logarithmic.

    Args:
        summary: a line per model (and preset, settings) and label count, with the columns
            ``data``, ``labels``, ``model``, ``preset``, ``settings``, ``mean`` and ``std`` of
            the accuracy. "all" labels are left out.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    lines = summary[summary["labels"] != "all"].assign(
        count=lambda t: t["labels"].astype(int), error=lambda t: 1 - t["mean"]
    )
    lines = lines[lines["error"] > 0]
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axis = figure.subplots()
    varying = [
        c
        for c in ("guide", "objective", "preset", "settings")
        if lines.loc[lines["guide"] != "", c].nunique() > 1
    ]
    groups = lines.groupby(["model", *varying], sort=False, dropna=False)
    best_first = sorted(groups, key=lambda group: group[1]["error"].mean())
    for number, (key, rows) in enumerate(best_first):
        rows = rows.sort_values("count")
        axis.errorbar(
            # a little apart, so that error bars at one count do not cover each other
            rows["count"] * 1.012 ** (number - len(best_first) / 2),
            100 * rows["error"],
            yerr=100 * rows["std"].fillna(0),
            label=" ".join(str(word) for word in key if word),
            color=COLORS[number % len(COLORS)],
            linestyle=STYLES[number // len(COLORS) % len(STYLES)],
            marker=MARKERS[number % len(MARKERS)],
            linewidth=1.2,
            markersize=4,
            capsize=2,
        )
    counts = sorted(lines["count"].unique())
    axis.set(xscale="log", yscale="log", xlabel="labels", ylabel="test error (%)")
    axis.set_xticks(counts, [str(n) for n in counts])
    axis.xaxis.set_minor_formatter(NullFormatter())
    low, high = axis.get_ylim()
    shown = [n for n in (0.5, 1, 2, 3, 5, 10, 20, 30, 50, 90) if low <= n <= high]
    axis.set_yticks(shown, [f"{n:g}" for n in shown])
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.3)
    axis.set_title(f"{', '.join(lines['data'].unique())}: mean and standard deviation over draws")
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    return figure
