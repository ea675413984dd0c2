"""Metrics of components without labels, compared with counts by hand and closed forms."""

import math

import numpy as np
import pytest

from pyro_gmmvae.evaluation import (
    assignment_entropy,
    components_in_use,
    contingency,
    matching,
    n_components_used,
    silhouette,
    sum_by_name,
)


def test_a_component_is_in_use_from_one_row_in_a_thousand() -> None:
    clusters = np.repeat([4, 7, 2], [1, 1000, 999])
    assert components_in_use(clusters).tolist() == [7, 2]
    assert components_in_use(clusters[1:1001]).tolist() == [7]
    assert components_in_use(np.append(clusters[1:1000], 4)).tolist() == [7, 4]
    assert n_components_used(np.array([3, 3, 5])) == 2


def test_the_matching_has_the_most_rows() -> None:
    """By hand: the largest component of a class may be matched with another class."""
    y = np.array([0] * 5 + [1] * 4 + [-1])
    clusters = np.array([2, 2, 2, 3, 3, 2, 2, 2, 2, 0])
    counts = contingency(clusters, y, (2, 4))
    assert counts.tolist() == [[0, 0, 3, 2], [0, 0, 4, 0]]
    assert matching(counts) == [(0, 3), (1, 2)]
    # with fewer components than classes a class goes without
    assert matching(counts[:, 2:3]) == [(1, 0)]


def test_entropy_is_zero_for_one_component_and_log_k_for_a_uniform_assignment() -> None:
    probs = np.array([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]])
    with np.errstate(divide="ignore"):
        found = assignment_entropy(np.log(probs).astype(np.float32))
    assert found == pytest.approx([0, math.log(4), math.log(2)], abs=1e-6)


def test_the_silhouette_of_two_pairs() -> None:
    """a = 1 within a pair; b = 10.5 and 9.5 to the other, on a line."""
    z = np.array([[0.0], [1.0], [10.0], [11.0]])
    expected = np.mean([1 - 1 / 10.5, 1 - 1 / 9.5, 1 - 1 / 9.5, 1 - 1 / 10.5])
    assert silhouette(z, np.array([0, 0, 5, 5])) == pytest.approx(expected)


@pytest.mark.parametrize("clusters", [[1, 1, 1], [0, 1, 2]])
def test_one_cluster_or_one_per_row_has_no_silhouette(clusters: list[int]) -> None:
    assert silhouette(np.eye(3), np.array(clusters)) is None


def test_probabilities_of_components_with_one_name_are_added() -> None:
    probs = np.array([[0.3, 0.45, 0.25], [0.1, 0.9, 0.0]])
    with np.errstate(divide="ignore"):
        names, found = sum_by_name(np.log(probs), ["b", "a", "b"])
    assert names == ["b", "a"]
    np.testing.assert_allclose(np.exp(found), [[0.55, 0.45], [0.1, 0.9]])
    assert found.argmax(1).tolist() == [0, 1]  # b is likelier than a, though a component is not
