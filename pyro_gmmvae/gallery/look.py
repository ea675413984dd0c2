"""How rows of a run are drawn: as pictures, as persons, or as profiles over their features."""

import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures.cells import Painter, is_image, pose_painter, row_painter
from pyro_gmmvae.gallery.view import Array
from pyro_gmmvae.runs import Run


def poses_of(run: Run, rows: Array) -> Array | None:
    """(N, J, 2) joints in the middle frame of rows in the file's units; None: no skeletons."""
    features, dimensions = run.schema.features, run.schema.dimensions
    if features is None or dimensions not in (2, 3):
        return None
    try:
        poses = features.poses(torch.from_numpy(rows), dimensions)
    except GMMVAEError:
        return None  # without joints among the features there is no pose to draw
    return poses[:, poses.shape[1] // 2, :, :2].numpy()


def painter(run: Run, rows: Array) -> tuple[Painter, float]:
    """What draws rows in the file's units into a cell, and how large cells should be.

    Args:
        run: whose rows they are.
        rows: (N, *x_shape), all that will be drawn, so that they share one scale.
    """
    poses = poses_of(run, rows)
    if poses is not None:
        features = run.schema.features
        assert features is not None
        edges = features.layout.edges
        return pose_painter(poses, edges, y_down=run.schema.dimensions == 2), 1.6
    return row_painter(rows), 1.0 if is_image(rows.shape[1:]) else 1.6
