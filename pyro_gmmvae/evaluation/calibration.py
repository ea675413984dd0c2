"""Whether a probability of 0.9 is right nine times in ten."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def reliability(log_probs: NDArray[Any], y: NDArray[np.int64], bins: int = 15) -> pd.DataFrame:
    """The reliability diagram as a table, one line per bin of confidence that holds rows.

    Args:
        log_probs: (N, K) log q(y|x).
        y: (N,) labels; rows with -1 are left out.
        bins: equal widths from 0 to 1.

    Returns:
        Columns ``rows``, ``confidence`` (mean probability of the likeliest class) and
        ``accuracy``.
    """
    known = y >= 0
    log_probs, y = log_probs[known], y[known]
    confidence = np.exp(log_probs.max(1)).clip(0, 1)
    table = pd.DataFrame(
        {
            "bin": np.minimum((confidence * bins).astype(int), bins - 1),
            "confidence": confidence,
            "accuracy": log_probs.argmax(1) == y,
        }
    )
    groups = table.groupby("bin")
    return groups.mean().assign(rows=groups.size())[["rows", "confidence", "accuracy"]]


def expected_calibration_error(table: pd.DataFrame) -> float:
    """Mean distance of confidence and accuracy over rows, from :func:`reliability`, in [0, 1].

    Guo et al. 2017, arXiv:1706.04599.
    """
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["rows"]).sum() / table["rows"].sum())
