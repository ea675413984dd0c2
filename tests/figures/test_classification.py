"""Confusion, contingency and reliability: texts, and their places."""

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.evaluation import expected_calibration_error, reliability
from pyro_gmmvae.figures.classification import (
    confusion_matrix,
    contingency_matrix,
    reliability_diagram,
)
from tests.figures.texts import HOSTILE, texts

COUNTS = np.array([[8, 2, 0], [0, 9, 1], [0, 0, 4]])


def test_counts_shares_names_and_the_accuracy_are_written() -> None:
    figure = confusion_matrix(COUNTS, ["ann", "bob", "cy"], (0.691, 0.951))
    found = texts(figure)
    assert {"ann", "bob", "cy", "8\n80%", "2\n20%", "9\n90%", "1\n10%", "4\n100%"} <= set(found)
    assert not any(text.startswith("0\n") for text in found)
    title = "of 24 test rows\naccuracy 0.875, 95 % Wilson interval 0.691 to 0.951"
    assert any(text.endswith(title) for text in found)


def test_true_classes_are_rows_and_shades_are_their_shares() -> None:
    figure = confusion_matrix(COUNTS, ["ann", "bob", "cy"])
    axes = figure.axes[0]
    shades = axes.images[0].get_array()
    assert np.allclose(shades, COUNTS / COUNTS.sum(1, keepdims=True))
    places = {t.get_text(): t.get_position() for t in axes.texts}
    assert places["2\n20%"] == (1, 0)  # x is the column, the predicted class
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


@pytest.mark.parametrize(
    ("classes", "has_counts"), [(2, True), (10, True), (27, True), (100, False)]
)
def test_many_classes_stay_readable(classes: int, has_counts: bool) -> None:
    counts = 43 * np.eye(classes, dtype=int)
    figure = confusion_matrix(counts, [f"person {k}" for k in range(classes)], (0.1, 0.2))
    found = texts(figure)
    assert {f"person {k}" for k in range(classes)} <= set(found)
    assert any(text.startswith("43") for text in found) == has_counts
    assert max(figure.get_size_inches()) < 15


def test_the_title_of_two_classes_is_not_cut_off() -> None:
    figure = confusion_matrix(np.eye(2, dtype=int), ["0", "1"], (0.342, 1.0))
    figure.draw_without_rendering()
    title = figure._suptitle  # matplotlib has no other way to it
    assert title is not None
    assert title.get_window_extent().x1 <= figure.bbox.x1


def test_a_class_without_rows_and_no_rows_at_all() -> None:
    counts = COUNTS.copy()
    counts[1] = 0
    found = texts(confusion_matrix(counts, ["ann", "bob", "cy"]))
    assert found.count("-") == 3
    empty = texts(confusion_matrix(np.zeros((2, 2), int), ["a", "b"]))
    assert not any("accuracy" in text for text in empty)
    assert any(
        "1 test row\naccuracy 1.000" in text
        for text in texts(confusion_matrix(np.ones((1, 1), int), ["a"]))
    )


def test_names_are_drawn_literally_on_one_line() -> None:
    found = texts(confusion_matrix(np.eye(len(HOSTILE), dtype=int), HOSTILE))
    assert {"$x_1^2$", "_hidden", "a$b", r"\frac{", "two lines"} <= set(found)
    long = texts(confusion_matrix(np.eye(2, dtype=int), ["x" * 500, "y"]))
    assert max(len(text) for text in long if text.startswith("x")) < 20


def test_matched_components_are_framed() -> None:
    counts = np.array([[0, 7, 1, 0], [5, 0, 0, 3]])
    figure = contingency_matrix(
        counts, ["ann", "bob"], [f"component_{k}" for k in range(4)], [(0, 1), (1, 0)], (0.5, 0.9)
    )
    frames = {patch.get_xy() for patch in figure.axes[0].patches}
    assert frames == {(0.5, -0.5), (-0.5, 0.5)}
    assert any("accuracy 0.750, 95 % Wilson interval 0.500 to 0.900" in t for t in texts(figure))


def test_of_many_components_some_names_are_left_out() -> None:
    counts = np.ones((3, 300), int)
    names = [f"component_{k}" for k in range(300)]
    found = texts(contingency_matrix(counts, names[:3], names, []))
    columns = [text for text in found if text.startswith("component_")][:100]
    assert columns[:3] == ["component_0", "component_3", "component_6"]


def test_points_intervals_and_rows_are_those_of_the_table() -> None:
    table = pd.DataFrame(
        {
            "rows": [4, 16],
            "confidence": [0.55, 0.95],
            "accuracy": [0.25, 1.0],
            "low": [0.05, 0.8],
            "high": [0.7, 1.0],
        },
        index=[5, 9],
    )
    figure = reliability_diagram(table, 0.1, bins=10)
    above, below = figure.axes
    diagonal, points = above.lines[0], above.lines[1]
    assert (list(diagonal.get_xdata()), list(diagonal.get_ydata())) == ([0, 1], [0, 1])
    assert np.allclose(points.get_xdata(), [0.55, 0.95])
    assert np.allclose(points.get_ydata(), [0.25, 1.0])
    segments = above.collections[0].get_segments()
    assert np.allclose(segments[0][:, 1], [0.05, 0.7])
    heights = [(round(p.get_x() + p.get_width() / 2, 6), p.get_height()) for p in below.patches]
    assert heights == [(0.55, 4), (0.95, 16)]
    found = texts(figure)
    assert any("20 test rows" in text and "error 0.1000 in 10 bins" in text for text in found)


def test_probabilities_reach_the_picture() -> None:
    """Confident and always wrong: all in the last bin, below the diagonal."""
    table = reliability(np.log(np.array([[0.99, 0.01]] * 5)), np.ones(5, np.int64))
    figure = reliability_diagram(
        table.assign(low=0.0, high=0.43), expected_calibration_error(table)
    )
    assert figure.axes[0].lines[1].get_ydata()[0] == 0
    assert any("error 0.9900" in text for text in texts(figure))


def test_small_bins_are_visible_beside_large_ones() -> None:
    columns = {"confidence": [0.5, 0.99], "accuracy": [1.0, 1.0], "low": 0.1, "high": 1.0}
    table = pd.DataFrame({"rows": [1, 5000]} | columns, index=[7, 14])
    assert reliability_diagram(table, 0.0).axes[1].get_yscale() == "log"
    one = reliability_diagram(table[:1].assign(rows=1), 0.5)
    assert any("1 test row\n" in text for text in texts(one))


def test_without_rows_the_picture_is_empty() -> None:
    table = pd.DataFrame({c: [] for c in ("rows", "confidence", "accuracy", "low", "high")})
    assert any("0 test rows" in text for text in texts(reliability_diagram(table, 0.0)))
