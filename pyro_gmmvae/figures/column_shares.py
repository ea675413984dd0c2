"""The columns' shares of the ELBO of a table."""

import numpy as np
from matplotlib.figure import Figure

from pyro_gmmvae.figures.run_view import NotApplicable, RunView
from pyro_gmmvae.figures.style import BLUE, SMALL, TITLE, cut, new_figure, tidy
from pyro_gmmvae.runs.densities import log_px_of_columns

MAX_COLUMNS, MAX_LETTERS = 40, 24


def draw_columns(view: RunView) -> Figure:
    """Bars of E[-log p(x_j|z,s)] of each column, the largest first.

    Raises:
        NotApplicable: rows that are not of a table.
    """
    if not view.run.schema.kind.specs:
        raise NotApplicable("rows are not of a table with kinds of columns")
    by_name = log_px_of_columns(view.run, view.x)
    names = sorted(by_name, key=lambda name: by_name[name])[:MAX_COLUMNS]
    figure = new_figure(7, max(2.4, 1.0 + 0.2 * len(names)))
    axes = figure.subplots()
    places = np.arange(len(names))
    axes.barh(places, [-by_name[name] for name in names], color=BLUE)
    kinds = {column.name: column.kind for column in view.run.schema.kind.specs}
    labels = [f"{cut(name, MAX_LETTERS)} ({kinds[name]})" for name in names]
    axes.set_yticks(places, labels, fontsize=SMALL, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("E[-log p(x|z,s)], nats per row, of values in the model's units")
    count = view.count(range(len(names)), len(by_name))
    axes.set_title(
        f"Reconstruction term by column{count}, {len(view.x)} {view.unit}s", fontsize=TITLE
    )
    tidy(axes)
    return figure
