"""The plane in which a latent space is seen: there, and back."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ELLIPSE_POINTS = 48


@dataclass(frozen=True)
class Plane:
    """Two coordinates of z: the leading principal directions, or z itself where d <= 2.

    Attributes:
        center: (d,) the z at (0, 0).
        axes: (2, d) orthonormal rows; where d == 1 the second is zero.
        names: of both coordinates; an empty one means nothing.
        share: of the variance of z that the plane shows, 0 to 1; None where it shows all.
    """

    center: Array
    axes: Array
    names: tuple[str, str]
    share: float | None

    def project(self, z: Array) -> Array:
        """(..., d) -> (..., 2)."""
        return np.asarray((z - self.center) @ self.axes.T)

    def lift(self, points: Array) -> Array:
        """The z (..., d) on the plane at points (..., 2): :meth:`project`'s inverse there."""
        return np.asarray(self.center + points @ self.axes)


def principal_directions(z: Array, count: int) -> tuple[Array, Array]:
    """Leading principal directions (n, d) of z (N, d), unit rows, and their shares of variance.

    n is ``count``, or less where N or d are smaller. Each direction's largest entry is positive.
    """
    _, lengths, rows = np.linalg.svd(z - z.mean(0), full_matrices=False)
    directions = rows[:count]
    largest = np.abs(directions).argmax(1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    variances = np.square(lengths)
    return directions * signs[:, None], (variances / max(variances.sum(), 1e-30))[:count]


def plane_of(z: Array) -> Plane:
    """The plane to see z (N, d) in."""
    d = z.shape[1]
    if d <= 2:
        return Plane(np.zeros(d), np.eye(2, d), ("z0", "z1" if d == 2 else ""), None)
    directions, shares = principal_directions(z, 2)
    if len(directions) < 2:  # a single row has no second direction
        directions = np.concatenate([directions, np.zeros((1, d))])
    one, two = (f"PC {i + 1} ({share:.0%})" for i, share in enumerate([*shares, 0.0][:2]))
    return Plane(z.mean(0), directions, (one, two), float(shares.sum()))


def ellipse(center: Array, covariance: Array) -> Array:
    """(48 + 1, 2) points of the one-standard-deviation ellipse, closed.

    Args:
        center: (2,).
        covariance: (2, 2); a singular one gives a segment.
    """
    values, vectors = np.linalg.eigh(covariance)
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS + 1)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    return np.asarray(center + (vectors @ (np.sqrt(values.clip(0))[:, None] * circle)).T)


def nearest(points: Array, to: Array, count: int) -> Array:
    """Numbers of the ``count`` points (N, n) closest to one (n,), the closest first."""
    distance = np.square(points - to).sum(1)
    return np.argsort(distance, kind="stable")[:count]
