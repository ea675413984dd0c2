"""The reliability diagram: every bin of the table at its place."""

import numpy as np
import pandas as pd

from pyro_gmmvae.evaluation import expected_calibration_error, reliability
from pyro_gmmvae.figures.reliability import reliability_diagram
from tests.figures.texts import texts


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


def test_from_probabilities_to_the_picture() -> None:
    """Sure and always wrong: all in the last bin, below the diagonal."""
    table = reliability(np.log(np.array([[0.99, 0.01]] * 5)), np.ones(5, np.int64))
    figure = reliability_diagram(
        table.assign(low=0.0, high=0.43), expected_calibration_error(table)
    )
    assert figure.axes[0].lines[1].get_ydata()[0] == 0
    assert any("error 0.9900" in text for text in texts(figure))


def test_few_rows_beside_many_are_still_seen() -> None:
    columns = {"confidence": [0.5, 0.99], "accuracy": [1.0, 1.0], "low": 0.1, "high": 1.0}
    table = pd.DataFrame({"rows": [1, 5000]} | columns, index=[7, 14])
    assert reliability_diagram(table, 0.0).axes[1].get_yscale() == "log"
    one = reliability_diagram(table[:1].assign(rows=1), 0.5)
    assert any("1 test row\n" in text for text in texts(one))


def test_no_rows_make_an_empty_picture() -> None:
    table = pd.DataFrame({c: [] for c in ("rows", "confidence", "accuracy", "low", "high")})
    assert any("0 test rows" in text for text in texts(reliability_diagram(table, 0.0)))
