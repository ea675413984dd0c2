"""What components hold: each one's decoded mean, its nearest rows and its least certain ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from pyro_gmmvae.figures.cells import CELL_INCHES, Painter, bare
from pyro_gmmvae.figures.style import cut

COLUMN_TITLES = ("decoded mean", "nearest", "least certain")
GAP_INCHES = 0.3  # between the three parts
CAPTION_INCHES = 0.16
INCHES_PER_LETTER = 0.085
MOST_LETTERS = 24
CAPTION_LETTERS = 12
HEAD_INCHES = 0.62


@dataclass(frozen=True)
class Line:
    """One component: numbers of what a painter draws, with captions.

    Attributes:
        name: of the component.
        component: its number.
        share: of rows that it holds, 0 to 1.
        prototype: number of its decoded mean.
        nearest, uncertain: numbers of rows and what stands below each.
    """

    name: str
    component: int
    share: float
    prototype: int
    nearest: Sequence[tuple[int, str]]
    uncertain: Sequence[tuple[int, str]]


def component_sheet(
    lines: Sequence[Line], paint: Painter, title: str, *, scale: float = 1.0
) -> Figure:
    """One line per component: decoded mean of p(z|s), nearest rows, least certain rows.

    Args:
        lines: the components, in their order from the top.
        paint: draws what the lines' numbers stand for.
        title: above all.
        scale: of the cells; 1 suits small images.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    cell = CELL_INCHES * scale
    widths = [1, *(max(len(part(line)) for line in lines) for part in (_near, _unsure))]
    names = [cut(line.name, MOST_LETTERS) for line in lines]
    left = 0.25 + INCHES_PER_LETTER * max(15, *map(len, names))
    gap = GAP_INCHES / cell
    starts = [0.0, 1 + gap, 1 + gap + widths[1] + gap]
    # the titles of narrow parts need room, too
    wide = max(left + (starts[2] + max(widths[2], 1.6 / scale)) * cell + 0.1, 5.5)
    pitch = cell + CAPTION_INCHES
    high = HEAD_INCHES + len(lines) * pitch + 0.05
    figure = Figure(figsize=(wide, high))
    figure.text(0.1 / wide, 1 - 0.08 / high, title, va="top", fontsize=9, parse_math=False)
    for start, width, text in zip(starts, widths, COLUMN_TITLES, strict=True):
        if width:
            figure.text(
                (left + start * cell) / wide,
                1 - (HEAD_INCHES - 0.06) / high,
                text,
                va="bottom",
                fontsize=7,
                color="#555555",
            )
    for row, (line, name) in enumerate(zip(lines, names, strict=True)):
        top = high - HEAD_INCHES - row * pitch
        middle = (top - cell / 2) / high
        end = (left - 0.12) / wide
        figure.text(end, middle, name, ha="right", va="bottom", fontsize=9, parse_math=False)
        below = middle - 0.04 / high
        about = f"component {line.component}, " if name != f"component_{line.component}" else ""
        figure.text(end, below, f"{about}{line.share:.1%}", ha="right", va="top", fontsize=7)
        cells = [(starts[0], line.prototype, "")]
        cells += [(starts[1] + at, *shown) for at, shown in enumerate(line.nearest)]
        cells += [(starts[2] + at, *shown) for at, shown in enumerate(line.uncertain)]
        for x, number, caption in cells:
            corner = ((left + x * cell) / wide, (top - cell) / high)
            axes = figure.add_axes((*corner, 0.94 * cell / wide, 0.94 * cell / high))
            bare(axes)
            paint(axes, number)
            axes.set_xlabel(
                cut(caption, round(CAPTION_LETTERS * scale)),
                fontsize=5,
                labelpad=1.5,
                color="#555555",
                parse_math=False,
            )
    return figure


def _near(line: Line) -> Sequence[tuple[int, str]]:
    return line.nearest


def _unsure(line: Line) -> Sequence[tuple[int, str]]:
    return line.uncertain
