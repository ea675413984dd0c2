"""Scenes of people who cross, made of recorded motion, so that identities are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.skeletons import BODY_25, KINECT_18, Frame, Layout, read_frames, read_ucalgary_gait

Reals = NDArray[np.float64]
FOCAL, WIDTH, HEIGHT = 1000.0, 1280, 720
CAMERA = 1.5  # meters above the floor
NOBODY = -1


@dataclass(frozen=True)
class Difficulty:
    """Errors of detection in a scene.

    Attributes:
        people: how many cross.
        jitter: standard deviation of a joint, in heights.
        lost: share of joints that are not detected, at any place.
        missed: share of frames in which a person begins to be missed, for one to eight frames.
        ghosts: mean number of false detections a frame.
        copies: share of detections that come twice.
        whole: hidden people are lost altogether, not only their hidden joints.
        depth: meters between the nearest and the farthest.
    """

    people: int
    jitter: float = 0.01
    lost: float = 0.0
    missed: float = 0.0
    ghosts: float = 0.0
    copies: float = 0.0
    whole: bool = False
    depth: float = 4.0


DIFFICULTIES = {
    "easy": Difficulty(2),
    "medium": Difficulty(3, 0.015, 0.05, 0.01, 0.1, 0.02),
    "hard": Difficulty(4, 0.02, 0.1, 0.02, 0.3, 0.05, whole=True),
    "crowded": Difficulty(5, 0.02, 0.1, 0.02, 0.3, 0.05, whole=True, depth=1.5),
}


@dataclass(frozen=True)
class Scene:
    """Frames, and whose each detection is (NOBODY: a ghost's or a copy)."""

    frames: list[Frame]
    truth: list[NDArray[np.int64]]
    layout: Layout


@dataclass(frozen=True)
class Walker:
    """A person over a clip: joints (T, J, 2) in pixels, NaN when away, and depth (T,)."""

    joints: Reals
    depth: Reals
    height: Reals  # (T,) pixels
    confidence: Reals  # (T, J)


def gait_walks(folder: Path) -> list[Reals]:
    """Walks (T, 18, 3) in meters, forward along x, z up from the floor, y to the side.

    Sequences in which the Kinect jumps from place to place are left out.
    """
    walks = []
    for labelled in read_ucalgary_gait(folder):
        poses = labelled.track.poses.astype(np.float64)
        root, neck = poses[:, 8], poses[:, 10]
        step = np.linalg.norm(np.diff(root, axis=0), axis=1)
        if not np.isfinite(poses).all() or step.max() > 0.15:
            continue
        up = (neck - root).mean(0)
        up /= np.linalg.norm(up)
        forward = root[-1] - root[0]
        forward -= forward @ up * up
        if np.linalg.norm(forward) < 1:
            continue
        forward /= np.linalg.norm(forward)
        walk = poses @ np.stack([forward, np.cross(up, forward), up], 1)
        walk -= walk[:, 8].mean(0)
        walk[..., 2] -= np.quantile(walk[:, [1, 5], 2], 0.05)
        walks.append(walk)
    return walks


def walking_scene(walks: Sequence[Reals], of: Difficulty, seed: int) -> Scene:
    """People walk through the picture so that their ways cross near the middle of the clip."""
    rng = np.random.default_rng(seed)
    frames = 150
    depths = 4 + np.sort(rng.uniform(0, of.depth, of.people))
    walkers = []
    for k, choice in enumerate(rng.permutation(len(walks))[: of.people]):
        walk = walks[choice]
        start = int(rng.integers(0, frames - len(walk) + 1))
        heading = rng.normal(0, 0.4) + (np.pi if k % 2 else 0)
        turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
        ground = walk[..., :2] @ turn.T
        middle = ground[int(np.clip(frames // 2 - start, 0, len(walk) - 1)), 8]
        ground = ground - middle + [rng.normal(0, 0.3), depths[k]]
        depth = np.full((frames, walk.shape[1]), np.nan)
        depth[start : start + len(walk)] = ground[..., 1].clip(1)
        joints = np.full((*depth.shape, 2), np.nan)
        joints[start : start + len(walk), :, 0] = ground[..., 0]
        joints[start : start + len(walk), :, 1] = CAMERA - walk[..., 2]
        joints = joints * (FOCAL / depth)[..., None] + [WIDTH / 2, HEIGHT / 2]
        certain = rng.uniform(0.5, 0.95, depth.shape)
        walkers.append(Walker(joints, depth[:, 8], 1.75 * FOCAL / depth[:, 8], certain))
    return _pictures(walkers, KINECT_18, of, rng)


def openpose_clips(folder: Path) -> list[tuple[Reals, Reals]]:
    """Joints (T, 25, 2) and confidence where OpenPose saw one whole person a frame for long."""
    clips: dict[str, list[Frame]] = {}
    for frame in read_frames(folder / "soccer_0to3", layout=BODY_25):
        clips.setdefault(frame.clip, []).append(frame)
    found = []
    for frames in clips.values():
        length = frames[-1].number + 1
        joints, certain = np.full((length, 25, 2), np.nan), np.zeros((length, 25))
        for frame in frames:
            whole = np.flatnonzero((frame.confidence > 0).sum(1) >= 15)
            if len(whole) == 1:
                joints[frame.number] = frame.poses[whole[0]]
                certain[frame.number] = frame.confidence[whole[0]]
        # across a longer gap nobody knows that it is the same person
        here = np.flatnonzero(np.isfinite(joints).any((1, 2)))
        runs = np.split(here, np.flatnonzero(np.diff(here) > 5) + 1)
        longest = max(runs, key=len)
        if len(longest) >= 30:
            span = slice(longest[0], longest[-1] + 1)
            found.append((joints[span], certain[span]))
    return found


def openpose_scene(clips: Sequence[tuple[Reals, Reals]], of: Difficulty, seed: int) -> Scene:
    """Real detections of single people, laid over each other; every other one is mirrored."""
    rng = np.random.default_rng(seed)
    frames = max(len(joints) for joints, _ in clips)
    walkers = []
    for k, choice in enumerate(rng.permutation(len(clips))[: of.people]):
        joints, certain = np.full((frames, 25, 2), np.nan), np.zeros((frames, 25))
        clip, confidence = clips[choice]
        joints[: len(clip)], certain[: len(clip)] = clip, confidence
        if k % 2:
            swap = np.arange(25)
            for left, right in BODY_25.pairs:
                swap[[left, right]] = right, left
            joints, certain = joints[:, swap] * [-1, 1], certain[:, swap]
        here = np.flatnonzero(np.isfinite(joints).any((1, 2)))
        scale = rng.uniform(0.8, 1)
        middle = np.nanmean(joints[here[len(here) // 2]], 0)
        joints = (joints - middle) * scale + [640 + rng.normal(0, 60), 360 + rng.normal(0, 10)]
        spans = np.nanmax(clip[here, :, 1], 1) - np.nanmin(clip[here, :, 1], 1)
        height = np.full(frames, np.quantile(spans, 0.8) * scale)
        walkers.append(Walker(joints, np.full(frames, 1 / scale), height, certain))
    return _pictures(walkers, BODY_25, of, rng)


def _pictures(
    walkers: Sequence[Walker], layout: Layout, of: Difficulty, rng: np.random.Generator
) -> Scene:
    frames, truth = [], []
    away = np.zeros(len(walkers), np.int64)
    for t in range(len(walkers[0].joints)):
        poses, certain, whose = [], [], []
        for k, walker in enumerate(walkers):
            if away[k] == 0 and rng.uniform() < of.missed:
                away[k] = rng.integers(1, 9)
            away[k] = max(away[k] - 1, 0)
            seen = _seen(walkers, k, t, layout, of, rng)
            if away[k] or seen.sum() < 4:
                continue
            noise = rng.normal(0, of.jitter * walker.height[t], walker.joints[t].shape)
            copies = 1 + (rng.uniform() < of.copies)
            for copy in range(copies):
                shift = copy * rng.normal(0, 0.03 * walker.height[t], noise.shape)
                kept = seen & (rng.uniform(size=len(seen)) > 0.3 * copy)
                poses.append(np.where(kept[:, None], walker.joints[t] + noise + shift, np.nan))
                certain.append(np.where(kept, walker.confidence[t] * (1 - 0.3 * copy), 0))
                whose.append(NOBODY if copy else k)
        for _ in range(rng.poisson(of.ghosts)):
            pose, confidence = _ghost(len(layout.joints), rng)
            poses.append(pose)
            certain.append(confidence)
            whose.append(NOBODY)
        order = rng.permutation(len(poses))  # OpenPose's order says nothing
        shape = (len(poses), len(layout.joints))
        found = np.array(poses, np.float32).reshape(*shape, 2)[order]
        sure = np.array(certain, np.float32).reshape(shape)[order]
        frames.append(Frame("scene", t, found, sure, f"scene_{t:012d}_keypoints.json"))
        truth.append(np.array(whose, np.int64)[order])
    return Scene(frames, truth, layout)


def _seen(
    walkers: Sequence[Walker],
    k: int,
    t: int,
    layout: Layout,
    of: Difficulty,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Which joints of a walker are in the picture, before all others, and detected."""
    joints = walkers[k].joints[t]
    inside = (joints >= 0).all(1) & (joints < [WIDTH, HEIGHT]).all(1)
    hidden = np.zeros(len(joints), bool)
    for other in walkers:
        if other.depth[t] < walkers[k].depth[t]:
            hidden |= _behind(joints, other.joints[t], 0.06 * other.height[t], layout)
    if of.whole and hidden.sum() > 0.4 * inside.sum():
        return np.zeros(len(joints), bool)
    return inside & ~hidden & (rng.uniform(size=len(joints)) >= of.lost)


def _behind(points: Reals, body: Reals, radius: float, layout: Layout) -> NDArray[np.bool_]:
    """Points that are within a radius of a body's bones, or between shoulders and hips."""
    bones = [*layout.edges, *((a, b) for a, b in layout.pairs)]
    a, b = (body[[bone[side] for bone in bones]] for side in (0, 1))
    along = b - a
    share = ((points[:, None] - a) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-9)
    nearest = a + share.clip(0, 1)[..., None] * along
    distance = np.hypot(*np.moveaxis(points[:, None] - nearest, -1, 0))
    return np.asarray((np.where(np.isfinite(distance), distance, np.inf) < radius).any(1))


def _ghost(joints: int, rng: np.random.Generator) -> tuple[Reals, Reals]:
    """Three to six joints that belong to no person."""
    chosen = rng.permutation(joints)[: rng.integers(3, 7)]
    center = rng.uniform([0, 0], [WIDTH, HEIGHT])
    pose, certain = np.full((joints, 2), np.nan), np.zeros(joints)
    pose[chosen] = center + rng.normal(0, 40, (len(chosen), 2))
    certain[chosen] = rng.uniform(0.1, 0.4, len(chosen))
    return pose, certain
