"""Test rows beside draws from the model, and the training row that is nearest to each draw."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pyro_gmmvae.figures.cell_renderer import Array, renderer_of
from pyro_gmmvae.figures.cell_sheet import Sheet, SheetLabels
from pyro_gmmvae.figures.run_view import NotApplicable, RunView
from pyro_gmmvae.runs.generator import (
    RealRows,
    components_of_rows,
    draw_components,
    nearest_training_rows,
)

IMAGES, OTHERS = 5, 3  # test rows, and draws, of a line; profiles and skeletons need more room
MAX_LINES = 20
LINES_WITHOUT_CLASSES = 5


def draw_nearest(view: RunView) -> Figure:
    """A line per class: test rows, then draws, each with the nearest training row.

    Distances are Euclidean, in the model's units.

    Raises:
        NotApplicable: the model has no prior, its draws are not finite, or the run has no test
            rows.
    """
    run = view.run
    if not run.model.latents:
        raise NotApplicable(f"the model {run.config.model!r} has no prior to draw from")
    columns = IMAGES if len(run.schema.kind.x_shape) == 3 else OTHERS
    components, names, places, about = _lines(view, columns)
    made = draw_components(run, components, len(names) * columns)
    flat = RealRows.of(view.rows, len(view.x), run.device).flat
    real = np.concatenate(places)
    queries = np.concatenate([flat(view.x[real]), flat(made)])
    if not np.isfinite(queries).all():
        raise NotApplicable("the model's draws are not finite: the training may have diverged")
    distances, numbers = nearest_training_rows(view.rows, flat, queries)
    of_real, of_draws = np.split(distances, [len(real)])
    dataset = view.rows.dataset
    nearest = dataset.kind.featurize_array(dataset.x[numbers[len(real) :]])
    blocks = view.sources[real], run.schema.transform.invert(made.cpu().numpy()), nearest

    captions = np.full((len(names), 3 * columns), "", object)
    real_cells = [(line, at) for line, part in enumerate(places) for at in range(len(part))]
    for cell, distance in zip(real_cells, of_real, strict=True):
        captions[cell] = f"{distance:.3g}"
    captions[:, columns::2] = [[f"{d:.3g}" for d in ds] for ds in of_draws.reshape(-1, columns)]
    pairs = [(at, "draw, nearest") for at in range(columns, 3 * columns, 2)]
    title = (
        f"{view.name}: {view.unit}s beside {about}, each with its nearest training "
        f"{view.rows.groups.row_noun}\nbelow each its distance to the nearest training "
        f"{view.rows.groups.row_noun}, in the model's units"
    )
    labels = SheetLabels(
        title, names, groups=[(0, f"{view.unit}s"), *pairs], captions=captions.tolist()
    )
    sheet = Sheet(renderer_of(run.schema.kind, *blocks), captions.shape, labels)
    corners = [
        sheet.corners[tuple(np.array(real_cells, int).reshape(-1, 2).T)],
        sheet.corners[:, columns::2].reshape(-1, 2),
        sheet.corners[:, columns + 1 :: 2].reshape(-1, 2),
    ]
    sheet.draw(np.concatenate(blocks), np.concatenate(corners))
    bottom = sheet.axes.get_ylim()[0]
    sheet.renderer.label_features(sheet.axes, sheet.corners[0, :, 0], bottom)
    return sheet.figure


def _lines(view: RunView, columns: int) -> tuple[Array | None, Sequence[str], list[Array], str]:
    """The component of each draw, and for each line its name and places of test rows."""
    of_rows = components_of_rows(view.run, view.x, view.y)
    if of_rows is None:
        n = LINES_WITHOUT_CLASSES
        places = np.random.default_rng(0).permutation(len(view.x))[: n * columns]
        return None, [""] * n, np.array_split(places, n), "draws"
    chosen, total = view.components(MAX_LINES if columns == IMAGES else MAX_LINES // 2)
    return (
        np.repeat(chosen, columns),
        [view.class_names[k] for k in chosen],
        [np.flatnonzero(of_rows == k)[:columns] for k in chosen],
        f"draws of each {view.noun}{view.count(chosen, total)}",
    )
