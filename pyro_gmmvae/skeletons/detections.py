"""Detections of a clip: poses, confidence and the people's heights in the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.layouts import Layout

if TYPE_CHECKING:
    from pyro_gmmvae.skeletons.openpose import Frame

Reals = NDArray[np.float64]

# a person's height over that of the torso, neck to hips (Drillis and Contini, 1966)
HEIGHT_PER_TORSO = 3.5
# mean distance of joints, in heights, below which two detections are of one person
DUPLICATE_DISTANCE = 0.05
# of the clip's median pose, whatever the unit: shorter bones point to the camera
SMALLEST = 1 / 300
MAX_MISSED = 10  # frames without a detection, over which a person is followed


@dataclass(frozen=True)
class Detections:
    """The detections of a clip, by frame.

    Attributes:
        frame: (D,) frame numbers, not decreasing.
        poses: (D, J, 2) in any unit, NaN where a joint is missing.
        confidence: (D, J) in [0, 1], 0 where a joint is missing.
        height: (D,) the person's height in that unit, estimated from the visible bones.
        frames: (F,) the numbers of all frames, increasing, also of empty ones.
        step: between the files' frame numbers, of times or of every n-th frame; else 1.
    """

    frame: Labels
    poses: Reals
    confidence: Reals
    height: Reals
    frames: Labels
    step: float


def detections_of(frames: "Sequence[Frame]", layout: Layout, min_joints: int) -> Detections:
    """The detections of a clip's frames, without those of too few joints and duplicates.

    Raises:
        GMMVAEError: poses of another layout, or frame numbers that don't increase.
    """
    numbers = np.array([frame.number for frame in frames], np.int64)
    for frame, last in zip(frames[1:], numbers[:-1], strict=True):
        if frame.number <= last:
            raise GMMVAEError(
                f"{frame.name}: frame {frame.number} of clip {frame.clip!r} comes after frame "
                f"{last}; a clip's frames must come in order"
            )
    for frame in frames:
        if frame.poses.shape[1:] != (len(layout.joints), 2):
            raise GMMVAEError(
                f"{frame.name}: poses of shape {frame.poses.shape}, where the layout "
                f"{layout.name} has {len(layout.joints)} joints in 2-D (another layout?)"
            )
    numbers, step = _counted(numbers)
    number = np.repeat(numbers, [len(frame.poses) for frame in frames])
    poses = np.concatenate([frame.poses for frame in frames]).astype(np.float64)
    confidence = np.concatenate([frame.confidence for frame in frames]).astype(np.float64)
    detected = np.isfinite(poses).all(-1) & (confidence > 0)
    poses, confidence = (
        np.where(detected[..., None], poses, np.nan),
        np.where(detected, confidence.clip(0, 1), 0),
    )
    kept = detected.sum(1) >= min_joints
    number, poses, confidence = number[kept], poses[kept], confidence[kept]
    height = heights(poses, layout)
    single = _merge_duplicates(number, poses, confidence, height)
    rows = number[single], poses[single], confidence[single], height[single]
    return Detections(*rows, numbers, step)


def _counted(numbers: Labels) -> tuple[Labels, float]:
    """Frame numbers, counted from 0 if they are times or every n-th frame, and their step."""
    steps = np.diff(numbers)
    least = np.quantile(steps, 0.1, method="lower") if len(steps) > 1 else 1
    if least <= MAX_MISSED:
        return numbers, 1.0
    step = float(steps[steps < 1.5 * least].mean())  # times are rounded
    return np.cumsum([0, *np.rint(steps / step).clip(1)]).astype(np.int64), step


def heights(poses: Reals, layout: Layout) -> Reals:
    """Each person's height (D,) in the unit of the poses, also of people who are mostly hidden.

    A bone's length is its share of the height times the height: log l = log r + log h. Shares r
    are the clip's medians, heights h an upper quartile over the visible bones, as turning
    away from the camera only shortens bones. The torso gives the scale; where it is never
    visible, the tallest poses do.
    """
    if not len(poses):
        return np.zeros(0)
    spans = np.nanmax(poses, 1) - np.nanmin(poses, 1)
    extent = np.hypot(*spans.T)
    least = max(SMALLEST * float(np.median(extent)), float(np.finfo(np.float32).tiny))
    extent = extent.clip(least)
    lengths = _log_lengths(poses, layout, least)
    shares = np.zeros(lengths.shape[1])
    for _ in range(5):
        height = nan_quantile(lengths - shares, 0.75)
        shares = nan_quantile((lengths - height[:, None]).T, 0.5)
    if np.isfinite(shares[-1]):  # the torso's
        shares = shares - (shares[-1] + np.log(HEIGHT_PER_TORSO))
        height = nan_quantile(lengths - shares, 0.75)
    elif np.isfinite(height).any():
        height += np.nanquantile(np.log(extent) - height, 0.9)
    return np.where(np.isfinite(height), np.exp(height), extent).clip(least)


def _log_lengths(poses: Reals, layout: Layout, least: float) -> Reals:
    """Log lengths (D, E + 1) of the bones and the torso, NaN where one is not visible."""
    ends = np.array(layout.edges, np.int64).reshape(-1, 2)
    bones = poses[:, ends[:, 0]] - poses[:, ends[:, 1]]
    torso = np.full((len(poses), 1, 2), np.nan)
    if layout.torso is not None:
        upper, lower = (poses[:, list(joints)].mean(1) for joints in layout.torso)
        torso[:, 0] = upper - lower
    length = np.hypot(*np.moveaxis(np.concatenate([bones, torso], 1), -1, 0))
    return np.where(length > least, np.log(length.clip(least)), np.nan)


def nan_quantile(values: Reals, q: float) -> Reals:
    """A quantile over the last axis of the values that are not NaN; NaN where all are."""
    ordered = np.sort(values, -1)  # NaN last
    count = np.isfinite(ordered).sum(-1)
    at = np.floor(q * (count - 1).clip(0) + 0.5).astype(np.int64)
    return np.take_along_axis(ordered, at[..., None], -1)[..., 0]


def _merge_duplicates(
    frame: Labels, poses: Reals, confidence: Reals, height: Reals
) -> NDArray[np.bool_]:
    """Mark one detection (D,) per person and frame, and add joints that only a duplicate has."""
    single = np.ones(len(frame), bool)
    starts = np.flatnonzero(np.diff(frame, prepend=-1, append=np.iinfo(np.int64).max))
    for start, stop in pairwise(starts):
        if stop - start < 2:
            continue
        order = start + np.argsort(-confidence[start:stop].sum(1), kind="stable")
        near = _mean_distance(poses[order], height[order]) < DUPLICATE_DISTANCE
        for rank, best in enumerate(order):
            if not single[best]:
                continue
            for duplicate in order[rank + 1 :][near[rank, rank + 1 :]]:
                if single[duplicate]:
                    single[duplicate] = False
                    missing = confidence[best] == 0
                    poses[best, missing] = poses[duplicate, missing]
                    confidence[best, missing] = confidence[duplicate, missing]
    return single


def _mean_distance(poses: Reals, size: Reals) -> Reals:
    """Mean distance (P, P) of the joints that both have, in heights; infinite below 3 of them."""
    distance = np.hypot(*np.moveaxis(poses[:, None] - poses[None], -1, 0))
    common = np.isfinite(distance)
    count = common.sum(-1)
    total: NDArray[Any] = np.where(common, distance, 0).sum(-1)
    mean = total / count.clip(1) / np.minimum(size[:, None], size[None])
    return np.where(count >= 3, mean, np.inf)
