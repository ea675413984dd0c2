"""What a row looks like: pixels, a profile over its features, or a moving skeleton."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pyro_gmmvae.runs.data import Schema

Array = np.ndarray[Any, Any]
EXTENT = (0.5, 99.5)  # percentiles: a few wild joints shall not make everybody small


class Pictures(Protocol):
    """Draws rows in the model's units."""

    def __call__(self, rows: Array) -> Array: ...


@dataclass(frozen=True)
class Images:
    """(N, *x_shape) -> (N, H, W), grays from 0 to 1 or RGBA colors as uint32.

    Channels that are neither gray nor colors stand side by side; series are a line per entry.

    Attributes:
        schema: of the run.
        low, high: what is drawn as 0 and 1, in the file's units.
        frames: whether columns are frames of a series.
    """

    schema: Schema
    low: float
    high: float
    frames: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        picture = self(np.zeros((1, *self.schema.kind.x_shape)))
        return picture.shape[1], picture.shape[2]

    def __call__(self, rows: Array) -> Array:
        values = self.schema.transform.invert(rows)
        values = ((values - self.low) / max(self.high - self.low, 1e-12)).clip(0, 1)
        values = values.astype(np.float32)
        if self.frames:
            return values.reshape(len(values), values.shape[1], -1).swapaxes(1, 2)
        if values.shape[1] in (3, 4):
            return _rgba(np.moveaxis(values, 1, -1))
        return np.concatenate(list(values.swapaxes(0, 1)), -1)


@dataclass(frozen=True)
class Profiles:
    """(N, *x_shape) -> (N, D), in the model's units.

    Attributes:
        schema: of the run.
        names: (D,) of the entries.
        low, high: of what is drawn.
    """

    schema: Schema
    names: tuple[str, ...]
    low: float
    high: float

    @property
    def unit(self) -> str:
        """What the values are counted in."""
        if self.schema.kind.likelihood == "bernoulli":
            return "probability"
        return "s.d. from the training rows' mean"

    def __call__(self, rows: Array) -> Array:
        return rows.reshape(len(rows), -1).astype(np.float64)

    def in_file_units(self, rows: Array) -> Array:
        """(N, D) as the file has them."""
        values = self.schema.transform.invert(rows)
        return values.reshape(len(values), -1).astype(np.float64)


@dataclass(frozen=True)
class Poses:
    """(N, *x_shape) -> (N, T, J, 2), NaN where a joint is missing; T is 1 for a mean pose.

    Attributes:
        schema: of the run.
        low, high: (2,) corners of what is drawn.
    """

    schema: Schema
    low: Array
    high: Array

    @property
    def edges(self) -> list[tuple[int, int]]:
        return list(self.schema.kind.edges)

    @property
    def y_down(self) -> bool:
        """Whether y grows downwards, as in a picture; of 3-D skeletons the front is seen."""
        return self.schema.kind.y_down

    def __call__(self, rows: Array) -> Array:
        return _poses(self.schema, rows)

    def lines(self, poses: Array) -> tuple[Array, Array]:
        """x and y (T, E, 2) of the bones of poses (T, J, 2); a bone with a missing end is NaN."""
        bones = poses[:, np.array(self.edges, int).reshape(-1, 2)]
        bones = np.where(np.isfinite(bones).all((2, 3), keepdims=True), bones, np.nan)
        return bones[..., 0], bones[..., 1]


AnyPictures = Images | Profiles | Poses


def pictures_of(schema: Schema, rows: Array) -> AnyPictures:
    """How rows of this kind are drawn, on one scale.

    Args:
        schema: of the run.
        rows: (N, *x_shape) some of the data, in the model's units.
    """
    if schema.kind.drawing == "skeleton":
        return Poses(schema, *_extent(_poses(schema, rows).reshape(-1, 2)))
    if len(schema.kind.x_shape) > 1:
        return _images(schema, rows)
    low, high = 0.0, 1.0
    if schema.kind.likelihood != "bernoulli":
        low, high = (float(edge) for edge in np.nanpercentile(rows, EXTENT))
        margin = 0.1 * (high - low) + 1e-6
        low, high = low - margin, high + margin
    return Profiles(schema, schema.kind.entry_names, low, high)


def _images(schema: Schema, rows: Array) -> Images:
    """Probabilities have ends of their own; other rows, those of the data."""
    if schema.kind.likelihood == "bernoulli":
        rows = np.stack([np.zeros_like(rows[0]), np.ones_like(rows[0])])
    ends = schema.transform.invert(rows)
    frames = schema.kind.drawing == "series"
    return Images(schema, float(np.nanmin(ends)), float(np.nanmax(ends)), frames)


def _poses(schema: Schema, rows: Array) -> Array:
    return schema.kind.poses(schema.transform.invert(rows))[..., :2].astype(np.float64)


def _extent(points: Array) -> tuple[Array, Array]:
    points = points[np.isfinite(points).all(-1)]
    if not len(points):
        return np.zeros(2), np.ones(2)
    low, high = np.percentile(points, EXTENT, axis=0)
    margin = 0.08 * max(float((high - low).max()), 1e-6)
    return low - margin, high + margin


def _rgba(pixels: Array) -> Array:
    """(N, H, W, 3 or 4) from 0 to 1 -> (N, H, W) uint32 of bytes R, G, B, A."""
    if pixels.shape[-1] == 3:
        pixels = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)
    colors = np.ascontiguousarray((pixels * 255).round().astype(np.uint8))
    return colors.view(np.uint32)[..., 0]
