"""The gallery: every picture that can be drawn of a run, by the stem of its file."""

from collections.abc import Iterable, Iterator

from matplotlib.figure import Figure

from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.figures.classification import draw_confusion, draw_reliability
from pyro_gmmvae.figures.components import draw_components, draw_entropy
from pyro_gmmvae.figures.film import Film
from pyro_gmmvae.figures.latent_space import (
    draw_analogies,
    draw_interpolation,
    draw_manifold,
    draw_samples,
    draw_traversal,
)
from pyro_gmmvae.figures.picture import Picture
from pyro_gmmvae.figures.run_history import draw_training
from pyro_gmmvae.figures.run_reconstructions import draw_reconstructions
from pyro_gmmvae.figures.run_scatter import draw_latent
from pyro_gmmvae.figures.run_view import NotApplicable, View

PICTURES: dict[str, Picture] = {
    "training": Picture(
        draw_training,
        "ELBO, reconstruction, KL terms, accuracy, further terms of the loss and moving schedules "
        "over the epochs, of training and validation rows.",
    ),
    "samples": Picture(
        draw_samples, "Draws from the model, a line per class: z from its prior, decoded."
    ),
    "analogies": Picture(
        draw_analogies, "One z per line, decoded as each class from left to right."
    ),
    "traversal": Picture(
        draw_traversal,
        "What is decoded as one entry of z moves from -2.5 to 2.5 standard deviations of its "
        "prior, the other entries at its mean.",
    ),
    "interpolation": Picture(
        draw_interpolation,
        "What is decoded on straight lines between the latents of test rows, which stand at both "
        "ends.",
    ),
    "manifold": Picture(
        draw_manifold,
        "The whole plane of a two-dimensional z, decoded at the quantiles of its prior, for each "
        "class.",
    ),
    "latent": Picture(
        draw_latent,
        "Posterior means of z of test rows in two dimensions, colored by class, with the "
        "components of p(z|s) as ellipses.",
    ),
    "reconstructions": Picture(
        draw_reconstructions,
        "Test rows of the lowest and the highest ELBO and some at random: the row, what is decoded "
        "at its posterior means, and the difference.",
    ),
    "confusion": Picture(
        draw_confusion,
        "Counts of test rows by true and predicted class, with row shares; of a fit without "
        "labels, by true class and component.",
    ),
    "reliability": Picture(
        draw_reliability,
        "Accuracy against confidence in bins, with 95 % intervals, and how many test rows are in "
        "each.",
    ),
    "components": Picture(
        draw_components,
        "A line per component in use: its decoded mean, its nearest rows (highest q(s|x), then "
        "closest in z) and its least certain ones.",
    ),
    "entropy": Picture(
        draw_entropy, "Entropy of q(s|x) over rows, and its mean over the rows of each component."
    ),
}


def check_names(names: Iterable[str] | None) -> None:
    """Refuse what is no stem in the table.

    Raises:
        GMMVAEError: with the nearest match.
    """
    for name in names or ():
        if name not in PICTURES:
            raise unknown_name("picture", name, list(PICTURES))


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
    check_names(names)
    for name in names:
        try:
            yield name, PICTURES[name].draw(view)
        except GMMVAEError as reason:
            yield name, str(reason)


__all__ = ["PICTURES", "Film", "NotApplicable", "Picture", "View", "check_names", "draw_all"]
