"""Tracking: who is who over the frames of a clip, as OpenPose does not tell.

Detections that follow each other beyond doubt become tracklets (:mod:`tracklets`); an integer
program decides which tracklets are people and which are the same person (:mod:`linking`,
:mod:`path_cover`); detections that were left in doubt then fill the gaps of the paths, or begin or
end them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.detections import Bodies, Reals, bodies_of
from pyro_gmmvae.skeletons.layouts import Layout
from pyro_gmmvae.skeletons.linking import ENOUGH, link, nodes_of
from pyro_gmmvae.skeletons.tracklets import JITTER, SWAY, evidence, grow_tracklets
from pyro_gmmvae.skeletons.tracks import Track

if TYPE_CHECKING:
    from pyro_gmmvae.skeletons.openpose import Frame

SHORT = 3  # detections below which a doubtful tracklet tells no velocity


@dataclass(frozen=True)
class TrackingOptions:
    """How people are tracked.

    Attributes:
        frame_rate: frames a second, which tells how far a person may move between two.
        max_gap: how many frames a person may be missed (or hidden) and be known again.
        min_length: detections below which a track is dropped.
        min_joints: joints below which a detection is dropped.
        window: frames that are decided together, at least twice the gap.
    """

    frame_rate: float = 30.0
    max_gap: int = 60
    min_length: int = 5
    min_joints: int = 3
    window: int = 150

    def __post_init__(self) -> None:
        least = {"max_gap": 0, "min_length": 1, "min_joints": 1, "window": 2}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise GMMVAEError(
                    f"tracking: {name} is {getattr(self, name)}; it must be at least {value}"
                )
        if not 0 < self.frame_rate < np.inf:
            raise GMMVAEError(f"tracking: frame_rate is {self.frame_rate}; it must be positive")


def track_people(
    frames: "Iterable[Frame]", layout: Layout, options: TrackingOptions | None = None
) -> Iterator[Track]:
    """The people of each clip, one track each, named CLIP/1, CLIP/2, ... as they appear.

    Frames of one clip are held at a time. A track's gaps are frames in which the person was not
    detected. The result is the same in every run.

    Args:
        frames: clip by clip, in order; frames may be empty, and numbers left out.
        layout: the joints.
        options: None: the defaults.

    Raises:
        GMMVAEError: frames out of order, or of another layout.
    """
    options = options or TrackingOptions()
    seen: set[str] = set()
    for clip, of_clip in groupby(frames, lambda frame: frame.clip):
        if clip in seen:
            raise GMMVAEError(
                f"clip {clip!r} comes twice, with another between; sort the frames by clip"
            )
        seen.add(clip)
        bodies = bodies_of(list(of_clip), layout, options.min_joints)
        for k, rows in enumerate(_people(bodies, options), 1):
            yield Track(
                sequence=f"{clip}/{k}" if clip else str(k),
                frames=bodies.number[rows],
                poses=bodies.poses[rows].astype(np.float32),
                confidence=bodies.weight[rows].astype(np.float32),
            )


def _people(bodies: Bodies, options: TrackingOptions) -> list[Labels]:
    """The detections of each person, in order of appearance."""
    tracklets, scenes = grow_tracklets(bodies, options.frame_rate)
    clear = [np.array(t.chain) for t in tracklets if not t.doubtful or len(t.chain) >= SHORT]
    paths = fill_gaps(bodies, _linked(bodies, clear, scenes, options), options.frame_rate)
    # whoever was left in doubt and lies in no gap may still begin or end a path; not ghosts,
    # which one by one resemble each other
    used = np.zeros(len(bodies.number), bool)
    used[list(chain(*paths))] = True
    doubtful = [np.array(t.chain) for t in tracklets if t.doubtful and len(t.chain) < SHORT]
    used |= bodies.weight.sum(1) < ENOUGH
    paths += [rest for rest in doubtful if not used[rest].any()]
    paths = _linked(bodies, sorted(paths, key=lambda path: path[0]), scenes, options)
    return sorted(
        (path for path in paths if len(path) >= options.min_length), key=lambda path: path[0]
    )


def _linked(
    bodies: Bodies, chains: list[Labels], scenes: Labels, options: TrackingOptions
) -> list[Labels]:
    """The detections of each person, of tracklets in order of their beginnings."""
    nodes = nodes_of(bodies, chains, scenes, options.max_gap, options.frame_rate)
    return [
        np.concatenate([chains[node] for node in path])
        for path in link(nodes, options.max_gap, options.window)
    ]


def fill_gaps(bodies: Bodies, paths: Sequence[Labels], rate: float) -> list[Labels]:
    """Paths with the unused detections that lie where they pass, by linear assignment."""
    used = np.zeros(len(bodies.number), bool)
    for path in paths:
        used[path] = True
    free = np.flatnonzero(~used)
    filled = [list(path) for path in paths]
    for rows in np.split(free, np.flatnonzero(np.diff(bodies.number[free])) + 1):
        if not len(rows):
            continue
        odds = np.zeros((len(paths), len(rows)))
        for row, path in enumerate(paths):
            odds[row] = _passing_odds(bodies, path, rows, rate)
        for k, column in zip(*linear_sum_assignment(odds, maximize=True), strict=True):
            if odds[k, column] > 0:
                filled[k].append(rows[column])
    return [np.sort(path) for path in filled]


def _passing_odds(bodies: Bodies, path: Labels, rows: Labels, rate: float) -> Reals:
    """Log-odds that detections of a frame are where a path passes, at least 0."""
    number = bodies.number[rows[0]]
    at = int(np.searchsorted(bodies.number[path], number))
    if at in (0, len(path)) or bodies.number[path[at]] == number:
        return np.zeros(len(rows))
    a, b = path[at - 1], path[at]
    share = (number - bodies.number[a]) / (bodies.number[b] - bodies.number[a])
    expected = (1 - share) * bodies.poses[a] + share * bodies.poses[b]
    weight = np.sqrt(np.minimum(bodies.weight[a], bodies.weight[b]) * bodies.weight[rows])
    size = np.sqrt(bodies.size[a] * bodies.size[b])
    away = min(number - bodies.number[a], bodies.number[b] - number)
    spread = np.full(len(rows), np.hypot(JITTER, away * SWAY * 30 / rate))
    odds: Reals = evidence((bodies.poses[rows] - expected) / size, weight, spread)
    return odds.clip(0)
