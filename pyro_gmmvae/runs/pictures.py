"""The pictures of a run's clusters, by the names of their files."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures.cells import Painter, is_image, pose_painter, row_painter
from pyro_gmmvae.figures.component_sheet import Line, component_sheet
from pyro_gmmvae.figures.entropy import entropy_histogram
from pyro_gmmvae.runs.clusters import Clusters

Array = np.ndarray[Any, Any]
NEAREST, UNCERTAIN = 8, 5
MOST_COMPONENTS = 60


def components_png(clusters: Clusters) -> Figure:
    """Each component in use: its decoded mean, its nearest rows, its least certain ones."""
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
    described = dataset.described(dataset.x[np.concatenate(rows).astype(np.int64)])
    paint, scale = _painter(clusters, np.concatenate([prototypes, described]))
    unit, left_out = clusters.unit, len(clusters.used) - len(used)
    name = clusters.run.path.resolve().name
    title = (
        f"{name}: {len(clusters.used)} of {len(names)} components in use, over "
        f"{len(clusters.ids)} {unit}s\nshare of {unit}s under each name, "
        f"{'row numbers' if unit == 'row' else 'sequences'} under each picture"
        f"{f'; the smallest {left_out} are left out' if left_out else ''}"
    )
    return component_sheet(lines, paint, title, scale=scale)


def _painter(clusters: Clusters, rows: Array) -> tuple[Painter, float]:
    """How rows in the file's units are drawn, and in what size."""
    schema = clusters.run.schema
    if schema.features is not None and schema.dimensions in (2, 3):
        try:
            poses = schema.features.poses(torch.from_numpy(rows), schema.dimensions)
        except GMMVAEError:
            pass  # without joints among the features there is no pose to draw
        else:
            middle = poses[:, poses.shape[1] // 2, :, :2].numpy()
            edges = schema.features.layout.edges
            return pose_painter(middle, edges, y_down=schema.dimensions == 2), 1.6
    return row_painter(rows), 1.0 if is_image(rows.shape[1:]) else 1.6


def entropy_png(clusters: Clusters) -> Figure:
    """Entropy of assignments over rows, and its mean per component."""
    return entropy_histogram(
        clusters.entropy,
        clusters.component,
        clusters.run.class_names(),
        clusters.used[:MOST_COMPONENTS].tolist(),
        clusters.unit,
    )


FIGURES: dict[str, Callable[[Clusters], Figure]] = {
    "components.png": components_png,
    "entropy.png": entropy_png,
}
