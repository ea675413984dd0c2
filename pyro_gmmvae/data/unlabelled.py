"""Which labels stand for no label; the same in files, arrays, tables of people and estimators."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.cells import number_of


def is_unlabelled(label: Any) -> bool:
    """Whether a label is -1 or empty, as a number or as text.

    >>> [is_unlabelled(label) for label in (-1, "-1", "-1.0", " ", 0, "a")]
    [True, True, True, True, False, False]
    """
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    if isinstance(label, str):
        return not label.strip() or number_of(label.strip()) == -1
    return bool(label == -1)


def unlabelled_rows(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """(N,) whether each label of an array of any type is -1 or empty."""
    if labels.dtype.kind in "OUS":
        return np.fromiter(map(is_unlabelled, labels.tolist()), bool, len(labels))
    return np.asarray(labels == -1, bool)
