"""A picture that moves: a sheet that stands still, and the same as a GIF."""

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Film:
    """A sheet to print, and a GIF to watch.

    Attributes:
        sheet: the figure that stands still.
        gif: the bytes of a GIF file.
    """

    sheet: Figure
    gif: bytes
