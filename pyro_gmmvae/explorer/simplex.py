"""Class weights on the simplex, as sliders move them."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def uniform(K: int) -> Array:
    """(K,) equal weights."""
    return np.full(K, 1 / K)


def vertex(k: int, K: int) -> Array:
    """(K,) all weight on class k."""
    return np.eye(K)[k]


def with_weight(weights: Array, k: int, value: float) -> Array:
    """Weights (K,) with ``value`` (clipped to 0..1) on class k and the rest renormalized.

    The others keep their proportions; where they have no weight at all, they share equally. A
    single class keeps all.
    """
    if len(weights) == 1:
        return np.ones(1)
    value = float(np.clip(np.nan_to_num(value), 0, 1))
    others = np.delete(weights, k)
    total = others.sum()
    others = others / total if total > 0 else uniform(len(others))
    moved = np.insert(others * (1 - value), k, value)
    return np.asarray(moved / moved.sum())
