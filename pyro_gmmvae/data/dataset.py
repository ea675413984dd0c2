"""What every data source gives: rows, labels, and the transform to the models' units."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pyro_gmmvae.skeletons.features import SkeletonFeatures

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Transform:
    """x -> (x - shift) / scale, elementwise, from a file's units to a model's.

    Attributes:
        shift: scalar or (*x_shape), in the file's units.
        scale: scalar or (*x_shape), positive, in the file's units.
        limit: where results are clipped to +-limit, else None.
    """

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]
    limit: float | None = None

    @classmethod
    def dividing_by(cls, unit: float) -> "Transform":
        """For pixels of known range."""
        return cls(np.zeros(()), np.full((), unit))

    @classmethod
    def standardizing(cls, rows: NDArray[Any], limit: float | None = None) -> "Transform":
        """Zero mean and unit variance per entry over ``rows``; constant entries keep scale 1.

        Constant up to rounding: a thousand times 0.1 has a standard deviation of 1e-17, and more
        where the rows are in single precision.
        Missing entries (NaN) are left out; one that is missing in all rows is left as it is.
        """
        rounding = 16 * np.finfo(rows.dtype).eps if rows.dtype.kind == "f" else 0.0
        wide = rows.astype(np.float64)
        if np.isfinite(wide).all():
            return cls.of_moments(wide.mean(0), wide.std(0), limit, rounding)
        known = np.ma.masked_invalid(wide)
        mean, scale = np.ma.filled(known.mean(0), 0.0), np.ma.filled(known.std(0), 1.0)
        return cls.of_moments(mean, scale, limit, rounding)

    @classmethod
    def of_moments(
        cls,
        mean: NDArray[np.float64],
        scale: NDArray[np.float64],
        limit: float | None = None,
        rounding: float = 0.0,
    ) -> "Transform":
        """From the mean and standard deviation of each entry, which rounding blurs by a share."""
        constant = scale <= max(1e-12, rounding) * np.abs(mean)
        return cls(mean, np.where(constant, 1.0, scale), limit)

    def __call__(self, rows: NDArray[Any]) -> Floats:
        # large numbers close to each other (times, say) differ only in double precision
        wide: NDArray[Any] = rows.astype(np.float32 if rows.dtype == np.uint8 else np.float64)
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
        return moments if self.limit is None else moments | {"limit": self.limit}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Transform":
        shift, scale = (np.asarray(content[key], np.float64) for key in ("shift", "scale"))
        return cls(shift, scale, content.get("limit"))


@dataclass(frozen=True)
class Factor:
    """A further class of each row, beside y.

    Attributes:
        name: what it is of (view, action, ...).
        classes: the classes' names.
        y: (N,) class numbers, -1 where unknown.
    """

    name: str
    classes: tuple[str, ...]
    y: Labels


@dataclass(frozen=True)
class Sequences:
    """Rows that are pieces of sequences, which have one label each.

    Attributes:
        names: (S,) of the sequences.
        of_row: (N,) the number of each row's sequence.
        frames: (S,) each sequence's frames, to find those that stand in two sequences.
        unseen: (S,) number of a person that is no class, -1 for those that are and unknown ones.
        unseen_names: those persons' names.
    """

    names: tuple[str, ...]
    of_row: Labels
    frames: tuple[frozenset[bytes], ...]
    unseen: Labels
    unseen_names: tuple[str, ...]

    def shared_frames(self, some: Labels, others: Labels) -> int:
        """How many different frames stand both in some sequences and in others."""
        mine = set().union(*(self.frames[s] for s in np.unique(some)))
        return len(mine & set().union(*(self.frames[s] for s in np.unique(others))))

    def rows_of(self, sequences: Labels) -> Labels:
        """Numbers of the rows that are of these sequences."""
        return np.flatnonzero(np.isin(self.of_row, sequences))


LIMIT = 6.0
"""Standard deviations that a feature of a skeleton is clipped to: joints that jump are rare, and
far away."""


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
        validation: row numbers of given validation rows, or None to draw them.
        features: from the rows as they are to what is modelled; None: the rows themselves.
        sequences: which sequences the rows are of, where they are pieces of some.
        factors: further classes of each row.
        notes: lines a user should read.
    """

    x: Any
    y: Labels
    classes: tuple[str, ...]
    columns: tuple[str, ...] | None = None
    unit: float | None = None
    test: Labels | None = None
    kept: Labels | None = None
    validation: Labels | None = None
    features: "SkeletonFeatures | None" = None
    sequences: Sequences | None = None
    factors: tuple[Factor, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def row_numbers(self) -> Labels:
        """(N,) the rows' numbers in the file, from 0."""
        return np.arange(len(self.x)) if self.kept is None else self.kept

    @property
    def x_shape(self) -> tuple[int, ...]:
        if self.features is None:
            return tuple(self.x.shape[1:])
        return tuple(self.features.of_arrays(self.x[:1]).shape[1:])

    def described(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows as they are modelled, in the file's units."""
        if self.features is None:
            return rows
        return self.features.of_arrays(rows)

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
        limit = None if self.features is None else LIMIT
        return Transform.standardizing(self.described(self.x[rows]), limit)
