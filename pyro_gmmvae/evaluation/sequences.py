"""Numbers of whole sequences, and of those that are of no class."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax


def pool_by_sequence(
    log_probs: NDArray[np.floating], of_row: NDArray[np.int64]
) -> NDArray[np.floating]:
    """Log-probabilities of sequences from those of their windows.

    Windows overlap and resemble each other: their mean is taken, and not their sum, so that a
    long sequence is not surer than it should be.

    Args:
        log_probs: (N, K) log q(y|x) of windows.
        of_row: (N,) the sequence of each window, from 0; all of them occur.

    Returns:
        (S, K) normalized means.
    """
    return log_softmax(mean_by_sequence(log_probs, of_row), axis=-1)


def mean_by_sequence(
    values: NDArray[np.floating], of_row: NDArray[np.int64]
) -> NDArray[np.floating]:
    """(S, ...) means of values (N, ...) of windows over the sequences (N,) they are of."""
    total = np.zeros((int(of_row.max()) + 1, *values.shape[1:]))
    np.add.at(total, of_row, values)
    count = np.bincount(of_row).reshape(-1, *(1,) * (values.ndim - 1))
    return total / count


def detection_auroc(scores: NDArray[np.floating], is_stranger: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve of scores that should be higher for strangers.

    .5 is chance: how often a stranger has the higher score of a pair. None where there are
    none, or nobody else.
    """
    from sklearn.metrics import roc_auc_score

    if not is_stranger.any() or is_stranger.all():
        return None
    return float(roc_auc_score(is_stranger, scores))
