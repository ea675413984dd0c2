"""What every data source gives: rows, labels, and the transform to the models' units."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Transform:
    """x -> (x - shift) / scale, elementwise, from a file's units to a model's.

    Attributes:
        shift: scalar or (*x_shape), in the file's units.
        scale: scalar or (*x_shape), positive, in the file's units.
    """

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def dividing_by(cls, unit: float) -> "Transform":
        """For pixels of known range."""
        return cls(np.zeros(()), np.full((), unit))

    @classmethod
    def standardizing(cls, rows: NDArray[Any]) -> "Transform":
        """Zero mean and unit variance per entry over ``rows``; constant entries keep scale 1.

        Constant up to rounding: a thousand times 0.1 has a standard deviation of 1e-17.
        """
        wide = rows.astype(np.float64)
        return cls.of_moments(wide.mean(0), wide.std(0))

    @classmethod
    def of_moments(cls, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> "Transform":
        """From the mean and standard deviation of each entry."""
        return cls(mean, np.where(scale <= 1e-12 * np.abs(mean), 1.0, scale))

    def __call__(self, rows: NDArray[Any]) -> Floats:
        # large numbers close to each other (times, say) differ only in double precision
        wide: NDArray[Any] = rows.astype(np.float32 if rows.dtype == np.uint8 else np.float64)
        np.subtract(wide, self.shift, out=wide, casting="same_kind")
        np.divide(wide, self.scale, out=wide, casting="same_kind")
        return wide.astype(np.float32, copy=False)

    def invert(self, rows: Floats) -> Floats:
        """Back to the file's units."""
        return (rows * self.scale + self.shift).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        return {"shift": self.shift.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Transform":
        return cls(*(np.asarray(content[key], np.float64) for key in ("shift", "scale")))


@dataclass(frozen=True)
class Dataset:
    """Rows as they were found, before splits and transforms.

    Attributes:
        x: (N, *x_shape), in the file's units; an array, or shards to be indexed like one.
        y: (N,) int64 in 0..len(classes)-1, -1 where no label is known.
        classes: the classes' names, in the order of y.
        columns: names of the features, for tables; None for images.
        unit: the pixels' full range (x / unit is in [0, 1]), or None to standardize.
        test: row numbers of a published test set, or None to draw one.
        kept: where rows were left out, the numbers in the file of those that stay.
    """

    x: Any
    y: Labels
    classes: tuple[str, ...]
    columns: tuple[str, ...] | None = None
    unit: float | None = None
    test: Labels | None = None
    kept: Labels | None = None

    @property
    def row_numbers(self) -> Labels:
        """(N,) the rows' numbers in the file, from 0."""
        return np.arange(len(self.x)) if self.kept is None else self.kept

    @property
    def x_shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape[1:])

    @property
    def likelihood(self) -> str:
        """The likelihood that fits: Bernoulli for pixels in [0, 1], else Normal."""
        return "normal" if self.unit is None else "bernoulli"

    def fit_transform_on(self, rows: Labels) -> Transform:
        """The transform to the models' units, fitted on these rows only where it is fitted."""
        if self.unit is not None:
            return Transform.dividing_by(self.unit)
        if not isinstance(self.x, np.ndarray):
            return self.x.standardizing(rows)
        return Transform.standardizing(self.x[rows])
