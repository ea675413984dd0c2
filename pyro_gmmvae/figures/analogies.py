"""What stays when the class changes: one z per line, one class per column."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_gmmvae.figures.sheet import Labels, Look, Sheet


def analogies(
    look: Look,
    cells: NDArray[Any],
    names: Sequence[str],
    title: str,
    sources: NDArray[Any] | None = None,
) -> Figure:
    """A line per z, a column per class, and the rows that z was taken of at the left.

    Args:
        look: draws the cells.
        cells: (R, K, ...) decoded.
        names: K, of the classes.
        title: stands above.
        sources: (R, ...) the rows; None: z was drawn.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    columns, spaces = list(names), []
    if sources is not None:
        cells = np.concatenate([sources[:, None], cells], 1)
        columns, spaces = ["row", *columns], [1]
    return Sheet(look, cells, Labels(title, columns=columns, spaces=spaces)).figure
