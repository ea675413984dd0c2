"""Windows of tracks: poses relative to the body, interpolated over short gaps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.transform import Floats, Labels
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.layouts import Layout
from pyro_gmmvae.skeletons.tracks import Track

SCALES = ("torso", "file")


@dataclass(frozen=True)
class Windows:
    """Windows of all tracks that have a joint.

    Attributes:
        x: (N, T, J, C) relative to the root, NaN where a joint is missing.
        interpolated: (N, T, J), whether a joint was interpolated.
        of_track: (N,) the number of each window's track.
        empty: names of the tracks without any joint, which have no window.
        short: names of the tracks shorter than a window, which are padded with missing frames.
    """

    x: Floats
    interpolated: NDArray[np.bool_]
    of_track: Labels
    empty: tuple[str, ...]
    short: tuple[str, ...]


def cut_windows(
    tracks: Sequence[Track], layout: Layout, *, window: int, stride: int, max_gap: int, scale: str
) -> Windows:
    """Windows of T frames, a stride apart, of each track.

    A track's last window ends with its last frame, so that no frame is lost.

    Args:
        tracks: of one layout.
        layout: their joints.
        window, stride, max_gap, scale: see :class:`pyro_gmmvae.skeletons.PoseWindow`.

    Raises:
        GMMVAEError: if no track holds any joint, or tracks differ in their coordinates.
    """
    if len({track.poses.shape[1:] for track in tracks}) > 1:
        raise GMMVAEError("tracks of several layouts or dimensions can't be used together")
    pieces_of, empty, short = {}, [], []
    for number, track in enumerate(tracks):
        if not np.isfinite(track.poses).any():
            empty.append(track.sequence)
            continue
        poses = relative_poses(track.poses, layout, scale, track.frames)
        pieces_of[number] = continuous_pieces(track.frames, poses, max_gap)
        if sum(len(piece) for piece, _ in pieces_of[number]) < window:
            short.append(track.sequence)
    longest = max((len(piece) for pieces in pieces_of.values() for piece, _ in pieces), default=1)
    length = window or longest
    parts, numbers = [], []
    for number, pieces in pieces_of.items():
        for part in (w for p in pieces for w in _windows_of(*p, length, stride)):
            if np.isfinite(part[0]).any():
                parts.append(part)
                numbers.append(number)
    if not parts:
        raise GMMVAEError(f"none of {len(tracks)} tracks has a joint")
    x, interpolated = (np.stack(arrays) for arrays in zip(*parts, strict=True))
    return Windows(x, interpolated, np.asarray(numbers), tuple(empty), tuple(short))


def relative_poses(
    poses: Floats, layout: Layout, scale: str = "torso", frames: Labels | None = None
) -> Floats:
    """Poses (T, J, C) relative to the root, and in units of the body's size.

    Where the root is missing, its position is interpolated between frames; a track without any
    root is centered on the mean of its joints. The size is the median over frames, one number
    for the track, so that a person's proportions are kept.

    Args:
        poses: NaN where a joint is missing.
        layout: has root and torso; without a root poses are not changed.
        scale: "torso" or "file".
        frames: (T,) their numbers; None: consecutive ones.
    """
    if layout.root is None:
        return poses
    frames = np.arange(len(poses)) if frames is None else frames
    centered = poses - _root(poses, layout.root, frames)[:, None]
    if scale == "file":
        return centered.astype(np.float32)
    return (centered / body_size(poses, layout)).astype(np.float32)


def is_known(poses: Floats) -> NDArray[np.bool_]:
    """(...) whether a joint (..., C) has all its coordinates."""
    return np.logical_and.reduce(np.isfinite(poses), axis=-1)


def _root(poses: Floats, root: int, frames: Labels) -> NDArray[np.floating]:
    """(T, C) the root's position in each frame."""
    position = poses[:, root]
    if not is_known(position).any():
        has_joint = is_known(poses)[..., None]
        position = np.where(has_joint, poses, 0).sum(1) / np.maximum(has_joint.sum(1), 1)
        position = np.where(has_joint.any(1), position, np.nan)
    known = is_known(position)
    if not known.any():
        return position
    return np.stack([np.interp(frames, frames[known], axis) for axis in position[known].T], -1)


def body_size(poses: Floats, layout: Layout) -> float:
    """Median distance of the torso's ends, or of the joints from their center, per track."""
    sizes = np.full(0, np.nan)
    if layout.torso is not None:
        above, below = (poses[:, list(joints)].mean(1) for joints in layout.torso)
        sizes = np.linalg.norm(above - below, axis=-1)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not len(sizes):
        has_joint = is_known(poses)[..., None]
        count = np.maximum(has_joint.sum(1, keepdims=True), 1)
        offsets = poses - np.where(has_joint, poses, 0).sum(1, keepdims=True) / count
        sizes = np.sqrt(np.nansum(offsets**2, (1, 2)) / count[:, 0, 0])
        sizes = sizes[sizes > 0]
    return float(np.median(sizes)) if len(sizes) else 1.0


def continuous_pieces(
    frames: Labels, poses: Floats, max_gap: int
) -> list[tuple[Floats, NDArray[np.bool_]]]:
    """Poses on every frame number, cut where more than ``max_gap`` frames are missing.

    Returns:
        For each piece the poses (T, J, C), linearly interpolated over short gaps of each joint,
        and where that was done, (T, J).
    """
    pieces = []
    for part in np.split(np.arange(len(frames)), np.flatnonzero(np.diff(frames) > max_gap + 1) + 1):
        numbers = frames[part] - frames[part[0]]
        full = np.full((int(numbers[-1]) + 1, *poses.shape[1:]), np.nan, np.float32)
        full[numbers] = poses[part]
        pieces.append(interpolate(full, max_gap))
    return pieces


def interpolate(poses: Floats, max_gap: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Interpolate gaps of up to ``max_gap`` frames of each joint linearly.

    Frames before a joint's first one or after its last one stay missing.

    Args:
        poses: (T, J, C), NaN where missing.
        max_gap: frames.

    Returns:
        The poses, and where a joint was interpolated, (T, J).
    """
    filled = np.array(poses, np.float32)
    missing = ~is_known(filled)
    interpolated = np.zeros_like(missing)
    time = np.arange(len(filled))
    for joint in np.flatnonzero(missing.any(0) & ~missing.all(0)):
        there = time[~missing[:, joint]]
        before = np.searchsorted(there, time, "right") - 1
        after = np.minimum(before + 1, len(there) - 1)
        inside = (time > there[0]) & (time < there[-1])
        gap = there[after] - there[np.maximum(before, 0)] - 1
        close = missing[:, joint] & inside & (gap <= max_gap)
        for axis in range(filled.shape[-1]):
            known = filled[there, joint, axis]
            filled[close, joint, axis] = np.interp(time[close], there, known)
        interpolated[:, joint] = close
    return filled, interpolated


def _windows_of(
    poses: Floats, interpolated: NDArray[np.bool_], length: int, stride: int
) -> list[tuple[Floats, NDArray[np.bool_]]]:
    missing = max(0, length - len(poses))
    if missing:
        poses = np.pad(poses, ((0, missing), (0, 0), (0, 0)), constant_values=np.nan)
        interpolated = np.pad(interpolated, ((0, missing), (0, 0)))
    last = len(poses) - length
    starts = sorted({*range(0, last + 1, stride), last})
    return [(poses[a : a + length], interpolated[a : a + length]) for a in starts]
