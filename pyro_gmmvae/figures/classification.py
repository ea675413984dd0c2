"""Confusion, contingency and reliability of predicted classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from pyro_gmmvae.evaluation import (
    accuracy,
    contingency,
    expected_calibration_error,
    matching,
    reliability,
    wilson_interval,
)
from pyro_gmmvae.figures.run_view import Array, NotApplicable, RunView
from pyro_gmmvae.figures.style import (
    BLUE,
    COLORS,
    GRAY,
    INCHES_PER_LETTER,
    SMALL,
    TEXT,
    TITLE,
    VERMILION,
    cut,
    new_figure,
    plain,
    tidy,
)
from pyro_gmmvae.runs.folder import OUT_OF_FOLD
from pyro_gmmvae.runs.out_of_fold import OutOfFold

CELL_INCHES = 0.46
MIN_SIDE, MAX_SIDE = 2.2, 11.0  # inches, of all cells together
MAX_WITH_SHARES = 12  # classes
MAX_WITH_COUNTS = 30
MAX_NAMES = 100
MAX_LETTERS = 18
MIN_WIDTH = 5.2  # inches, for the title
SHADES = "Blues"  # one hue, from light to dark: also ordered in gray
BINS = 15  # of confidence


@dataclass(frozen=True)
class LabeledRows:
    """Test rows, or whole test sequences, with a known class.

    Attributes:
        log_probs: (N, K) log q(y|x), nats.
        y: (N,) true classes.
        unit: the word for a row.
    """

    log_probs: Array
    y: Array
    unit: str


def labeled_rows(view: RunView) -> LabeledRows:
    """The rows that a run is evaluated on: test rows, or the labelled rows of its folds.

    Raises:
        NotApplicable: the model has no classes, or the class of no such row is known.
    """
    if not len(view.rows.split.test):
        scores = view.run.path / OUT_OF_FOLD
        if not scores.exists():
            raise NotApplicable("the run has no test rows, and was not cross-validated")
        held_out = OutOfFold.load(scores)
        return LabeledRows(held_out.log_probs, held_out.y, "cross-validated row")
    log_probs, y = view.log_probs, view.y
    groups = view.rows.groups
    log_probs, y = groups.pool(log_probs, view.test), groups.first(y, view.test)
    is_known = y >= 0
    if not is_known.any():
        raise NotApplicable("no test row has a known class")
    return LabeledRows(log_probs[is_known], y[is_known], f"test {groups.noun}")


def draw_confusion(view: RunView) -> Figure:
    """Predicted against true classes; of a fit without labels, components against true classes.

    Raises:
        NotApplicable: see :func:`labeled_rows`.
    """
    rows = labeled_rows(view)
    C, K = len(view.run.schema.classes), rows.log_probs.shape[1]
    counts = contingency(rows.log_probs.argmax(1), rows.y, (C, K))
    if view.run.config.labels != 0:
        share = accuracy(rows.log_probs, rows.y)
        assert share is not None
        interval = wilson_interval(share, len(rows.y))
        return confusion_matrix(counts, view.class_names, interval, rows.unit)
    pairs = matching(counts)
    component_of = dict(pairs)
    matched = [component_of[c] for c in range(C) if c in component_of]
    # then the others, the largest first, without empty ones
    others = [k for k in np.argsort(-counts.sum(0), kind="stable") if k not in matched]
    order = [*matched, *(int(k) for k in others if counts[:, k].any())]
    # several components may share a name that was given
    names = [
        name if name == f"component_{k}" else f"{name} ({k})"
        for k, name in enumerate(view.class_names)
    ]
    share = sum(int(counts[pair]) for pair in pairs) / len(rows.y)
    return contingency_matrix(
        counts[:, order],
        view.run.schema.classes,
        [names[k] for k in order],
        [(c, order.index(k)) for c, k in pairs],
        wilson_interval(share, len(rows.y)),
        rows.unit,
    )


def draw_reliability(view: RunView) -> Figure:
    """Accuracy against confidence, bin by bin.

    Raises:
        NotApplicable: a fit without labels; see also :func:`labeled_rows`.
    """
    if view.run.config.labels == 0:
        raise NotApplicable("the fit saw no labels: its probabilities are of components")
    rows = labeled_rows(view)
    table = reliability(rows.log_probs, rows.y, BINS)
    shares = zip(table["accuracy"], table["rows"], strict=True)
    ends = np.array([wilson_interval(float(share), int(n)) for share, n in shares])
    table = table.assign(low=ends[:, 0], high=ends[:, 1])
    return reliability_diagram(table, expected_calibration_error(table), BINS, rows.unit)


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
        names: of the K classes, the C true ones first.
        interval: 95 % interval of the accuracy; None: not shown.
        unit: the word for a row.
    """
    total, right = int(counts.sum()), int(np.trace(counts))
    title = f"Predicted against true class of {_counted(total, unit)}"
    if total:
        title += f"\naccuracy {right / total:.3f}{_interval(interval)}"
    # of many classes the diagonal is seen without frames
    frames = [(k, k) for k in range(len(counts))] if len(names) <= MAX_WITH_COUNTS else []
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
        classes: names of the C classes.
        components: names of the K components.
        matches: row and column of each class and the component it is matched with, one to one;
            their cells are framed.
        interval: 95 % interval of the share of rows in framed cells; None: not shown.
        unit: the word for a row.
    """
    total, right = int(counts.sum()), sum(int(counts[match]) for match in matches)
    title = f"Components against true classes of {_counted(total, unit)}"
    if total:
        title += "\nunder the best one-to-one naming (framed)"
        title += f"\naccuracy {right / total:.3f}{_interval(interval)}"
    return _matrix(counts, classes, components, title, "component", matches)


def _matrix(
    counts: NDArray[np.int64],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    xlabel: str,
    frames: Sequence[tuple[int, int]],
) -> Figure:
    longer = max(counts.shape)
    cell = float(np.clip(CELL_INCHES, MIN_SIDE / longer, MAX_SIDE / longer))
    row_names = [plain(cut(str(name), MAX_LETTERS)) for name in rows]
    column_names = [plain(cut(str(name), MAX_LETTERS)) for name in columns]
    # upright where they fit above their cells
    is_flat = max(map(len, column_names)) * INCHES_PER_LETTER < cell
    below = 0.2 if is_flat else INCHES_PER_LETTER * max(map(len, column_names))
    left = INCHES_PER_LETTER * max(map(len, row_names))
    wide, high = cell * counts.shape[1], cell * counts.shape[0]
    figure = new_figure(
        max(left + wide + 1.5, MIN_WIDTH), high + below + 0.7 + 0.22 * (1 + title.count("\n"))
    )
    axes = figure.subplots()
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.where(totals > 0, totals, 1)
    image = axes.imshow(shares, cmap=SHADES, vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label("share of the true class", fontsize=TEXT)
    bar.ax.tick_params(labelsize=SMALL)
    for axis, names in ((axes.xaxis, column_names), (axes.yaxis, row_names)):
        step = -(-len(names) // MAX_NAMES)
        size = float(np.clip(72 * cell * step * 0.75, 3.5, 8.5))
        axis.set_ticks(range(0, len(names), step), names[::step], fontsize=size)
    if not is_flat:
        axes.tick_params(axis="x", rotation=90)
    axes.tick_params(length=2)
    axes.set_xlabel(xlabel, fontsize=TEXT)
    axes.set_ylabel("true class", fontsize=TEXT)
    figure.suptitle(title, x=0.02, ha="left", fontsize=TITLE)
    if longer <= MAX_WITH_COUNTS:
        _write_counts(axes, counts, shares)
    for row, column in frames:
        corner = (column - 0.5, row - 0.5)
        thick = min(1.0, 72 * cell / 18)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=VERMILION, linewidth=thick))
    return figure


def _write_counts(axes: Axes, counts: NDArray[np.int64], shares: Array) -> None:
    """Numbers in cells, of few classes with shares; no zeros, so that errors are easy to see."""
    with_shares = max(counts.shape) <= MAX_WITH_SHARES
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


def reliability_diagram(
    table: pd.DataFrame, ece: float, bins: int = BINS, unit: str = "test row"
) -> Figure:
    """Accuracy against mean confidence per bin with 95 % intervals, and the rows of each bin.

    Points below the diagonal are bins in which the model is overconfident.
    Guo et al. 2017, arXiv:1706.04599.

    Args:
        table: a line per bin that holds rows, its number (from 0) as the index, with the
            columns ``rows``, ``confidence``, ``accuracy`` and the Wilson interval's ``low`` and
            ``high``.
        ece: expected calibration error, in [0, 1].
        bins: of equal widths from 0 to 1.
        unit: the word for a row.
    """
    figure = new_figure(5.2, 6.0)
    above, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    middle = (np.asarray(table.index, float) + 0.5) / bins
    above.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="calibrated")
    above.bar(middle, table["accuracy"], width=0.94 / bins, color=COLORS[5], alpha=0.35)
    errors = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
    above.errorbar(
        table["confidence"],
        table["accuracy"],
        yerr=np.clip(errors, 0, None),
        linestyle="",
        marker="o",
        markersize=4.5,
        capsize=2.5,
        linewidth=1.2,
        color=BLUE,
        label="accuracy, 95 % Wilson interval",
    )
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.03))
    tidy(above)
    above.set_title(
        f"Calibration of {_counted(int(table['rows'].sum()), unit)}\n"
        f"expected calibration error {ece:.4f} in {bins} bins",
        fontsize=TITLE,
        loc="left",
    )
    below.bar(middle, table["rows"], width=0.94 / bins, color=BLUE)
    if len(table) and table["rows"].max() > 50 * table["rows"].min():
        # small bins are visible beside a bin that holds most rows
        below.set_yscale("log")
        below.set_ylim(0.7, None)
    below.set(xlabel="confidence: probability of the predicted class", ylabel=f"{unit}s")
    tidy(below)
    figure.legend(loc="outside lower center", ncols=2, fontsize=TEXT, frameon=False)
    return figure


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f", 95 % Wilson interval {ends[0]:.3f} to {ends[1]:.3f}"


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"
