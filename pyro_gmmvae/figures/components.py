"""What components hold, and how surely."""

import numpy as np
from matplotlib.figure import Figure

from pyro_gmmvae.figures.component_sheet import Line, component_sheet
from pyro_gmmvae.figures.entropy import entropy_histogram
from pyro_gmmvae.figures.look import painter
from pyro_gmmvae.figures.run_view import Array, View

NEAREST, UNCERTAIN = 8, 5
MOST_COMPONENTS = 60


def draw_components(view: View) -> Figure:
    """Each component in use: its decoded mean, its nearest rows, its least certain ones."""
    clusters = view.clusters
    used = clusters.used[:MOST_COMPONENTS]
    names = clusters.run.class_names()
    prototypes = clusters.prototypes(used)[1]
    rows: list[Array] = []
    lines = []
    drawn = len(used)
    for at, k in enumerate(used):
        nearest, uncertain = clusters.members(k)
        nearest = nearest[:NEAREST]
        # in a small component nobody is shown twice
        uncertain = uncertain[~np.isin(uncertain, nearest)][:UNCERTAIN]
        shown = []
        for places in (nearest, uncertain):
            rows.append(clusters.pictured(places, k))
            captions = [str(one) for one in clusters.ids[places]]
            shown.append(list(zip(range(drawn, drawn + len(places)), captions, strict=True)))
            drawn += len(places)
        lines.append(Line(names[k], int(k), clusters.sizes[k] / len(clusters.ids), at, *shown))
    dataset = clusters.rows.dataset
    members = dataset.kind.featurize_array(dataset.x[np.concatenate(rows).astype(np.int64)])
    paint, scale = painter(view.run, np.concatenate([prototypes, members]))
    unit, left_out = clusters.unit, len(clusters.used) - len(used)
    title = (
        f"{view.name}: {len(clusters.used)} of {len(names)} components in use, over "
        f"{len(clusters.ids)} {unit}s\nshare of {unit}s under each name, "
        f"{'row numbers' if unit == 'row' else 'sequences'} under each picture"
        f"{f'; the smallest {left_out} are left out' if left_out else ''}"
    )
    return component_sheet(lines, paint, title, scale=scale)


def draw_entropy(view: View) -> Figure:
    """Entropy of assignments over rows, and its mean per component."""
    clusters = view.clusters
    return entropy_histogram(
        clusters.entropy,
        clusters.component,
        clusters.run.class_names(),
        clusters.used[:MOST_COMPONENTS].tolist(),
        clusters.unit,
    )
