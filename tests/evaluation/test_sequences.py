"""Metrics of whole sequences, compared with direct computations."""

import numpy as np
import pytest

from pyro_gmmvae.data.row_groups import mean_by_group, pool_by_group
from pyro_gmmvae.evaluation import detection_auroc

RNG = np.random.default_rng(0)
OF_ROW = RNG.permutation(np.r_[np.arange(6), RNG.integers(0, 6, 40)])


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_means_by_sequence(shape: tuple[int, ...]) -> None:
    values = RNG.normal(size=(len(OF_ROW), *shape))
    expected = [values[sequence == OF_ROW].mean(0) for sequence in range(6)]
    np.testing.assert_allclose(mean_by_group(values, OF_ROW), expected)


def test_pooled_log_probabilities_are_normalized_geometric_means() -> None:
    probs = RNG.dirichlet(np.ones(4), len(OF_ROW))
    found = np.exp(pool_by_group(np.log(probs), OF_ROW))
    for sequence in range(6):
        rows = probs[sequence == OF_ROW]
        mean = np.prod(rows, 0) ** (1 / len(rows))
        np.testing.assert_allclose(found[sequence], mean / mean.sum())


def test_repeating_a_window_does_not_raise_confidence() -> None:
    log_probs = np.log([[0.7, 0.3]])
    for times in (1, 50):
        found = np.exp(pool_by_group(np.repeat(log_probs, times, 0), np.zeros(times, int)))
        np.testing.assert_allclose(found, [[0.7, 0.3]])


def test_auroc_is_the_share_of_pairs_with_a_higher_unknown_score() -> None:
    scores = RNG.integers(0, 6, 30).astype(float)
    unknown = RNG.uniform(size=30) < 0.4
    pairs = scores[unknown][:, None] - scores[~unknown]
    assert detection_auroc(scores, unknown) == pytest.approx(
        (pairs > 0).mean() + 0.5 * (pairs == 0).mean()
    )
    assert detection_auroc(scores, np.zeros(30, bool)) is None
    assert detection_auroc(scores, np.ones(30, bool)) is None
