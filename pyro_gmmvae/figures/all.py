"""All pictures of a run, by the stem of their file."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.figures.animation import Animation
from pyro_gmmvae.figures.classification import draw_confusion, draw_reliability
from pyro_gmmvae.figures.column_shares import draw_columns
from pyro_gmmvae.figures.components import draw_components, draw_entropy
from pyro_gmmvae.figures.history import draw_training
from pyro_gmmvae.figures.latent_scatter import draw_latent
from pyro_gmmvae.figures.latent_space import draw_analogies, draw_interpolation, draw_manifold
from pyro_gmmvae.figures.nearest_rows import draw_nearest
from pyro_gmmvae.figures.reconstructions import draw_reconstructions
from pyro_gmmvae.figures.run_view import RunView
from pyro_gmmvae.figures.samples import draw_samples
from pyro_gmmvae.figures.traversal import draw_traversal


@dataclass(frozen=True)
class Picture:
    """One picture of a run.

    Attributes:
        draw: draws it; raises :class:`~pyro_gmmvae.figures.run_view.NotApplicable` with the
            reason where a run does not have it.
        about: one sentence on its content, also its alternative text.
    """

    draw: Callable[[RunView], Figure | Animation]
    about: str


PICTURES: dict[str, Picture] = {
    "training": Picture(
        draw_training,
        "ELBO, reconstruction, KL terms, accuracy, further terms of the loss and moving schedules "
        "over the epochs, of training and validation rows.",
    ),
    "samples": Picture(
        draw_samples, "Draws from the model, a line per class: z from its prior, decoded."
    ),
    "nearest": Picture(
        draw_nearest,
        "Test rows beside draws of the same class, and beside each draw its nearest training row, "
        "which a draw that is no copy differs from.",
    ),
    "analogies": Picture(
        draw_analogies, "One z per line, decoded as each class from left to right."
    ),
    "traversal": Picture(
        draw_traversal,
        "Rows decoded as one entry of z moves from -2.5 to 2.5 standard deviations of its prior, "
        "the other entries at its mean.",
    ),
    "interpolation": Picture(
        draw_interpolation,
        "Rows decoded on straight lines between the latents of test rows, which are at both ends.",
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
        "Test rows of the lowest and the highest ELBO and some at random: the row, its "
        "reconstruction at its posterior means, and the difference.",
    ),
    "confusion": Picture(
        draw_confusion,
        "Counts of test rows by true and predicted class, with row shares; of a fit without "
        "labels, by true class and component.",
    ),
    "reliability": Picture(
        draw_reliability,
        "Accuracy against confidence in bins, with 95 % intervals, and the number of test rows in "
        "each bin.",
    ),
    "components": Picture(
        draw_components,
        "A line per component in use: its decoded mean, its nearest rows (highest q(s|x), then "
        "closest in z) and its least certain ones.",
    ),
    "columns": Picture(
        draw_columns,
        "Of a table, the reconstruction term of each column: how hard it is to explain, and how "
        "much of the ELBO it is.",
    ),
    "entropy": Picture(
        draw_entropy, "Entropy of q(s|x) over rows, and its mean over the rows of each component."
    ),
}


def draw_all(
    view: RunView, names: Iterable[str] | None = None
) -> Iterator[tuple[str, Figure | Animation | str]]:
    """Draw pictures one after the other.

    Args:
        view: of the run.
        names: stems of the pictures; None: all.

    Yields:
        The stem, and the picture or, where the run does not have it, the reason.

    Raises:
        GMMVAEError: an unknown stem.
    """
    names = list(PICTURES) if names is None else list(names)
    for name in names:
        if name not in PICTURES:
            raise unknown_name("picture", name, list(PICTURES))
    for name in names:
        drawn: Figure | Animation | str
        try:
            with np.errstate(invalid="raise"):  # inf - inf
                drawn = PICTURES[name].draw(view)
        except GMMVAEError as reason:
            drawn = str(reason)
        except (FloatingPointError, ValueError) as error:
            # torch's distributions refuse parameters that are not finite
            if isinstance(error, ValueError) and not str(error).startswith("Expected "):
                raise
            drawn = "its numbers are not finite: the training may have diverged"
        yield name, drawn
