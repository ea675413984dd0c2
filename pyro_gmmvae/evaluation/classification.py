"""Numbers from class probabilities."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
