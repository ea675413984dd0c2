"""Draws from the model, a line per class."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pyro_gmmvae.figures.cell_renderer import Array, CellRenderer, renderer_of
from pyro_gmmvae.figures.cell_sheet import Grid, SheetLabels
from pyro_gmmvae.figures.run_view import NotApplicable, RunView

DRAWS = 10
MAX_LINES = 20


def sample_grid(
    renderer: CellRenderer, draws: Array, names: Sequence[str], title: str = ""
) -> Figure:
    """Draws of each class in a line.

    Args:
        renderer: draws them.
        draws: (classes, n, *x_shape) in the file's units.
        names: one per class, written at the left.
        title: above the cells.
    """
    return Grid(renderer, draws, SheetLabels(title, names)).figure


def draw_samples(view: RunView) -> Figure:
    """Rows drawn from a run's model: z from its prior, decoded; a line per class.

    Raises:
        NotApplicable: the model has no prior.
    """
    run = view.run
    if not run.model.latents:
        raise NotApplicable(f"the model {run.config.model!r} has no prior to draw from")
    if not run.model.draws_of_class:
        draws = run.generate(DRAWS * DRAWS).reshape(DRAWS, DRAWS, *run.schema.kind.x_shape)
        names, title = [""] * DRAWS, f"{view.name}: {DRAWS * DRAWS} draws\nz from p(z), decoded"
    else:
        is_image = len(run.schema.kind.x_shape) == 3
        components, total = view.components(MAX_LINES if is_image else DRAWS)
        block = {k: n for n, k in enumerate(run.components_of(None))}
        draws = run.generate(DRAWS)[[block[k] for k in components]]
        names = [view.class_names[k] for k in components]
        title = (
            f"{view.name}: {DRAWS} draws of each {view.noun}{view.count(components, total)}\n"
            f"z from {view.prior_name}, decoded"
        )
    return sample_grid(renderer_of(run.schema.kind, draws), draws, names, title)
