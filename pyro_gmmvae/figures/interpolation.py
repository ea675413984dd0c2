"""From one row to another through the latent space."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.figures.film import Film, there_and_back
from pyro_gmmvae.figures.sheet import Labels, Look, Sheet


def interpolation(
    look: Look,
    ends: NDArray[Any],
    decoded: NDArray[Any],
    shares: Sequence[float],
    names: Sequence[str],
    title: str,
    stills: Sequence[int],
) -> Film:
    """Pairs of rows at the left and right, what is decoded on the way between them.

    Args:
        look: draws the cells.
        ends: (pairs, 2, ...) the rows themselves.
        decoded: (pairs, steps, ...).
        shares: (steps,) of the way, 0 to 1.
        names: of the pairs.
        title: stands above.
        stills: numbers of the steps that the sheet shows; the film shows all.
    """
    steps = decoded[:, list(stills)]
    cells = np.concatenate([ends[:, :1], steps, ends[:, 1:]], 1)
    columns = ["row", *(f"{shares[step]:.0%}" for step in stills), "row"]
    spaces = [1, 1 + len(stills)]
    sheet = Sheet(look, cells, Labels(title, names, columns, spaces))
    middle = np.stack([ends[:, 0], decoded[:, 0], ends[:, 1]], 1)
    film = Sheet(look, middle, Labels(title, names, ["row", "decoded", "row"], [1, 2]))
    frames = (
        np.stack([ends[:, 0], decoded[:, step], ends[:, 1]], 1) for step in range(len(shares))
    )
    return Film(sheet.figure, there_and_back(film, frames))
