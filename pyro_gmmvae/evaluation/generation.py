"""Measures of a generator: draws beside real rows, from arrays.

Rows are flat, (N, D), without missing entries, and distances are Euclidean. The measures depend
on the units of the rows, on the number of rows and on the number of neighbors: published figures
of 3 neighbors on 10,000 or more features of a deep network are other measures.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.errors import GMMVAEError

if TYPE_CHECKING:
    from sklearn.svm import SVC

NEIGHBORS = 5
TIE = 1e-6  # distances that are this close, relatively, differ by rounding
Rows = NDArray[np.floating[Any]]
Classes = NDArray[np.int64]


def neighbor_measures(real: Rows, draws: Rows, neighbors: int = NEIGHBORS) -> dict[str, float]:
    """Precision, recall, density and coverage of draws, from balls around the rows.

    The ball of a row reaches to its k-th nearest neighbor among the rows of its own set.

    Args:
        real: (N, D) rows of the data.
        draws: (M, D) rows of the generator; the measures assume that M is about N.
        neighbors: k.

    Returns:
        ``precision``: share of draws in the ball of a real row; ``recall``: share of real rows in
        the ball of a draw (Kynkaanniemi et al. 2019, arXiv:1904.06991); ``density``: number of
        real balls that a draw lies in, on average, over k, which may exceed 1; ``coverage``: share
        of real rows with a draw in their ball (Naeem et al. 2020, arXiv:2002.09797).

    Raises:
        GMMVAEError: at most ``neighbors`` rows in one of the sets.
    """
    from sklearn.metrics import pairwise_distances
    from sklearn.neighbors import NearestNeighbors

    if min(len(real), len(draws)) <= neighbors:
        raise GMMVAEError(
            f"recall with {neighbors} neighbors needs at least {neighbors + 1} draws and as many "
            f"real rows; found {len(draws)} draws and {len(real)} real rows (use more draws, or a "
            "larger test part)"
        )
    reach_of_real, reach_of_draws = (
        NearestNeighbors(n_neighbors=neighbors).fit(rows).kneighbors()[0][:, -1] * (1 + TIE)
        for rows in (real, draws)
    )
    distances = pairwise_distances(real, draws)
    in_real = distances <= reach_of_real[:, None]
    in_draws = distances <= reach_of_draws
    return {
        "precision": float(in_real.any(0).mean()),
        "recall": float(in_draws.any(1).mean()),
        "density": float(in_real.sum(0).mean() / neighbors),
        "coverage": float(in_real.any(1).mean()),
    }


def fit_judge(x: Rows, y: Classes) -> "SVC":
    """A classifier that is not the model: scikit-learn's SVC (RBF kernel) on real rows.

    Args:
        x: (N, D) real rows.
        y: (N,) their classes; rows of -1 are left out.

    Raises:
        GMMVAEError: the rows have fewer than two classes.
    """
    from sklearn.svm import SVC

    known = y >= 0
    classes = len(np.unique(y[known]))
    if classes < 2:
        raise GMMVAEError(
            f"a judge of draws needs training rows of at least 2 classes; found {classes} (use "
            "data whose rows have labels)"
        )
    return SVC().fit(x[known], y[known])


def share_recognized(judge: "SVC", x: Rows, y: Classes) -> float | None:
    """Share of rows x (N, D) that a judge gives their class y; without rows of -1, None if all."""
    known = y >= 0
    return float(judge.score(x[known], y[known])) if known.any() else None


def relative_spread(real: Rows, y: Classes, draws: Rows, y_of_draws: Classes) -> float | None:
    """Spread of draws within a class relative to that of real rows, the mean over classes.

    The spread is the root of the variance within the class, averaged over entries: near 0 if all
    draws of a class are alike, near 1 if they differ as much as real rows.

    Args:
        real, draws: (N, D) and (M, D).
        y, y_of_draws: (N,) and (M,) their classes; rows of -1 are left out.

    Returns:
        None if no class has two draws and two real rows that differ.
    """
    ratios = []
    for k in np.intersect1d(y[y >= 0], y_of_draws):
        of_real, of_draws = real[y == k], draws[y_of_draws == k]
        variance = of_real.var(0).mean()
        if min(len(of_real), len(of_draws)) > 1 and variance > 0:
            ratios.append(np.sqrt(of_draws.var(0).mean() / variance))
    return float(np.mean(ratios)) if ratios else None


def nearest(queries: Rows, rows: Rows) -> tuple[Rows, NDArray[np.int64]]:
    """Distance (N,) of each query (N, D) to the nearest of some rows (M, D), and its index (N,)."""
    from sklearn.metrics import pairwise_distances_argmin_min

    places, distances = pairwise_distances_argmin_min(queries, rows)
    return np.asarray(distances), np.asarray(places)
