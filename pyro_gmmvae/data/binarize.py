"""Binary rows from rows in [0, 1]."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def by_threshold(rows: NDArray[Any]) -> NDArray[Any]:
    """1 where an entry is at least 1/2, else 0; of the same type."""
    return (rows >= 0.5).astype(rows.dtype)


def by_draws(rows: NDArray[Any]) -> NDArray[Any]:
    """x ~ Bernoulli(rows), drawn with noise that depends on each row's content alone.

    The same row gives the same draw, whatever its place and the rows beside it.

    Args:
        rows: (N, ...) in [0, 1].

    Returns:
        Zeros and ones of the same shape and type.
    """
    flat = np.ascontiguousarray(rows.reshape(len(rows), -1)) + 0.0  # -0 has other bytes than 0
    drawn = np.empty_like(flat)
    for number, row in enumerate(flat):
        seed = int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little")
        uniform = np.random.Generator(np.random.Philox(key=seed)).random(row.size)
        drawn[number] = uniform < row
    return drawn.reshape(rows.shape)
