"""Renderers of data rows into cells: images, profiles over features, and skeletons.

A cell is the unit square, y growing downwards. All rows of a page share the scale of their
renderer, and one matplotlib artist draws all cells, which is fast.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from pyro_gmmvae.data.kinds import RowKind
from pyro_gmmvae.figures.style import BLUE, FAINT, GRAY, INCHES_PER_LETTER, cut

Array = NDArray[Any]

CELL_INCHES = 0.55
GAP = 0.06  # between neighbors, a share of a cell
MIN_TILE_PIXELS = 32  # so that gaps between small images are thin
MAX_LABELED_FEATURES = 12  # with a marker each, and names below the cells
MAX_LETTERS = 24
MISSING_COLOR = (0.81, 0.89, 0.95)  # of a pixel; neither black, gray nor white
EXTENT = (0.5, 99.5)  # percentiles: a few outlying joints must not make every skeleton small


@dataclass(frozen=True)
class Drawn:
    """Cells on a page.

    Attributes:
        artist: draws all of them.
        update: draws other rows into the same cells.
    """

    artist: Artist
    update: Callable[[Array], None]


class CellRenderer(ABC):
    """Draws rows into cells on one scale.

    Attributes:
        inches: width and height of a cell.
        foot: inches that feature names take below the last line of cells.
    """

    inches: tuple[float, float]
    foot = 0.0

    @abstractmethod
    def draw(self, axes: Axes, rows: Array, corners: Array, gap: float = GAP) -> Drawn:
        """Draw rows into axes whose unit is a cell.

        Args:
            axes: y grows downwards.
            rows: (N, *x_shape) in the file's units.
            corners: (N, 2) upper left corners x, y of their cells.
            gap: between neighbors, a share of a cell.
        """

    def label_features(  # noqa: B027 - most rows have no feature names
        self, axes: Axes, lefts: Array, top: float, gap: float = GAP
    ) -> None:
        """Write feature names, if there are any, below the columns of cells at ``lefts``."""


class ImageCells(CellRenderer):
    """Images (channels, height, width), or series (frames, ...) with frames from left to right.

    High values of one channel are dark. Channels that are not colors stand side by side. Each
    entry of a series has a scale of its own, and its colors are those of viridis.

    Args:
        rows: (N, *x_shape) whose values range over the scale.
        series: whether the first axis of a row counts frames.
    """

    def __init__(self, rows: Array, *, series: bool = False) -> None:
        self.series = series
        self.low: Array | float
        self.span: Array | float
        if series:
            self.low, self.span = value_range(rows.reshape(-1, int(np.prod(rows.shape[2:]))), 0)
        else:
            low, span = value_range(rows, None)
            self.low, self.span = float(low), float(span)
        height, width = self.pixels(rows[:1]).shape[1:3]
        longer = max(height, width)
        self.inches = (CELL_INCHES * width / longer, CELL_INCHES * height / longer)
        if series:
            self.inches = (2 * CELL_INCHES, 1.5 * CELL_INCHES)

    def pixels(self, rows: Array) -> Array:
        """Rows (N, *x_shape) as shares of the scale, 0 to 1.

        Returns:
            (N, H, W), or (N, H, W, 3 or 4) for colors; NaN where an entry is missing.
        """
        if self.series:
            frames = rows.reshape(len(rows), rows.shape[1], -1)
            return ((frames - self.low) / self.span).clip(0, 1).swapaxes(1, 2)
        shares = ((rows - self.low) / self.span).clip(0, 1)
        if rows.shape[1] in (3, 4):
            return np.moveaxis(shares, 1, -1)
        return np.concatenate(list(shares.swapaxes(0, 1)), -1)

    def colors(self, rows: Array) -> Array:
        """Rows (N, *x_shape) as RGB colors (N, H, W, 3), 0 to 1.

        Missing entries of a series are white, and those of an image light blue.
        """
        pixels = self.pixels(rows)
        if self.series:
            colors = colormaps["viridis"](pixels)[..., :3]
            return np.where(np.isnan(pixels)[..., None], 1.0, colors)
        colors = pixels[..., :3] if pixels.ndim == 4 else (1 - pixels[..., None]).repeat(3, -1)
        return np.where(np.isnan(colors).any(-1, keepdims=True), MISSING_COLOR, colors)

    def draw(self, axes: Axes, rows: Array, corners: Array, gap: float = GAP) -> Drawn:
        tiles = Tiles(self.colors(rows), corners, gap, blank=1.0)
        image = axes.imshow(
            tiles.canvas, extent=tiles.extent, aspect="auto", interpolation="nearest"
        )

        def update(rows: Array) -> None:
            tiles.paint(self.colors(rows))
            image.set_data(tiles.canvas)

        return Drawn(image, update)


class Tiles:
    """Small images side by side on one canvas.

    Args:
        images: (N, H, W) or (N, H, W, 3).
        corners: (N, 2) upper left corners x, y, in cells.
        gap: between neighbors, a share of the longer side.
        blank: the value of the canvas between them.

    Attributes:
        canvas: what matplotlib draws.
        extent: left, right, bottom and top of the canvas, in cells.
    """

    def __init__(self, images: Array, corners: Array, gap: float, *, blank: float) -> None:
        self._zoom = -(-MIN_TILE_PIXELS // max(images.shape[1:3]))
        self._height, self._width = (side * self._zoom for side in images.shape[1:3])
        edge = round(gap * max(self._height, self._width))
        (left, top), (right, bottom) = corners.min(0), corners.max(0) + 1
        self._ys = np.round((corners[:, 1] - top) * (self._height + edge)).astype(int)
        self._xs = np.round((corners[:, 0] - left) * (self._width + edge)).astype(int)
        shape = (self._ys.max() + self._height + edge, self._xs.max() + self._width + edge)
        self.canvas = np.full((*shape, *images.shape[3:]), blank)
        self.extent = (float(left), float(right), float(bottom), float(top))
        self.paint(images)

    def paint(self, images: Array) -> None:
        """Draw images (N, ...) into the places of those before."""
        enlarged = images.repeat(self._zoom, 1).repeat(self._zoom, 2)
        for image, y, x in zip(enlarged, self._ys, self._xs, strict=True):
            self.canvas[y : y + self._height, x : x + self._width] = image


class ProfileCells(CellRenderer):
    """Lines over features, each between its lowest and highest value; NaN is a gap.

    Args:
        rows: (N, *x_shape) whose values range over the scale.
        names: of the features, written below the cells if they are few; None: no names.
    """

    inches = (2 * CELL_INCHES, 1.5 * CELL_INCHES)

    def __init__(self, rows: Array, names: Sequence[str] | None = None) -> None:
        self.low, self.span = value_range(rows.reshape(len(rows), -1), 0)
        self.names: tuple[str, ...] = ()
        if names is not None and len(names) <= MAX_LABELED_FEATURES:
            self.names = tuple(cut(name, MAX_LETTERS) for name in names)
            self.foot = 0.1 + INCHES_PER_LETTER * 0.8 * max(map(len, self.names))

    def across(self, gap: float = GAP) -> Array:
        """(D,) x of each feature in a cell."""
        margin = gap + 0.06
        features = len(self.low)
        return np.linspace(margin, 1 - margin, features) if features > 1 else np.array([0.5])

    def lines(self, rows: Array, gap: float = GAP) -> Array:
        """Rows (N, *x_shape) as points (N, D, 2) in cells; y is NaN for missing entries."""
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        shares = ((flat - self.low) / self.span).clip(-0.05, 1.05)
        ys = 0.9 - 0.8 * shares
        return np.stack([np.broadcast_to(self.across(gap), ys.shape), ys], -1)

    def draw(self, axes: Axes, rows: Array, corners: Array, gap: float = GAP) -> Drawn:
        base_line(axes, corners, 0.93, gap)

        def points(rows: Array) -> Array:
            lines = corners[:, None] + self.lines(rows, gap)
            return np.concatenate([lines, np.full((len(lines), 1, 2), np.nan)], 1).reshape(-1, 2)

        is_short = len(self.low) <= MAX_LABELED_FEATURES
        marker = "." if is_short else ""
        (line,) = axes.plot(*points(rows).T, color=BLUE, linewidth=0.9, marker=marker, markersize=3)
        return Drawn(line, lambda rows: line.set_data(*points(rows).T))

    def label_features(self, axes: Axes, lefts: Array, top: float, gap: float = GAP) -> None:
        for left in lefts:
            for place, name in zip(self.across(gap), self.names, strict=False):
                axes.text(
                    left + place,
                    top + 0.02,
                    name,
                    rotation=90,
                    ha="center",
                    va="top",
                    fontsize=6,
                    color=GRAY,
                    parse_math=False,
                )


class SkeletonCells(CellRenderer):
    """Stick figures, all in one unit of length; bones with a missing joint are left out.

    Args:
        rows: (N, *x_shape) that are drawn, for the scale.
        poses: (N, *x_shape) -> (N, T, joints, 2 or more) joint positions.
        edges: bones, as pairs of joint numbers.
        y_down: whether y grows downwards, as in an image.
    """

    def __init__(
        self,
        rows: Array,
        poses: Callable[[Array], Array],
        edges: Sequence[tuple[int, int]],
        *,
        y_down: bool = True,
    ) -> None:
        self.poses = poses
        self.edges = np.array(edges, int).reshape(-1, 2)
        self._sign = np.array([1.0, 1.0 if y_down else -1.0])
        points = self._sign * self.middle_frame(rows).reshape(-1, 2).astype(np.float64)
        points = points[np.isfinite(points).all(1)]
        low, high = np.percentile(points, EXTENT, axis=0) if len(points) else np.zeros((2, 2))
        self._middle, self._size = (low + high) / 2, max(float((high - low).max()), 1e-6)
        narrow = float(np.clip((high - low)[0] / self._size + 0.15, 0.5, 1.0))
        self._shape = np.array([narrow, 1.0])
        self.inches = (2 * CELL_INCHES * narrow, 2 * CELL_INCHES)

    def middle_frame(self, rows: Array) -> Array:
        """(N, joints, 2) positions in the middle frame of rows (N, *x_shape)."""
        poses = self.poses(rows)
        return poses[:, poses.shape[1] // 2, :, :2]

    def joints(self, positions: Array, gap: float = GAP) -> Array:
        """Positions (..., joints, 2) in the file's units as places in a cell."""
        share = (0.9 - gap) * (self._sign * positions - self._middle) / self._size
        return 0.5 + share / self._shape

    def bones(self, positions: Array, gap: float = GAP) -> Array:
        """Positions (..., joints, 2) as segments (..., bones, 2 ends, 2) in a cell, or NaN."""
        segments = self.joints(positions, gap)[..., self.edges, :]
        return np.where(np.isfinite(segments).all((-2, -1), keepdims=True), segments, np.nan)

    def draw(self, axes: Axes, rows: Array, corners: Array, gap: float = GAP) -> Drawn:
        def segments(rows: Array) -> list[Array]:
            return placed(self.bones(self.middle_frame(rows), gap), corners)

        bones = LineCollection(segments(rows), colors=BLUE, linewidths=1.3, capstyle="round")
        axes.add_collection(bones, autolim=False)
        return Drawn(bones, lambda rows: bones.set_segments(segments(rows)))


def renderer_of(kind: RowKind, *blocks: Array) -> CellRenderer:
    """The renderer for rows of a kind.

    Args:
        kind: of the rows.
        blocks: (..., *x_shape) all that will be drawn, in the file's units; they share one scale.
    """
    rows = np.concatenate([block.reshape(-1, *kind.x_shape) for block in blocks])
    if kind.drawing == "skeleton":
        return SkeletonCells(rows, kind.poses, kind.edges, y_down=kind.y_down)
    if kind.drawing == "profile":
        return ProfileCells(rows, kind.columns)
    return ImageCells(rows, series=kind.drawing == "series")


def value_range(values: Array, axis: int | None) -> tuple[Array, Array]:
    """Lowest value and range over an axis, of finite values; the range is 1 where it would be 0."""
    finite = np.ma.masked_invalid(values if axis is None else values.astype(np.float64))
    low, high = (np.ma.filled(edge, 0.0) for edge in (finite.min(axis), finite.max(axis)))
    return low, np.where(high > low, high - low, 1)


def base_line(axes: Axes, corners: Array, height: float, gap: float = GAP) -> None:
    """A faint horizontal line through each cell."""
    ends = np.array([(gap, height), (1 - gap, height)])
    lines = LineCollection(list(corners[:, None] + ends), colors=FAINT, linewidths=0.5)
    axes.add_collection(lines, autolim=False)


def placed(segments: Array, corners: Array) -> list[Array]:
    """Segments (N, M, 2 ends, 2) in cells at ``corners`` (N, 2); those with NaN are left out."""
    lines = (segments + corners[:, None, None]).reshape(-1, 2, 2)
    return list(lines[np.isfinite(lines).all((1, 2))])
