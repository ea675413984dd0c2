"""Numbers of whole sequences, and of those that are of no class."""

import numpy as np
from numpy.typing import NDArray


def detection_auroc(scores: NDArray[np.floating], is_stranger: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve of scores that should be higher for strangers.

    .5 is chance: how often a stranger has the higher score of a pair. None where there are
    none, or nobody else.
    """
    from sklearn.metrics import roc_auc_score

    if not is_stranger.any() or is_stranger.all():
        return None
    return float(roc_auc_score(is_stranger, scores))
