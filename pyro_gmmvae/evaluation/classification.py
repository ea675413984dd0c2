"""Numbers from class probabilities and true classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.evaluation.clustering import contingency


def accuracy(log_probs: NDArray[Any], y: NDArray[np.int64]) -> float | None:
    """Share of labelled rows whose likeliest class is right; None where no row has a label.

    Args:
        log_probs: (N, K) log q(y|x).
        y: (N,) labels, -1 where unknown.
    """
    known = y >= 0
    if not known.any():
        return None
    return float((log_probs[known].argmax(1) == y[known]).mean())


def log_loss(log_probs: NDArray[Any], y: NDArray[np.int64]) -> float | None:
    """Mean -log q(y|x) of labelled rows, in nats; None where no row has a label.

    It tells apart what accuracy counts as equal: how sure a classifier is of what is right.

    Args:
        log_probs, y: as for :func:`accuracy`.
    """
    known = np.flatnonzero(y >= 0)
    return None if not len(known) else float(-log_probs[known, y[known]].mean())


def wilson_interval(share: float, rows: int) -> tuple[float, float]:
    """95 % confidence interval of a share of ``rows`` (Wilson 1927), as SciPy computes it.

    It holds for new rows from the same source, and not for another draw of labels.
    """
    from scipy.stats import binomtest

    interval = binomtest(round(share * rows), rows).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def confusion(log_probs: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """(K, K) counts: row the true class, column the likeliest one; rows with y = -1 left out."""
    K = log_probs.shape[1]
    return contingency(log_probs.argmax(1), y, (K, K))


def probe_accuracy(
    z: NDArray[Any], y: NDArray[np.int64], test_z: NDArray[Any], test_y: NDArray[np.int64]
) -> float:
    """Test accuracy of scikit-learn's logistic regression on standardized z of labelled rows.

    A linear probe: what the representation knows of the classes, whatever the model.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(z, y)
    known = test_y >= 0
    return float(probe.score(test_z[known], test_y[known]))
