"""Means and their intervals, against SciPy; the order of lines; every seed."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.figures.cluster_curves import cluster_dots
from pyro_gmmvae.figures import dot_plot
from pyro_gmmvae.figures.sweep_plots import metric_limits, t_interval
from tests.figures.texts import HOSTILE, texts

VALUES = {"worse": [0.8, 0.82, 0.81], "best": [0.9, 0.95, 0.97], "one": [0.85]}


def rows(values: dict[str, list[float]], panel: str = "") -> pd.DataFrame:
    lines = [(panel, line, value) for line, given in values.items() for value in given]
    return pd.DataFrame(lines, columns=["panel", "line", "value"])


def test_the_interval_is_students() -> None:
    values = VALUES["best"]
    wanted = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert t_interval(values) == pytest.approx(wanted)
    assert t_interval([*values, np.nan]) == pytest.approx(wanted)
    assert np.isnan(t_interval([0.5])).all()
    assert t_interval([0.5, 0.5]) == (0.5, 0.5)


def test_lines_are_sorted_and_each_seed_is_a_dot() -> None:
    figure = dot_plot(rows(VALUES), "accuracy", "digits", reference="worse")
    axis = figure.axes[0]
    names = [label.get_text() for label in axis.get_yticklabels()]
    assert names == ["best", "one", "worse"]
    assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the first on top
    dots = [line for line in axis.lines if line.get_alpha()]
    assert [sorted(line.get_xdata()) for line in dots] == [sorted(VALUES[n]) for n in names]
    means = [line.get_xdata()[0] for line in axis.lines if line.get_markersize() > 5]
    assert means[:2] == pytest.approx([0.94, 0.85])
    intervals = [part.get_segments()[0][:, 0] for part in axis.collections]
    assert [tuple(ends) for ends in intervals] == [
        pytest.approx(t_interval(VALUES[name])) for name in ("best", "worse")
    ]
    assert axis.lines[-1].get_xdata()[0] == pytest.approx(0.81)  # dashed at the reference
    assert any("digits\n" in text and "dashed: worse" in text for text in texts(figure))


def test_an_interval_ends_at_the_range_of_the_metric() -> None:
    values = {"near one": [0.95, 0.99], "inside": [0.5, 0.51]}
    axis = dot_plot(rows(values), "accuracy", limits=metric_limits("accuracy")).axes[0]
    intervals = [tuple(part.get_segments()[0][:, 0]) for part in axis.collections]
    low, high = t_interval(values["near one"])
    assert high > 1
    assert intervals[0] == pytest.approx((low, 1))
    assert intervals[1] == pytest.approx(t_interval(values["inside"]))


@pytest.mark.parametrize(
    ("metric", "limits"),
    [
        ("probe_accuracy", (0, 1)),
        ("pareto_k_bad", (0, 1)),
        ("unknown_auroc_elbo", (0, 1)),
        ("sequence_ari", (-1, 1)),
        ("elbo", (-np.inf, np.inf)),
        ("nll", (-np.inf, np.inf)),
    ],
)
def test_metrics_have_ranges(metric: str, limits: tuple[float, float]) -> None:
    assert metric_limits(metric) == limits


def test_lower_may_be_better() -> None:
    figure = dot_plot(rows(VALUES), "error", ascending=True)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["worse", "one", "best"]


def test_panels_share_their_lines() -> None:
    table = pd.concat([rows(VALUES, "50 labels"), rows({"best": [0.99]}, "500 labels")])
    figure = dot_plot(table, "accuracy")
    assert [axis.get_title() for axis in figure.axes] == ["50 labels", "500 labels"]
    assert figure.axes[1].lines[0].get_ydata()[0] == 0  # at the height of its line


def test_missing_numbers_leave_no_trace() -> None:
    table = rows(VALUES | {"none": [np.nan, np.inf]})
    names = [t.get_text() for t in dot_plot(table, "accuracy").axes[0].get_yticklabels()]
    assert "none" not in names
    texts(dot_plot(rows({"none": [np.nan]}), "accuracy"))


@pytest.mark.parametrize("lines", [1, 60])
def test_sizes_are_bounded(lines: int) -> None:
    given = {f"line {n}": [n / 100, (n + 1) / 100] for n in range(lines)}
    found = texts(dot_plot(rows(given), "accuracy"))
    assert set(given) <= set(found)


def test_names_are_drawn_literally() -> None:
    given = {name: [0.5, 0.6] for name in HOSTILE}
    assert {"$x_1^2$", "a$b"} <= set(texts(dot_plot(rows(given, "$p$"), "accuracy", "$t$")))
    table = pd.DataFrame({"part": "main", "line": list(HOSTILE), "accuracy": 0.5})
    assert {"$x_1^2$", "a$b"} <= set(texts(cluster_dots(table)))
