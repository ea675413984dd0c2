"""How rows of a run are drawn: as pictures, as persons, or as profiles over their features."""

import numpy as np

from pyro_gmmvae.figures.cells import Painter, is_image, pose_painter, row_painter
from pyro_gmmvae.figures.run_view import Array
from pyro_gmmvae.figures.sheet import Look, Poses, Profiles, look_of
from pyro_gmmvae.runs import Run


def poses_of(run: Run, rows: Array) -> Array | None:
    """(N, J, 2) joints in the middle frame of rows in the file's units; None: no skeletons."""
    if run.schema.kind.drawing != "skeleton":
        return None
    poses = run.schema.kind.poses(rows)
    return np.asarray(poses[:, poses.shape[1] // 2, :, :2])


def painter(run: Run, rows: Array) -> tuple[Painter, float]:
    """What draws rows in the file's units into a cell, and how large cells should be.

    Args:
        run: whose rows they are.
        rows: (N, *x_shape), all that will be drawn, so that they share one scale.
    """
    poses = poses_of(run, rows)
    if poses is not None:
        kind = run.schema.kind
        return pose_painter(poses, kind.edges, y_down=kind.y_down), 1.6
    return row_painter(rows), 1.0 if is_image(rows.shape[1:]) else 1.6


def looks(run: Run, *blocks: Array) -> tuple[Look, list[Array]]:
    """What draws rows into the cells of a sheet, and the rows as it takes them.

    Args:
        run: whose rows they are.
        blocks: (..., *x_shape) each, in the file's units; all share one scale.

    Returns:
        The look, and the blocks with their leading axes as they were.
    """
    leading = len(run.schema.kind.x_shape)
    flat = [block.reshape(-1, *block.shape[block.ndim - leading :]) for block in blocks]
    rows = np.concatenate(flat)
    poses = poses_of(run, rows)
    if poses is None:
        look = look_of(rows)
        if isinstance(look, Profiles) and run.schema.kind.columns is not None:
            look.name(run.schema.kind.columns)
        return look, list(blocks)
    kind = run.schema.kind
    parts = np.split(poses, np.cumsum([len(part) for part in flat])[:-1])
    shaped = [
        part.reshape(*block.shape[: block.ndim - leading], *part.shape[1:])
        for part, block in zip(parts, blocks, strict=True)
    ]
    return Poses(poses, kind.edges, y_down=kind.y_down), shaped
