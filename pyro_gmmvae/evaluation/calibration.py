"""Calibration of class probabilities by one temperature, fitted on rows that were held out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

RANGE = (0.05, 20.0)  # of temperatures
LOWEST = -87.0  # of log-probabilities: about the logarithm of the smallest number in f32


def fit_temperature(log_probs: NDArray[Any], y: NDArray[np.int64]) -> float:
    """The temperature T that minimizes the log loss of softmax(log_probs / T) on held-out rows.

    Guo et al. 2017, arXiv:1706.04599. As in Platt 1999, a label counts as right with probability
    (n + 1) / (n + 2) only: n rows without an error do not show that there are none, and T stays
    above 0 where all rows are right.

    Args:
        log_probs: (n, K) log q(y|x) of rows that the model was not trained on.
        y: (n,) their classes; rows with -1 are left out.

    Returns:
        T, between 1/20 and 20; 1 without labelled rows or with a single class.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    labelled = y >= 0
    log_probs, y = log_probs[labelled].astype(float).clip(LOWEST), y[labelled]
    n, K = log_probs.shape
    if not n or K == 1:
        return 1.0
    right = np.arange(K) == y[:, None]
    error = 1 / (n + 2)

    def loss(log_temperature: float) -> float:
        scaled = tempered(log_probs, np.exp(log_temperature))
        wrong = logsumexp(np.where(right, -np.inf, scaled), axis=1)
        return float(-((1 - error) * scaled[right] + error * wrong).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(RANGE)), method="bounded")
    return float(np.exp(found.x))


def tempered(log_probs: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """(N, K) logarithms of softmax(log_probs / T); the most probable class stays the same."""
    from scipy.special import log_softmax

    return np.asarray(log_softmax(log_probs.astype(float).clip(LOWEST) / temperature, axis=1))
