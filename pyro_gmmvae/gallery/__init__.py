"""The gallery: every picture that can be drawn of a run, by the stem of its file."""

from collections.abc import Iterable, Iterator

from matplotlib.figure import Figure

from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.figures.film import Film
from pyro_gmmvae.gallery.components import draw_components, draw_entropy
from pyro_gmmvae.gallery.picture import Picture
from pyro_gmmvae.gallery.view import NotApplicable, View

PICTURES: dict[str, Picture] = {
    "components": Picture(
        draw_components,
        "A line per component in use: its decoded mean, its nearest rows (highest q(s|x), then "
        "closest in z) and its least certain ones.",
    ),
    "entropy": Picture(
        draw_entropy, "Entropy of q(s|x) over rows, and its mean over the rows of each component."
    ),
}


def draw_all(
    view: View, only: Iterable[str] | None = None
) -> Iterator[tuple[str, Figure | Film | str]]:
    """Draw pictures one after the other.

    Args:
        view: of the run.
        only: stems of the pictures to draw; None: all.

    Yields:
        The stem, and the picture or, where the run does not have it, the reason.

    Raises:
        GMMVAEError: an unknown stem.
    """
    names = list(PICTURES) if only is None else list(only)
    for name in names:
        if name not in PICTURES:
            raise unknown_name("picture", name, list(PICTURES))
    for name in names:
        try:
            yield name, PICTURES[name].draw(view)
        except GMMVAEError as reason:
            yield name, str(reason)


__all__ = ["PICTURES", "Film", "NotApplicable", "Picture", "View", "draw_all"]
