"""Detection of rows or sequences of unknown classes."""

import numpy as np
from numpy.typing import NDArray


def detection_auroc(scores: NDArray[np.floating], is_unknown: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve of scores (N,) that should be higher for unknown classes (N,).

    The share of pairs in which the unknown one has the higher score; .5 is chance. None where
    all or none are unknown.
    """
    from sklearn.metrics import roc_auc_score

    if not is_unknown.any() or is_unknown.all():
        return None
    return float(roc_auc_score(is_unknown, scores))
