"""Accuracy of clusters: per setting and seed, and against the ELBO."""

import pandas as pd
from matplotlib.figure import Figure

from pyro_gmmvae.figures.style import COLORS, MARKERS, plain
from pyro_gmmvae.figures.sweep_plots import seeds


def cluster_dots(table: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy by line: a point per seed, and a bar at their mean.

    Args:
        table: a row per line and seed, in the order of the lines, with the columns ``part``
            (which has a color and a marker), ``line`` and ``accuracy``.
        title: above the axes.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    lines = table[["part", "line"]].drop_duplicates()
    parts = list(lines["part"].unique())
    figure = Figure(figsize=(8, 1 + 0.28 * len(lines)), layout="constrained")
    axis = figure.subplots()
    labelled = set()
    for number, (part, line) in enumerate(lines.itertuples(index=False)):
        values = table[(table["part"] == part) & (table["line"] == line)]["accuracy"]
        color = COLORS[parts.index(part) % len(COLORS)]
        seeds(
            axis,
            number,
            100 * values,
            MARKERS[parts.index(part) % len(MARKERS)],
            color=color,
            alpha=0.7,
            label=None if part in labelled else part,
        )
        axis.vlines(100 * values.mean(), number - 0.35, number + 0.35, color=color, linewidth=2)
        labelled.add(part)
    axis.set_yticks(range(len(lines)), [plain(name) for name in lines["line"]], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel="test accuracy of clusters (%)", title=title)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(parts), fontsize=8, frameon=False)
    return figure


def cluster_tradeoff(table: pd.DataFrame, title: str = "") -> Figure:
    """Accuracy against the ELBO for different weights of the terms beside the ELBO.

    Args:
        table: a row per weight and seed with the columns ``weight`` (a share of the full
            weights), ``name`` (of the share), ``elbo`` (nats per row, without the terms) and
            ``accuracy``.
        title: above the axes.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axis = figure.subplots()
    shares = table.sort_values("weight").groupby(["weight", "name"], sort=False)
    means = shares[["elbo", "accuracy"]].mean()
    axis.plot(means["elbo"], 100 * means["accuracy"], color="#555555", linewidth=1.2, zorder=1)
    for number, ((_, name), rows) in enumerate(shares):
        axis.plot(
            rows["elbo"],
            100 * rows["accuracy"],
            linestyle="",
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
            color=COLORS[number % len(COLORS)],
            alpha=0.8,
            label=f"weights x {name}",
        )
    axis.set(
        xlabel="ELBO of test rows, without the terms (nats)",
        ylabel="test accuracy of clusters (%)",
        title=title,
    )
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    return figure
