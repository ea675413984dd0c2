"""Pages of cells in lines and columns, with labels around them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_gmmvae.figures.cell_renderer import GAP, MAX_LETTERS, Array, CellRenderer, Drawn
from pyro_gmmvae.figures.style import GRAY, INCHES_PER_LETTER, SMALL, TEXT, TITLE, cut, new_figure

SPACE = 0.45  # before a group of columns, in cells
MARGIN = 0.1  # inches
LINE_INCHES = 0.17  # of the title
CAPTION = 5.5  # points
CAPTION_INCHES = 0.095  # a line of a caption
HEADING_INCHES = 0.22


@dataclass(frozen=True)
class SheetLabels:
    """Texts around cells, and where columns are apart.

    Attributes:
        title: above the cells; line breaks are kept.
        lines: at the left of each line of cells; empty: no labels.
        columns: above each column.
        groups: first column and heading of each group of columns.
        captions: below each line of cells, a text per column; "" is no caption.
    """

    title: str
    lines: Sequence[str] = ()
    columns: Sequence[str] = ()
    groups: Sequence[tuple[int, str]] = ()
    captions: Sequence[Sequence[str]] = ()


class Sheet:
    """A page of cells with their labels.

    Args:
        renderer: draws the rows.
        shape: numbers of lines and columns.
        labels: around the cells.
        scale: of cells beside their usual size.

    Attributes:
        figure: has no window and no global state (it is not pyplot's).
        axes: the only ones of the figure; their unit is a cell, y growing downwards.
        corners: (lines, columns, 2) upper left corners of the cells.
    """

    def __init__(
        self,
        renderer: CellRenderer,
        shape: tuple[int, int],
        labels: SheetLabels,
        *,
        scale: float = 1.0,
    ) -> None:
        self.renderer = renderer
        lines, columns = shape
        width, height = (scale * side for side in renderer.inches)
        lefts = _lefts(columns, labels.groups, width)
        tops, bottom = _tops(lines, labels.captions, height)
        self.corners = np.stack(np.meshgrid(lefts, tops), -1)
        across, down = (lefts[-1] + 1) * width, bottom * height
        names = ["\n".join(cut(part, MAX_LETTERS) for part in n.split("\n")) for n in labels.lines]
        left = MARGIN + INCHES_PER_LETTER * _longest(names) + 0.08 * bool(names)
        above = [cut(name, MAX_LETTERS) for name in labels.columns]
        is_turned = INCHES_PER_LETTER * _longest(above) > width
        head = INCHES_PER_LETTER * _longest(above) if is_turned else 0.15 * bool(above)
        head += 0.06 * bool(above)
        has_headings = any(heading for _, heading in labels.groups)
        title_inches = (LINE_INCHES * (labels.title.count("\n") + 1) + 0.08) * bool(labels.title)
        wide = max(left + across + MARGIN, _width_of(labels.title))
        if has_headings:  # the last one may be wider than its cells
            start, heading = labels.groups[-1]
            wide = max(wide, left + lefts[start] * width + INCHES_PER_LETTER * len(heading))
        foot = MARGIN + renderer.foot
        high = title_inches + MARGIN + HEADING_INCHES * has_headings + head + down + foot
        self.figure = page(wide, high, labels.title)
        self.axes = self.figure.add_axes((left / wide, foot / high, across / wide, down / high))
        self._limits = {"xlim": (0, lefts[-1] + 1), "ylim": (bottom, 0)}
        bare(self.axes)
        self.axes.set(**self._limits)
        self.axes.tick_params(length=0, pad=3)
        self.axes.xaxis.tick_top()
        if names:
            self.axes.set_yticks(tops + 0.5, names, fontsize=TEXT, parse_math=False)
        if above:
            rotation = 90 if is_turned else 0
            self.axes.set_xticks(
                lefts + 0.5, above, fontsize=SMALL, rotation=rotation, parse_math=False
            )
        for start, heading in labels.groups:
            x = (left + lefts[start] * width) / wide
            y = (foot + down + head + 0.05) / high
            self.figure.text(x, y, heading, va="bottom", fontsize=SMALL, color=GRAY)
        self._write_captions(
            labels.captions, max(1, int(width / INCHES_PER_LETTER * TEXT / CAPTION))
        )

    def draw(self, rows: Array, corners: Array, gap: float = GAP) -> Drawn:
        """Draw rows (N, *x_shape) into cells with some of ``corners``, (N, 2)."""
        drawn = self.renderer.draw(self.axes, rows, corners, gap)
        self.axes.set(**self._limits)
        return drawn

    def _write_captions(self, captions: Sequence[Sequence[str]], letters: int) -> None:
        for texts, corners in zip(captions, self.corners, strict=bool(captions)):
            for text, (x, y) in zip(texts, corners, strict=False):
                self.axes.text(
                    x + 0.5,
                    y + 1.02,
                    "\n".join(cut(part, letters) for part in text.split("\n")),
                    ha="center",
                    va="top",
                    fontsize=CAPTION,
                    color=GRAY,
                    linespacing=1.1,
                    parse_math=False,
                )


class Grid(Sheet):
    """A sheet with a row in every cell.

    Args:
        renderer: draws the rows.
        cells: (lines, columns, *x_shape) rows in the file's units.
        labels: around the cells.
    """

    def __init__(self, renderer: CellRenderer, cells: Array, labels: SheetLabels) -> None:
        super().__init__(renderer, (cells.shape[0], cells.shape[1]), labels)
        self.drawn = self.draw(_flat(cells), self.corners.reshape(-1, 2))
        renderer.label_features(self.axes, self.corners[0, :, 0], len(cells))

    def update(self, cells: Array) -> None:
        """Draw other rows into the same cells."""
        self.drawn.update(_flat(cells))


def page(width: float, height: float, title: str) -> Figure:
    """A figure of a size in inches with a title at the upper left; its first line is larger."""
    figure = new_figure(width, height, constrained=False)
    first, _, rest = title.partition("\n")
    for text, down, size, color in (
        (first, 0.0, TITLE, "black"),
        (rest, LINE_INCHES, SMALL, GRAY),
    ):
        figure.text(
            MARGIN / width,
            1 - (MARGIN + down) / height,
            text,
            va="top",
            fontsize=size,
            color=color,
            parse_math=False,
        )
    return figure


def bare(axes: Axes) -> None:
    """Remove ticks and frame."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _lefts(columns: int, groups: Sequence[tuple[int, str]], width: float) -> Array:
    """x of each column, in cells; a group begins where the heading before it ends."""
    spaces = np.zeros(columns)
    for (start, heading), (end, _) in itertools.pairwise(groups):
        letters = INCHES_PER_LETTER * (len(heading) + 1) / width
        spaces[end:] += max(SPACE, letters - (end - start)) if heading else SPACE
    return np.arange(columns) + spaces


def _tops(lines: int, captions: Sequence[Sequence[str]], height: float) -> tuple[Array, float]:
    """y of each line and of the end of the last, in cells of a height in inches."""
    below = np.zeros(lines)
    for line, texts in enumerate(captions):
        if any(texts):
            most = max(text.count("\n") + 1 for text in texts)
            below[line] = (CAPTION_INCHES * most + 0.06) / height
    ends = np.cumsum(1 + below)
    return np.concatenate([[0.0], ends[:-1]]), float(ends[-1])


def _longest(texts: Sequence[str]) -> int:
    """Letters of the longest line."""
    return max((len(line) for text in texts for line in text.split("\n")), default=0)


def _width_of(title: str) -> float:
    return 2 * MARGIN + 0.9 * INCHES_PER_LETTER * _longest([title])


def _flat(cells: Array) -> Array:
    return cells.reshape(-1, *cells.shape[2:])
