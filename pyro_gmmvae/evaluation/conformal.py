"""Conformal sets of classes, and p-values for rows of no known class."""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.errors import GMMVAEError

Array = NDArray[Any]


def conformal_sets(
    scores: Array, fold: NDArray[np.int64], candidates: Array, coverage: float
) -> NDArray[np.bool_]:
    """Sets of classes that hold the true class of a new row with a stated probability.

    A class stays in the set of a row unless its score is above those of most held-out rows:

        y in set(x)  <=>  1 + #{i : s_i >= s_fold(i)(x, y)} > (1 - coverage) (n + 1),

    where s_i is the score of the true class of row i by the model that was trained without it, and
    s_f that of the model of fold f. Ties count for the class, so nothing is random.

    With one fold this is split conformal prediction: the sets hold the true class with at least
    the probability ``coverage``. With several it is CV+ (Romano et al. 2020, arXiv:2006.02544;
    cross-conformal prediction, Vovk 2015): guaranteed is at least 1 - 2 (1 - coverage), and up to
    folds of unequal size (Barber et al. 2021, arXiv:1905.02928); usual is about ``coverage``.
    Both need new rows from the source of the labelled rows, with classes as frequent. A set can be
    empty: no class is as probable as the true class of most rows was.

    Args:
        scores: (n,) of the true classes of held-out rows; high where the class is improbable.
        fold: (n,) the fold of each, from 0.
        candidates: (folds, N, K) scores of each class of new rows, by the model of each fold.
        coverage: between 0 and 1.

    Returns:
        (N, K), true where the class is in the set.

    Raises:
        GMMVAEError: fewer held-out rows than the coverage needs.
    """
    check_coverage(coverage, len(scores))
    higher = np.zeros(candidates.shape[1:], np.int64)
    for number, of_fold in enumerate(candidates):
        own = np.sort(scores[fold == number])
        higher += len(own) - np.searchsorted(own, of_fold, "left")
    # whole numbers are compared, since 1 - 0.9 is not 0.1
    return higher + 1 > int(_error(coverage) * (len(scores) + 1))


def check_coverage(coverage: float, rows: int) -> None:
    """Refuse a coverage for which no class could be left out of a set.

    Raises:
        GMMVAEError: a coverage outside (0, 1), or fewer than 1 / (1 - coverage) - 1 held-out rows.
    """
    if not 0 < coverage < 1:
        raise GMMVAEError(f"coverage must lie between 0 and 1, such as 0.9, not {coverage:g}")
    needed = -int(-1 // _error(coverage)) - 1
    if rows < needed:
        raise GMMVAEError(
            f"a coverage of {coverage:g} needs at least {needed} labelled rows outside training "
            f"(out-of-fold or validation rows), and the run has {rows}; label more rows, or give a "
            "lower --coverage"
        )


def new_class_shares(
    elbo: Array, log_probs: Array, held_elbo: Array, held_log_probs: Array
) -> NDArray[np.float64]:
    """1 - p for p-values of rows against rows of known classes; near 1: of no known class.

    A row is unusual where its ELBO is low or no class is probable. Both get a p-value, the share
    of held-out rows that are as unusual, and the score of a row is -log of their product (Fisher
    1925). The result is the share of held-out rows with a lower score (of n + 1).

    For rows from the source of the held-out rows it reaches 1 - a in about a share a of the rows,
    so 0.95 is the threshold for 5 % false alarms (conformal p-values, Bates et al. 2023,
    arXiv:2104.08279; here the score is made from the held-out rows as well). It is at most
    n / (n + 1): fewer than 19 held-out rows can't reach 0.95.

    Args:
        elbo: (N,) of rows, in nats; NaN or -inf counts as lower than all.
        log_probs: (N, K) log q(y|x) of them.
        held_elbo, held_log_probs: (n,) and (n, K) of rows that the model was not trained on; all
            NaN in held_elbo: the model has no bound, and only the classes count.
    """
    score, held = np.zeros(len(elbo)), np.zeros(len(held_elbo))
    pairs = [(-log_probs.max(1), -held_log_probs.max(1))]
    if not np.isnan(held_elbo).all():
        pairs.append((-elbo, -held_elbo))
    for unusual, held_unusual in pairs:
        known = _finite(held_unusual)
        order = np.sort(known)
        score -= np.log(1 + _at_least(_finite(unusual), order))
        held -= np.log(_at_least(known, order))  # it counts itself, and so adds no 1
    return np.searchsorted(np.sort(held), score, "left") / (len(held) + 1)


def _at_least(scores: Array, order: Array) -> Array:
    """For each score, how many of some sorted ones are not below it."""
    return len(order) - np.searchsorted(order, scores, "left")


def _finite(scores: Array) -> Array:
    return np.nan_to_num(scores.astype(float), nan=np.inf, posinf=np.finfo(float).max)


def _error(coverage: float) -> Fraction:
    return 1 - Fraction(str(coverage))
