"""A grid of generated rows, one line per class."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_gmmvae.figures.sheet import Labels, Look, Profiles, Sheet, look_of


def sample_grid(
    draws: NDArray[Any],
    names: Sequence[str],
    features: Sequence[str] | None = None,
    *,
    look: Look | None = None,
    title: str = "",
) -> Figure:
    """Images as pictures, other rows as profiles over their features.

    Each feature of a profile is drawn between its smallest and largest value over all draws.

    Args:
        draws: (classes, n, *x_shape); images are (channels, height, width).
        names: one per class, written at the left.
        features: names of the features of a profile, written below where they are few.
        look: how draws are drawn, where it is another way.
        title: stands above.

    Returns:
        A figure that has no window and no global state (it is not pyplot's).
    """
    look = look or look_of(draws.reshape(-1, *draws.shape[2:]))
    if isinstance(look, Profiles) and features is not None:
        look.name(features)
    return Sheet(look, draws, Labels(title, names)).figure
