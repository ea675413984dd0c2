"""Plots of repeated runs: means and seeds of settings, alone and in the rate-distortion plane."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_gmmvae.figures.style import (
    BLUE,
    COLORS,
    FAINT,
    GRAY,
    INCHES_PER_LETTER,
    MARKERS,
    SMALL,
    TEXT,
    TITLE,
    VERMILION,
    cut,
    new_figure,
    plain,
    tidy,
)

JITTER = 0.12
MAX_LETTERS = 60
MAX_ACROSS = 3
LINE_INCHES = 0.26
MAX_HEIGHT = 24.0  # inches
SHARES = ("accuracy", "auroc", "ece", "nmi", "pareto_k_bad")  # words in names of metrics in [0, 1]
COMPONENT_PANELS = (
    ("elbo", "elbo_std", "held-out ELBO (nats per row)"),
    ("stability", None, "stability (ARI between seeds)"),
    ("used", "used_std", "components in use"),
)


def t_interval(values: "Sequence[float] | pd.Series[float]") -> tuple[float, float]:
    """95 % interval of the mean by Student's t; NaN for fewer than two finite values."""
    from scipy.stats import t

    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    if len(finite) < 2:
        return float("nan"), float("nan")
    half = float(t.ppf(0.975, len(finite) - 1) * finite.std(ddof=1) / np.sqrt(len(finite)))
    return float(finite.mean()) - half, float(finite.mean()) + half


def metric_limits(metric: str) -> tuple[float, float]:
    """Lowest and highest possible value of a number that ``evaluate`` gives."""
    name = f"_{metric}_"
    if any(f"_{word}_" in name for word in SHARES):
        return 0.0, 1.0
    return (-1.0, 1.0) if "_ari_" in name or metric == "silhouette" else (-np.inf, np.inf)


def dot_plot(
    table: pd.DataFrame,
    label: str,
    title: str = "",
    *,
    reference: Hashable | None = None,
    ascending: bool = False,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Figure:
    """Means with their 95 % t-intervals over seeds, the seeds as faint dots, the best on top.

    All panels have the same lines, sorted by their mean over the panels. An interval belongs to
    its mean; paired differences compare lines with the same seeds more precisely.

    Args:
        table: a row per panel, line and seed with the columns ``panel``, ``line`` and ``value``;
            rows without a finite value are left out.
        label: of the values, with their unit.
        title: above the panels.
        reference: the line whose mean is a dashed line through its panel; None: no line.
        ascending: whether lower values are better.
        limits: lowest and highest possible value; intervals end there.
    """
    rows = table[np.isfinite(table["value"].astype(float))].astype({"value": float})
    means = rows.groupby(["panel", "line"], sort=False)["value"].mean()
    panels = list(dict.fromkeys(table["panel"]))
    # by distance to the mean of the panel, so that a line missing in an easy panel is not last
    distance = (means - means.groupby("panel").transform("mean")).groupby("line").mean()
    order = list(distance.sort_values(ascending=ascending, kind="stable").index)
    across = max(1, min(MAX_ACROSS, len(panels)))
    down = max(1, -(-len(panels) // across))
    names = [plain(cut(str(line), MAX_LETTERS)) for line in order]
    left = INCHES_PER_LETTER * max([8, *map(len, names)])
    high = min(MAX_HEIGHT, down * (0.75 + LINE_INCHES * max(len(order), 2)) + 0.9)
    figure = new_figure(left + max(3.0 * across, 5.0), high)
    axes = figure.subplots(down, across, sharey=True, squeeze=False)
    for panel, axis in zip(panels, axes.flat, strict=False):
        own = rows[rows["panel"] == panel]
        lines = {line: own[own["line"] == line]["value"] for line in order}
        _panel(axis, lines, reference, limits)
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
    axis: Axes,
    lines: dict[Hashable, "pd.Series[float]"],
    reference: Hashable | None,
    limits: tuple[float, float],
) -> None:
    for place, (line, values) in enumerate(lines.items()):
        if not len(values):
            continue
        color = VERMILION if line == reference else BLUE
        seeds(axis, place, values, color=color, alpha=0.3)
        low, high = np.clip(t_interval(values), *limits)
        if np.isfinite(low):
            axis.hlines(place, low, high, color=color, linewidth=1.6)
        axis.plot(values.mean(), place, marker="o", markersize=5.5, color=color)
    if reference in lines and len(lines[reference]):
        axis.axvline(lines[reference].mean(), color=GRAY, linestyle="--", linewidth=0.9, zorder=1)
    tidy(axis)


def seeds(
    axis: Axes, place: float, values: "pd.Series[float]", marker: str = MARKERS[0], **style: Any
) -> None:
    """A dot per value around a height, a little apart, so that equal values are all visible."""
    middle = (len(values) - 1) / 2
    heights = [place + JITTER * (i - middle) / max(middle, 1) for i in range(len(values))]
    axis.plot(
        values, heights, linestyle="", marker=marker, markersize=4, markeredgewidth=0, **style
    )


def rate_distortion_plane(table: pd.DataFrame, usefulness: str, title: str = "") -> Figure:
    """Distortion against rate, a number per line at its mean, seeds as small dots.

    The color is the usefulness. Lines with the same family, such as one term with several weights,
    are connected in the order of their rate. Dotted: equal ELBO.

    Args:
        table: a row per line and seed with the columns ``line``, ``family``, ``rate``,
            ``distortion`` (nats per row) and ``usefulness``; in the order of the lines.
        usefulness: the label of its colors.
        title: above the plane.

    Reference:
        Alemi et al. 2018, arXiv:1711.00464; Tschannen, Bachem, Lucic 2018, arXiv:1812.05069.
    """
    means = table.groupby(["line", "family"], sort=False).mean(numeric_only=True).reset_index()
    figure = new_figure(10.5, max(5.0, 0.6 + 0.19 * len(means)))
    axes, legend = figure.subplots(1, 2, width_ratios=(3, 1.2))
    colors = {"cmap": "viridis", "vmin": means["usefulness"].min()}
    colors["vmax"] = max(means["usefulness"].max(), colors["vmin"] + 1e-9)
    for _, family in means.groupby("family"):
        path = family.sort_values("rate")
        axes.plot(path["rate"], path["distortion"], color=FAINT, linewidth=1, zorder=1)
    axes.scatter(
        table["rate"], table["distortion"], c=table["usefulness"], s=8, alpha=0.5, **colors
    )
    drawn = axes.scatter(
        *(means[name] for name in ("rate", "distortion")), c=means["usefulness"], s=110, **colors
    )
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for level in np.linspace(left + low, right + high, 9)[1:-1]:
        ends = np.array([left, right])
        axes.plot(ends, level - ends, color=FAINT, linestyle=":", linewidth=0.7, zorder=0)
    axes.set(xlim=(left, right), ylim=(low, high))
    middle = (colors["vmin"] + colors["vmax"]) / 2
    for number, row in enumerate(means.itertuples(), 1):
        color = "white" if row.usefulness < middle else "black"  # on viridis
        place = (row.rate, row.distortion)
        axes.annotate(str(number), place, ha="center", va="center", fontsize=SMALL, color=color)
    axes.set(xlabel="rate, KL(q || p) (nats per row)", ylabel="distortion, -E[log p(x|z)]")
    tidy(axes)
    bar = figure.colorbar(drawn, ax=axes, pad=0.01)
    bar.set_label(plain(usefulness), fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL)
    names = [f"{n}  {plain(cut(str(line), 42))}" for n, line in enumerate(means["line"], 1)]
    legend.text(0, 1, "\n".join(names), va="top", fontsize=TEXT, linespacing=1.4)
    legend.axis("off")
    figure.suptitle(plain(title), fontsize=TITLE)
    return figure


def component_curves(table: pd.DataFrame, data: str) -> Figure:
    """Held-out ELBO, stability and components in use over the number of components K.

    Points are means, error bars standard deviations over seeds.

    Args:
        table: a line per K with ``components``, ``elbo``, ``elbo_std``, ``stability``, ``used``
            and ``used_std``.
        data: name of the data, for the title.
    """
    figure = new_figure(10, 3.4)
    for axis, (name, spread, title), color in zip(
        figure.subplots(1, 3), COMPONENT_PANELS, COLORS[:3], strict=True
    ):
        values = table[name].astype(float)
        error = None if spread is None else table[spread].astype(float).fillna(0)
        axis.errorbar(table["components"], values, yerr=error, marker="o", color=color, capsize=3)
        axis.set(xlabel="components K", title=title)
        axis.set_xticks(table["components"])
        axis.grid(alpha=0.3)
        if name == "stability":
            axis.set_ylim(0, 1.02)
        if name == "used":
            axis.axline((0, 0), slope=1, color="#999999", linewidth=0.8, linestyle=":")
            axis.set(xlim=(0, None), ylim=(0, None))
    figure.suptitle(f"{data}: numbers of components compared")
    return figure
