"""Whether probabilities are shares: accuracy against confidence, bin by bin."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pyro_gmmvae.figures.style import BLUE, COLORS, GRAY, TEXT, TITLE, new_figure, tidy


def reliability_diagram(
    table: pd.DataFrame, ece: float, bins: int = 15, unit: str = "test row"
) -> Figure:
    """Accuracy against mean confidence per bin with 95 % intervals, and how many rows each has.

    Points below the diagonal are bins whose rows are classified worse than the model says.
    Guo et al. 2017, arXiv:1706.04599.

    Args:
        table: a line per bin that holds rows, its number (from 0) as the index, with the
            columns ``rows``, ``confidence``, ``accuracy`` and the Wilson interval's ``low`` and
            ``high``.
        ece: expected calibration error, in [0, 1].
        bins: of equal widths from 0 to 1.
        unit: what was counted.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    figure = new_figure(5.2, 6.0)
    above, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    middle = (np.asarray(table.index, float) + 0.5) / bins
    above.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="calibrated")
    above.bar(
        middle,
        table["accuracy"],
        width=0.94 / bins,
        color=COLORS[5],
        alpha=0.35,
    )
    above.errorbar(
        table["confidence"],
        table["accuracy"],
        yerr=np.clip(
            [table["accuracy"] - table["low"], table["high"] - table["accuracy"]], 0, None
        ),
        linestyle="",
        marker="o",
        markersize=4.5,
        capsize=2.5,
        linewidth=1.2,
        color=BLUE,
        label="accuracy, 95 % Wilson interval",
    )
    above.set(ylabel="share classified right", xlim=(0, 1), ylim=(0, 1.03))
    tidy(above)
    rows = int(table["rows"].sum())
    counted = f"{rows} {unit}{'' if rows == 1 else 's'}"
    above.set_title(
        f"Calibration of {counted}\nexpected calibration error {ece:.4f} in {bins} bins",
        fontsize=TITLE,
        loc="left",
    )
    below.bar(middle, table["rows"], width=0.94 / bins, color=BLUE)
    if len(table) and table["rows"].max() > 50 * table["rows"].min():
        # most rows are sure; those that are not shall be seen, too
        below.set_yscale("log")
        below.set_ylim(0.7, None)
    below.set(xlabel="confidence: probability of the likeliest class", ylabel=f"{unit}s")
    tidy(below)
    figure.legend(loc="outside lower center", ncols=2, fontsize=TEXT, frameon=False)
    return figure
