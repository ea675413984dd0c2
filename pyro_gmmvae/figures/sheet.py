"""Many rows in lines and columns on one sheet: one artist for all cells, so that it is fast."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_gmmvae.figures.cells import CELL_INCHES, bare, is_image
from pyro_gmmvae.figures.style import (
    BLUE,
    FAINT,
    GRAY,
    INCHES_PER_LETTER,
    SMALL,
    TEXT,
    TITLE,
    cut,
    new_figure,
)

Floats = NDArray[Any]
Update = Callable[[Floats], None]
"""Draws other cells in the place of those that are there."""
Placed = tuple[Artist, Update]
"""What all cells are drawn by, and how it changes."""

SPACE = 0.45  # between groups of lines or columns, in cells
MARGIN = 0.1  # inches
LINE_INCHES = 0.17  # of the title
MOST_LETTERS = 24
TILE_PIXELS = 32  # at least, so that gaps are thin
FEW_FEATURES = 12  # which have a mark each, and names where there is room


class Look(ABC):
    """How rows are drawn into cells; all of a sheet (or film) share one scale."""

    inches: tuple[float, float]  # width and height of a cell
    below = 0.0  # inches that are written on below the last line

    @abstractmethod
    def place(self, axes: Axes, cells: Floats, lefts: Floats, tops: Floats, gap: float) -> Placed:
        """Draw cells into axes whose units are cells, y growing downwards.

        Args:
            axes: where to.
            cells: (R, C, ...) what is drawn.
            lefts: (C,) where the columns begin.
            tops: (R,) where the lines begin.
            gap: between neighbors, a share of a cell.
        """


class Images(Look):
    """Pictures (channels, height, width) on one scale from ``low`` to ``high``."""

    def __init__(self, low: float, high: float, shape: Sequence[int]) -> None:
        self.low, self.span = low, max(high - low, 1e-12)
        height, width = shape[-2:]
        longer = max(height, width)
        self.inches = (CELL_INCHES * width / longer, CELL_INCHES * height / longer)
        self.zoom = -(-TILE_PIXELS // longer)

    def place(self, axes: Axes, cells: Floats, lefts: Floats, tops: Floats, gap: float) -> Placed:
        height, width = (side * self.zoom for side in cells.shape[-2:])
        edge = round(gap * max(height, width))
        ys = np.round(tops * (height + edge)).astype(int)
        xs = np.round(lefts * (width + edge)).astype(int)
        canvas = np.ones((ys[-1] + height + edge, xs[-1] + width + edge, 3))

        def paint(cells: Floats) -> None:
            colors = self._colors(cells)
            for line, y in enumerate(ys):
                for column, x in enumerate(xs):
                    canvas[y : y + height, x : x + width] = colors[line, column]

        paint(cells)
        extent = (0.0, lefts[-1] + 1.0, tops[-1] + 1.0, 0.0)
        shown = axes.imshow(canvas, extent=extent, aspect="auto", interpolation="nearest")

        def update(cells: Floats) -> None:
            paint(cells)
            shown.set_data(canvas)

        return shown, update

    def _colors(self, cells: Floats) -> Floats:
        """(R, C, height, width, 3 or 1), enlarged; gray is dark where the value is high."""
        scaled = ((np.nan_to_num(cells) - self.low) / self.span).clip(0, 1)
        scaled = np.moveaxis(scaled, 2, -1)[..., :3]
        if scaled.shape[-1] == 1:
            scaled = 1 - scaled
        return scaled.repeat(self.zoom, 2).repeat(self.zoom, 3)


class Profiles(Look):
    """Lines over the features, each between its lowest and highest value; NaN is a gap."""

    inches = (2 * CELL_INCHES, 1.5 * CELL_INCHES)

    def __init__(self, rows: Floats) -> None:
        known = np.ma.masked_invalid(rows.reshape(len(rows), -1).astype(np.float64))
        self.lowest, highest = (np.ma.filled(edge, 0.0) for edge in (known.min(0), known.max(0)))
        self.span = np.where(highest > self.lowest, highest - self.lowest, 1)
        self.names: tuple[str, ...] = ()

    def name(self, features: Sequence[str]) -> None:
        """Write the features' names below, where they are few."""
        if len(features) <= FEW_FEATURES:
            self.names = tuple(cut(feature, MOST_LETTERS) for feature in features)
            self.below = 0.1 + INCHES_PER_LETTER * 0.8 * max(map(len, self.names))

    def place(self, axes: Axes, cells: Floats, lefts: Floats, tops: Floats, gap: float) -> Placed:
        features = len(self.lowest)
        margin = gap + 0.06
        along = np.linspace(margin, 1 - margin, features) if features > 1 else np.array([0.5])
        line_ends = np.concatenate([along, [np.nan]])
        xs = np.broadcast_to(
            lefts[None, :, None] + line_ends, (len(tops), len(lefts), features + 1)
        )

        def heights(cells: Floats) -> Floats:
            flat = cells.reshape(*cells.shape[:2], -1).astype(np.float64)
            shares = ((flat - self.lowest) / self.span).clip(-0.05, 1.05)
            ys = tops[:, None, None] + 0.9 - 0.8 * shares
            return np.concatenate([ys, np.full((*ys.shape[:2], 1), np.nan)], -1).ravel()

        grounds = [[(x + gap, y + 0.93), (x + 1 - gap, y + 0.93)] for y in tops for x in lefts]
        axes.add_collection(LineCollection(grounds, colors=FAINT, linewidths=0.5), autolim=False)
        for left in lefts:
            for place, name in zip(along, self.names, strict=False):
                axes.text(
                    left + place,
                    tops[-1] + 1.02,
                    name,
                    rotation=90,
                    ha="center",
                    va="top",
                    fontsize=6,
                    color=GRAY,
                    parse_math=False,
                )
        (line,) = axes.plot(
            xs.ravel(),
            heights(cells),
            color=BLUE,
            linewidth=0.9,
            marker="." if features <= FEW_FEATURES else "",
            markersize=3,
        )

        def update(cells: Floats) -> None:
            line.set_ydata(heights(cells))

        return line, update


class Poses(Look):
    """Stick figures (joints, 2), NaN where a joint is missing, all in one unit of length.

    Args:
        rows: (N, joints, 2), all that is drawn, for the scale.
        edges: bones, as pairs of joint numbers.
        y_down: whether y grows downwards, as in a picture.
    """

    def __init__(
        self, rows: Floats, edges: Sequence[tuple[int, int]], *, y_down: bool = True
    ) -> None:
        self.bones = np.array(edges, int).reshape(-1, 2)
        self.sign = np.array([1.0, 1.0 if y_down else -1.0])
        points = self.sign * rows.reshape(-1, 2).astype(np.float64)
        points = points[np.isfinite(points).all(1)]
        # a few wild joints shall not make everybody small
        edges_of = np.percentile(points, (0.5, 99.5), axis=0) if len(points) else np.zeros((2, 2))
        low, high = edges_of
        self.middle, self.size = (low + high) / 2, max(float((high - low).max()), 1e-6)
        narrow = float(np.clip((high - low)[0] / self.size + 0.15, 0.5, 1.0))
        self.inches = (2 * CELL_INCHES * narrow, 2 * CELL_INCHES)
        self.narrow = narrow

    def place(self, axes: Axes, cells: Floats, lefts: Floats, tops: Floats, gap: float) -> Placed:
        corner = np.stack(np.meshgrid(lefts, tops), -1)[:, :, None]  # (R, C, 1, 2)

        def joints(cells: Floats) -> Floats:
            share = (0.9 - gap) * (self.sign * cells - self.middle) / self.size
            return corner + 0.5 + share / np.array([self.narrow, 1.0])

        def segments(cells: Floats) -> list[Floats]:
            lines = joints(cells)[:, :, self.bones].reshape(-1, 2, 2)
            return list(lines[np.isfinite(lines).all((1, 2))])

        lines = LineCollection(segments(cells), colors=BLUE, linewidths=1.3, capstyle="round")
        axes.add_collection(lines, autolim=False)
        return lines, lambda cells: lines.set_segments(segments(cells))


def look_of(rows: Floats) -> Look:
    """Images or profiles, as rows (N, *x_shape) are."""
    if is_image(rows.shape[1:]):
        return Images(float(np.nanmin(rows)), float(np.nanmax(rows)), rows.shape[1:])
    return Profiles(rows)


@dataclass(frozen=True)
class Labels:
    """What is written around cells, and where there is more room between them.

    Attributes:
        title: above all; line breaks are kept.
        lines: one per line, at the left; none: nothing.
        columns: one per column, above it.
        spaces: numbers of the columns before which there is space.
    """

    title: str
    lines: Sequence[str] = ()
    columns: Sequence[str] = ()
    spaces: Sequence[int] = ()


class Sheet:
    """Cells in lines and columns with their labels.

    Args:
        look: draws them.
        cells: (R, C, ...) what is drawn.
        labels: what is written around.
        gap: between neighbors, a share of a cell.

    Attributes:
        figure: has no window and no global state (it is not pyplot's).
        axes: the only ones of the figure.
        artist: what all cells are drawn by.
    """

    def __init__(self, look: Look, cells: Floats, labels: Labels, *, gap: float = 0.06) -> None:
        lines, columns = cells.shape[:2]
        lefts = np.arange(columns) + SPACE * sum(
            (np.arange(columns) >= start for start in labels.spaces), np.zeros(columns)
        )
        tops = np.arange(lines, dtype=float)
        width, height = look.inches
        across, down = (lefts[-1] + 1) * width, lines * height
        names = [cut(name, MOST_LETTERS) for name in labels.lines]
        left = MARGIN + INCHES_PER_LETTER * max(map(len, names), default=0) + 0.08 * bool(names)
        above = [cut(name, MOST_LETTERS) for name in labels.columns]
        longest = max((len(line) for name in above for line in name.split("\n")), default=0)
        turned = INCHES_PER_LETTER * longest > width
        head = INCHES_PER_LETTER * longest if turned else 0.15 * bool(above)
        title = labels.title.split("\n")
        letters = max(map(len, title))
        head += 0.06 * bool(above)
        title_inches = (LINE_INCHES * len(title) + 0.08) * bool(labels.title)
        wide = max(left + across + MARGIN, 2 * MARGIN + 0.9 * INCHES_PER_LETTER * letters)
        foot = MARGIN + look.below
        high = title_inches + MARGIN + head + down + foot
        self.figure: Figure = new_figure(wide, high, constrained=False)
        self.figure.text(
            MARGIN / wide,
            1 - MARGIN / high,
            title[0],
            va="top",
            fontsize=TITLE,
            parse_math=False,
        )
        self.figure.text(
            MARGIN / wide,
            1 - (MARGIN + LINE_INCHES) / high,
            "\n".join(title[1:]),
            va="top",
            fontsize=SMALL,
            color=GRAY,
            parse_math=False,
        )
        axes = self.figure.add_axes((left / wide, foot / high, across / wide, down / high))
        axes.set(xlim=(0, lefts[-1] + 1), ylim=(lines, 0))
        self.axes = axes
        self.artist, self._update = look.place(axes, cells, lefts, tops, gap)
        bare(axes)
        axes.set(xlim=(0, lefts[-1] + 1), ylim=(lines, 0))
        axes.tick_params(length=0, pad=3)
        axes.xaxis.tick_top()
        if names:
            axes.set_yticks(tops + 0.5, names, fontsize=TEXT, parse_math=False)
        if above:
            axes.set_xticks(
                lefts + 0.5, above, fontsize=SMALL, rotation=90 if turned else 0, parse_math=False
            )

    def show(self, cells: Floats) -> None:
        """Draw other cells in the same places."""
        self._update(cells)
