"""The transform from a file's units to the models' units."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
ROWS_AT_ONCE = 65_536


def _by_threshold(rows: NDArray[Any]) -> NDArray[Any]:
    """1 where an entry is at least 1/2, else 0; of the same type."""
    return (rows >= 0.5).astype(rows.dtype)


def _by_draws(rows: NDArray[Any]) -> NDArray[Any]:
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


BINARIZE = {"threshold": _by_threshold, "dynamic": _by_draws}


@dataclass(frozen=True)
class Moments:
    """Of each entry of some rows, in double precision; missing entries (NaN) are left out.

    Attributes:
        count: the number of rows where it is known.
        mean: 0 where there are none.
        variance: 1 where there are none.
    """

    count: NDArray[Any]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[Any]) -> "Moments":
        """The moments of rows (N, *x_shape)."""
        wide = rows.astype(np.float64)
        if np.isfinite(wide).all():
            return cls(np.full(wide.shape[1:], len(wide)), wide.mean(0), wide.var(0))
        known = np.ma.masked_invalid(wide)
        mean, variance = np.ma.filled(known.mean(0), 0.0), np.ma.filled(known.var(0), 1.0)
        return cls(known.count(0), mean, variance)

    def of_channels(self) -> "Moments":
        """Of all pixels of a channel together, (channels, 1, 1)."""
        axes = tuple(range(1, self.mean.ndim))
        total = self.count.sum(axes, keepdims=True)
        share = self.count / np.maximum(total, 1)
        mean = (share * self.mean).sum(axes, keepdims=True)
        within = (share * self.variance).sum(axes, keepdims=True)
        between = (share * np.square(self.mean - mean)).sum(axes, keepdims=True)
        return Moments(total, mean, np.where(total, within + between, 1.0))


@dataclass(frozen=True)
class Transform:
    """x -> (x - shift) / scale, elementwise, from a file's units to a model's.

    Attributes:
        shift: scalar, (*x_shape) or, of images, (channels, 1, 1), in the file's units.
        scale: of the same shape, positive, in the file's units.
        limit: results are clipped to +-limit; None: they are not clipped.
        binarize: results in [0, 1] become 0 or 1: "threshold" (1 from 1/2 on) or "dynamic" (drawn,
            with noise from the row's content); None: they stay as they are.
    """

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]
    limit: float | None = None
    binarize: str | None = None

    @classmethod
    def of_range(cls, low: float, high: float) -> "Transform":
        """From [low, high] to [0, 1]."""
        return cls(np.full((), float(low)), np.full((), float(high - low)))

    @classmethod
    def standardizing(cls, rows: NDArray[Any]) -> "Transform":
        """Zero mean and unit variance per entry over ``rows``, see :meth:`of_moments`."""
        return cls.of_moments(Moments.of(rows))

    @classmethod
    def of_moments(
        cls, moments: Moments, limit: float | None = None, rounding: float = 0.0
    ) -> "Transform":
        """Zero mean and unit variance; constant entries keep scale 1.

        Constant up to rounding: a thousand times 0.1 has a standard deviation of 1e-17. An entry
        that is missing in all rows is unchanged.

        Args:
            moments: of each entry.
            limit: as for the class.
            rounding: the share of its mean by which rounding blurs an entry, where it was
                computed in single precision.
        """
        mean, scale = moments.mean, np.sqrt(moments.variance)
        constant = scale <= max(1e-12, rounding) * np.abs(mean)
        return cls(mean, np.where(constant, 1.0, scale), limit)

    def __call__(self, rows: NDArray[Any]) -> Floats:
        return self.binarized(self.scaled(rows))

    def binarized(self, rows: Floats) -> Floats:
        """Rows in the model's units, binary where ``binarize`` says so; NaN stays."""
        if self.binarize is None:
            return rows
        binary = BINARIZE[self.binarize](rows)
        binary[np.isnan(rows)] = np.nan
        return binary

    @property
    def before_draws(self) -> "Transform":
        """The same without "dynamic", for training rows, which are drawn anew in each batch."""
        return replace(self, binarize=None) if self.binarize == "dynamic" else self

    def of_rows(self, rows: NDArray[Any], numbers: Labels) -> Floats:
        """Some of the rows in the model's units, made in blocks: without a copy in float64."""
        first = self(rows[numbers[:1]])
        made = np.empty((len(numbers), *first.shape[1:]), np.float32)
        for start in range(0, len(numbers), ROWS_AT_ONCE):
            block = slice(start, start + ROWS_AT_ONCE)
            made[block] = self(rows[numbers[block]])
        return made

    def scaled(self, rows: NDArray[Any]) -> Floats:
        """Rows in the model's units, before they become binary."""
        # large numbers close to each other (times, say) differ only in double precision
        wide: NDArray[Any] = rows.astype(np.float32 if rows.dtype == np.uint8 else np.float64)
        with np.errstate(over="ignore"):  # infinite values are refused by the caller
            np.subtract(wide, self.shift, out=wide, casting="same_kind")
            np.divide(wide, self.scale, out=wide, casting="same_kind")
            if self.limit is not None:
                np.clip(wide, -self.limit, self.limit, out=wide)
            return wide.astype(np.float32, copy=False)

    def invert(self, rows: Floats) -> Floats:
        """Back to the file's units."""
        return (rows * self.scale + self.shift).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        moments = {"shift": self.shift.tolist(), "scale": self.scale.tolist()}
        others = {"limit": self.limit, "binarize": self.binarize}
        return moments | {name: value for name, value in others.items() if value is not None}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Transform":
        """The transform that :meth:`to_json` described.

        Raises:
            KeyError, TypeError, ValueError: content that does not describe a transform.
        """
        shift, scale = (np.asarray(content[key], np.float64) for key in ("shift", "scale"))
        limit, binarize = content.get("limit"), content.get("binarize")
        if not (np.isfinite(shift).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("the transform is not finite, or its scale is not positive")
        if limit is not None and not (isinstance(limit, int | float) and limit > 0):
            raise ValueError(f"the transform has the limit {limit!r}")
        if binarize is not None and binarize not in BINARIZE:
            raise ValueError(f"the transform has binarize {binarize!r}")
        return cls(shift, scale, limit, binarize)
