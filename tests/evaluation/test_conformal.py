"""Coverage of sets of classes and alarms for new classes, on made scores."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import binomtest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import check_coverage, conformal_sets, new_class_shares

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("coverage", [0.5, 0.9])
@pytest.mark.parametrize("values", [2, 5, 10_000])
def test_of_exchangeable_scores_at_most_the_stated_share_is_left_out(
    coverage: float, values: int
) -> None:
    """Each of n + 1 scores in turn is the new row's: with ties, and exact without them."""
    for n in (9, 10, 19, 24):
        scores = RNG.permutation(values)[: n + 1] if values > n else RNG.integers(0, values, n + 1)
        kept = [
            conformal_sets(
                np.delete(scores, i), np.zeros(n, int), scores[i].reshape(1, 1, 1), coverage
            )
            for i in range(n + 1)
        ]
        assert sum(map(bool, kept)) >= coverage * (n + 1) - 1e-9
        if values > n:
            assert sum(map(bool, kept)) == n + 1 - int((1 - coverage) * (n + 1) + 1e-9)


def test_sets_are_those_of_the_formula() -> None:
    scores, fold = RNG.integers(0, 6, 20).astype(float), np.arange(20) % 3
    candidates = RNG.integers(0, 7, (3, 8, 4)).astype(float)
    found = conformal_sets(scores, fold, candidates, 0.8)
    for row in range(8):
        for k in range(4):
            higher = sum(scores[i] >= candidates[fold[i], row, k] for i in range(20))
            assert found[row, k] == (1 + higher > 0.2 * 21)
    assert found.any()
    assert not found.all()


def made_folds(seed: int, n: int, folds: int, new: int) -> tuple[np.ndarray, ...]:
    """Log-probabilities of three classes by models of folds that differ, and the true classes."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 3, n + new)
    logits = 2 * np.eye(3)[y] + generator.normal(size=(n + new, 3))
    of_fold = (
        logits
        + generator.normal(size=(folds, 1, 3))
        + 0.2 * generator.normal(size=(folds, n + new, 3))
    )
    return log_softmax(of_fold, axis=-1), y


@pytest.mark.parametrize(("folds", "n"), [(1, 19), (5, 40)])
def test_sets_of_new_rows_cover_as_stated(folds: int, n: int) -> None:
    covered = total = 0
    for seed in range(150):
        log_probs, y = made_folds(seed, n, folds, 40)
        fold = np.arange(n) % folds
        scores = -log_probs[fold, np.arange(n), y[:n]]
        sets = conformal_sets(scores, fold, -log_probs[:, n:], 0.9)
        covered += int(sets[np.arange(40), y[n:]].sum())
        total += 40
    # rows of one draw share its held-out rows, so the interval is of draws and not of rows
    interval = binomtest(round(covered / 40), total // 40).proportion_ci(0.999)
    assert interval.low <= 0.9 <= interval.high if folds == 1 else covered / total >= 0.8
    assert covered / total < 0.97


@pytest.mark.parametrize(("coverage", "needed"), [(0.9, 9), (0.95, 19), (0.5, 1), (0.99, 99)])
def test_a_coverage_needs_so_many_rows(coverage: float, needed: int) -> None:
    check_coverage(coverage, needed)
    with pytest.raises(
        GMMVAEError, match=f"needs at least {needed} labelled rows .* {needed - 1};"
    ):
        check_coverage(coverage, needed - 1)
    with pytest.raises(GMMVAEError, match="between 0 and 1"):
        check_coverage(coverage - 1, 1000)
    # one row fewer, and even the highest score of all would be in the set
    highest = np.full((1, 1, 1), 1e9)
    assert not conformal_sets(np.zeros(needed), np.zeros(needed, int), highest, coverage).any()


def exchangeable(draws: int, n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """ELBOs and log-probabilities of n held-out rows and, last, a new one."""
    for _ in range(draws):
        yield RNG.standard_t(3, n + 1), log_softmax(2 * RNG.normal(size=(n + 1, 3)), axis=1)


def test_rows_of_known_classes_rarely_raise_an_alarm() -> None:
    shares = [
        new_class_shares(elbo[-1:], log_probs[-1:], elbo[:-1], log_probs[:-1])[0]
        for elbo, log_probs in exchangeable(1000, 39)
    ]
    alarms = sum(share >= 0.95 for share in shares)
    # ties of ranks count against an alarm
    assert binomtest(alarms, 1000, 0.05, "greater").pvalue > 1e-3
    assert alarms > 15
    assert 0.4 < np.mean(shares) < 0.52


def test_a_row_is_new_by_its_elbo_or_its_classes() -> None:
    elbo, log_probs = next(exchangeable(1, 40))
    sure = log_softmax([9.0, 0, 0]).reshape(1, 3)
    even = log_softmax([0.0, 0, 0]).reshape(1, 3)
    usual, low, unclear, both, broken = (
        new_class_shares(np.array([value]), row, elbo[:-1], log_probs[:-1])[0]
        for value, row in ((3.0, sure), (-99.0, sure), (3.0, even), (-99.0, even), (np.nan, even))
    )
    assert usual < 0.2 < min(low, unclear)
    assert both == broken == 40 / 41
    assert max(low, unclear) < both


def test_without_a_bound_the_classes_decide() -> None:
    _, log_probs = next(exchangeable(1, 40))
    none = np.full(40, np.nan)
    found = new_class_shares(np.full(41, np.nan), log_probs, none, log_probs[:40])
    order = np.argsort(-log_probs.max(1))
    assert (np.diff(found[order]) >= 0).all()
