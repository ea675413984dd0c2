"""How sure assignments are: a histogram of their entropy, and its mean per component."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_gmmvae.figures.component_sheet import MOST_LETTERS
from pyro_gmmvae.figures.style import BLUE, VERMILION, cut

BINS = 40


def entropy_histogram(
    entropy: NDArray[Any],
    components: NDArray[np.int64],
    names: Sequence[str],
    numbers: Sequence[int],
    unit: str = "row",
) -> Figure:
    """Entropy of q(s|x) over rows with log K marked, and the mean of each component's rows.

    Args:
        entropy: (N,) in nats.
        components: (N,) the likeliest component of each row.
        names: K of them.
        numbers: the components to show, from the top.
        unit: what a row is called.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    most = math.log(len(names))
    figure = Figure(figsize=(9, max(3.2, 0.9 + 0.2 * len(numbers))), layout="constrained")
    over_rows, per_component = figure.subplots(1, 2, width_ratios=[3, 2])
    highest = max(most, float(entropy.max()), 1e-3)
    over_rows.hist(entropy, bins=BINS, range=(0, highest), color=BLUE)
    over_rows.set_yscale("log")
    over_rows.axvline(most, color=VERMILION, linestyle="--", linewidth=1.2)
    over_rows.set_xlim(-0.03 * highest, 1.08 * highest)
    over_rows.annotate(
        f"log {len(names)}",
        (most, 0.98),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        rotation=90,
        va="top",
        fontsize=8,
        color=VERMILION,
    )
    over_rows.set(xlabel="entropy of q(s|x), nats", ylabel=f"{unit}s")
    over_rows.set_title(
        f"Assignment entropy of {len(entropy)} {unit}s: mean {entropy.mean():.3f} nats", fontsize=10
    )
    means = [float(entropy[components == k].mean()) for k in numbers]
    places = range(len(numbers))
    per_component.barh(places, means, color=BLUE)
    # a name that was given may hold dollars, and be that of several components
    given = [cut(names[k], MOST_LETTERS) for k in numbers]
    shown = [
        n if n == f"component_{k}" else f"{n} ({k})" for n, k in zip(given, numbers, strict=True)
    ]
    per_component.set_yticks(places, shown, fontsize=7, parse_math=False)
    per_component.invert_yaxis()
    per_component.set(xlabel="mean entropy, nats")
    per_component.set_title("Mean per component, the largest first", fontsize=10)
    return figure
