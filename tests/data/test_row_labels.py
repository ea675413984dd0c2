"""Soft labels, weights and groups of rows: what is taken, and what is refused."""

import numpy as np
import pytest

from pyro_gmmvae.data.row_labels import (
    checked_soft_labels,
    checked_weights,
    group_codes,
    soft_label_names,
)
from pyro_gmmvae.errors import GMMVAEError

NAN = np.nan


def test_soft_labels_have_a_most_probable_class_and_sum_to_one() -> None:
    p = [[0.2, 0.8005, 0.0], [1.0, 0.0, 0.0], [NAN, NAN, NAN], [0.5, NAN, 0.5]]
    y, soft = checked_soft_labels(p, "rows.csv")
    assert y.tolist() == [1, 0, -1, 0]
    assert soft is not None
    np.testing.assert_allclose(soft[[0, 3]].sum(1), 1)
    np.testing.assert_allclose(soft[0], [0.2 / 1.0005, 0.8005 / 1.0005, 0])
    assert np.isnan(soft[1:3]).all()  # certain, and unknown


def test_certain_classes_are_no_soft_labels() -> None:
    y, soft = checked_soft_labels(np.eye(3), "rows.csv")
    assert y.tolist() == [0, 1, 2]
    assert soft is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0.5, 0.4, 0.0], "row 1 has probabilities that do not sum to 1"),
        ([1.5, -0.5, 0.0], "row 1 has a negative probability"),
        ([0.0, 0.0, 0.0], "row 1 has probabilities that do not sum to 1"),
        ([np.inf, 0.0, 0.0], "row 1"),
    ],
)
def test_rows_that_are_no_distribution_are_refused(row: list[float], message: str) -> None:
    with pytest.raises(GMMVAEError, match=message):
        checked_soft_labels([[0.5, 0.5, 0.0], row], "rows.csv")


def test_columns_of_soft_labels_are_those_of_the_classes() -> None:
    columns = ["height", "p_a", "p_b", "p_"]
    assert soft_label_names(columns, ()) == {"p_a": "a", "p_b": "b"}
    assert soft_label_names(columns, ["a", "b"]) == {"p_a": "a", "p_b": "b"}
    assert soft_label_names(columns, ["a", "c"]) == {}  # measurements whose name begins with p_
    assert soft_label_names(["p_value", "height"], ()) == {}


def test_equal_weights_are_none() -> None:
    assert checked_weights([2, 2, 2], 3, "weights") is None
    weights = checked_weights([2, 0, 1], 3, "weights")
    assert weights is not None
    assert weights.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, -1, 1], "row 1 has -1"),
        ([1, 1, NAN], "row 2 has nan"),
        ([1, np.inf, 1], "row 1 has inf"),
        ([0, 0, 0], "all zero"),
        ([1, 1], "one for each of 3 rows"),
        (["much", "1", "1"], "must be numbers"),
    ],
)
def test_weights_that_no_draw_can_follow_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(GMMVAEError, match=message):
        checked_weights(weights, 3, "weights")


def test_groups_have_numbers_and_a_row_without_one_is_alone() -> None:
    codes = group_codes(np.array(["ann", None, "bob", "ann", ""], object))
    assert codes[0] == codes[3]
    assert len(set(codes.tolist())) == 4
