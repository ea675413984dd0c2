"""What each entry of z does: one entry per line, moved from left to right."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pyro_gmmvae.figures.film import Film, there_and_back
from pyro_gmmvae.figures.sheet import Labels, Look, Sheet


def traversal(
    look: Look,
    cells: NDArray[Any],
    places: Sequence[float],
    entries: Sequence[int],
    title: str,
    moving: NDArray[Any],
    names: Sequence[str],
    moving_title: str,
) -> Film:
    """One class at rest, a line per entry of z; and all classes in motion, a column per entry.

    Args:
        look: draws the cells.
        cells: (entries, places, ...) of one class.
        places: where z stands in a column, in standard deviations.
        entries: their numbers.
        title: above what stands still.
        moving: (frames, classes, entries, ...).
        names: of the classes.
        moving_title: above what moves.
    """
    lines = [f"z{entry}" for entry in entries]
    columns = [f"{place:+g}" if place else "0" for place in places]
    still = Sheet(look, cells, Labels(title, lines, columns))
    film = Sheet(look, moving[0], Labels(moving_title, names, lines))
    return Film(still.figure, there_and_back(film, moving))
