"""What a picture of a run is."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from pyro_gmmvae.figures.film import Film
from pyro_gmmvae.figures.run_view import View


@dataclass(frozen=True)
class Picture:
    """One picture of a run.

    Attributes:
        draw: makes it; raises :class:`~pyro_gmmvae.figures.run_view.NotApplicable` with the reason
            where a run does not have it.
        about: one sentence on what is seen, which is also the text for those who don't see it.
    """

    draw: Callable[[View], Figure | Film]
    about: str
