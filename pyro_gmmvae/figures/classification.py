"""How rows are sorted into classes, and how far the probabilities of it can be believed."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from pyro_gmmvae.evaluation import (
    accuracy,
    contingency,
    expected_calibration_error,
    matching,
    reliability,
    wilson_interval,
)
from pyro_gmmvae.figures.confusion import confusion_matrix, contingency_matrix
from pyro_gmmvae.figures.reliability import reliability_diagram
from pyro_gmmvae.figures.run_view import Array, NotApplicable, View

BINS = 15


@dataclass(frozen=True)
class Judged:
    """Test rows whose class is known; of sequences, the whole sequences.

    Attributes:
        log_probs: (N, K) log q(y|x), nats.
        y: (N,) true classes.
        unit: what a row is called.
    """

    log_probs: Array
    y: Array
    unit: str


def judged(view: View) -> Judged:
    """The test rows to judge a run by.

    Raises:
        NotApplicable: the model has no classes, or no test row's class is known.
    """
    log_probs, y = view.log_probs, view.y
    groups = view.rows.groups
    log_probs, y = groups.pool(log_probs, view.test), groups.first(y, view.test)
    known = y >= 0
    if not known.any():
        raise NotApplicable("no test row has a known class")
    return Judged(log_probs[known], y[known], f"test {groups.noun}")


def draw_confusion(view: View) -> Figure:
    """Predicted against true classes; of a fit without labels, components against them."""
    rows = judged(view)
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
    # behind those that are matched the others, the largest first, and none that holds nothing
    others = [k for k in np.argsort(-counts.sum(0), kind="stable") if k not in matched]
    order = [*matched, *(int(k) for k in others if counts[:, k].any())]
    names = [_called(name, k) for k, name in enumerate(view.class_names)]
    share = sum(int(counts[pair]) for pair in pairs) / len(rows.y)
    return contingency_matrix(
        counts[:, order],
        view.run.schema.classes,
        [names[k] for k in order],
        [(c, order.index(k)) for c, k in pairs],
        wilson_interval(share, len(rows.y)),
        rows.unit,
    )


def draw_reliability(view: View) -> Figure:
    """Accuracy against confidence, bin by bin."""
    if view.run.config.labels == 0:
        raise NotApplicable("the fit saw no labels: its probabilities are of components")
    rows = judged(view)
    table = reliability(rows.log_probs, rows.y, BINS)
    shares = zip(table["accuracy"], table["rows"], strict=True)
    ends = np.array([wilson_interval(float(share), int(n)) for share, n in shares])
    table = table.assign(low=ends[:, 0], high=ends[:, 1])
    return reliability_diagram(table, expected_calibration_error(table), BINS, rows.unit)


def _called(name: str, component: int) -> str:
    """A name that was given may be that of several components."""
    return name if name == f"component_{component}" else f"{name} ({component})"
