"""Tracking: the detections of each person over the frames of a clip.

Detections that follow each other without ambiguity become tracklets (:mod:`tracklets`); an
integer program decides which tracklets are people and which are the same person (:mod:`linking`,
:mod:`path_cover`); ambiguous detections then fill the gaps of the paths, or begin or end them.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError, GMMVAEWarning
from pyro_gmmvae.skeletons.detections import Detections, Reals, detections_of
from pyro_gmmvae.skeletons.layouts import Layout
from pyro_gmmvae.skeletons.linking import PERSON_CONFIDENCE, link, tracklet_graph
from pyro_gmmvae.skeletons.tracklets import JOINT_NOISE, JOINT_STEP, grow_tracklets, log_odds
from pyro_gmmvae.skeletons.tracks import Track

if TYPE_CHECKING:
    from pyro_gmmvae.skeletons.openpose import Frame

MIN_DETECTIONS = 3  # of an ambiguous tracklet whose velocity can be estimated


@dataclass(frozen=True)
class TrackingOptions:
    """Options of tracking.

    Attributes:
        frame_rate: frames per second, which bounds how far a person moves between two; of the
            frames that there are, if their numbers are times or those of every n-th frame.
        max_gap: frames in which a person may be missed (or hidden) and be recognized afterwards.
        min_length: detections below which a track is dropped.
        min_joints: joints below which a detection is dropped.
        window: frames that are solved together, at least twice the gap.
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

    The frames of one clip are in memory at a time. A track's gaps are frames in which the person
    was not detected. Numbers that rise by more than 10 in nearly all steps are times or those of
    every n-th frame: the frames are counted, with a warning, and the tracks have these counts as
    frame numbers. The result is deterministic.

    Args:
        frames: clip by clip, in order; frames may be empty, and numbers may be missing.
        layout: the joints.
        options: None: the defaults.

    Raises:
        GMMVAEError: frames out of order, or of another layout.
    """
    options = options or TrackingOptions()
    seen, counted = set[str](), False
    for clip, of_clip in groupby(frames, lambda frame: frame.clip):
        if clip in seen:
            raise GMMVAEError(
                f"clip {clip!r} comes twice, with another clip between; sort the frames by clip"
            )
        seen.add(clip)
        detections = detections_of(list(of_clip), layout, options.min_joints)
        if detections.step > 1 and not counted:
            counted = True  # one warning, for the first of such clips
            message = (
                f"clip {clip!r}: frame numbers rise by about {detections.step:g}, so that frames "
                f"are counted: 0, 1, ..., at {options.frame_rate:g} per second (frame_rate)"
            )
            warnings.warn(GMMVAEWarning(message), stacklevel=2)
        for k, rows in enumerate(_people(detections, options), 1):
            yield Track(
                sequence=f"{clip}/{k}" if clip else str(k),
                frames=detections.frame[rows],
                poses=detections.poses[rows].astype(np.float32),
                confidence=detections.confidence[rows].astype(np.float32),
            )


def _people(detections: Detections, options: TrackingOptions) -> list[Labels]:
    """The detections of each person, in order of appearance."""
    tracklets, scenes = grow_tracklets(detections, options.frame_rate)
    is_clear = [not t.ambiguous or len(t.rows) >= MIN_DETECTIONS for t in tracklets]
    clear = [np.array(t.rows) for t, is_one in zip(tracklets, is_clear, strict=True) if is_one]
    paths = _link_tracklets(detections, clear, scenes, options)
    paths = fill_gaps(detections, paths, options.frame_rate)
    # an ambiguous detection outside of gaps may still begin or end a path; not false detections,
    # which resemble each other
    used = np.zeros(len(detections.frame), bool)
    used[list(chain(*paths))] = True
    rest = [np.array(t.rows) for t, is_one in zip(tracklets, is_clear, strict=True) if not is_one]
    used |= detections.confidence.sum(1) < PERSON_CONFIDENCE
    paths += [rows for rows in rest if not used[rows].any()]
    paths = _link_tracklets(detections, sorted(paths, key=lambda path: path[0]), scenes, options)
    return sorted(
        (path for path in paths if len(path) >= options.min_length), key=lambda path: path[0]
    )


def _link_tracklets(
    detections: Detections, tracklets: list[Labels], scenes: Labels, options: TrackingOptions
) -> list[Labels]:
    """The detections of each person, from tracklets in order of their first frames."""
    graph = tracklet_graph(detections, tracklets, scenes, options.max_gap, options.frame_rate)
    return [
        np.concatenate([tracklets[node] for node in path])
        for path in link(graph, options.max_gap, options.window)
    ]


def fill_gaps(detections: Detections, paths: Sequence[Labels], rate: float) -> list[Labels]:
    """Add unused detections to the paths in whose gaps they lie, by linear assignment."""
    used = np.zeros(len(detections.frame), bool)
    for path in paths:
        used[path] = True
    free = np.flatnonzero(~used)
    filled = [list(path) for path in paths]
    for rows in np.split(free, np.flatnonzero(np.diff(detections.frame[free])) + 1):
        if not len(rows):
            continue
        odds = np.zeros((len(paths), len(rows)))
        for row, path in enumerate(paths):
            odds[row] = _gap_log_odds(detections, path, rows, rate)
        for k, column in zip(*linear_sum_assignment(odds, maximize=True), strict=True):
            if odds[k, column] > 0:
                filled[k].append(rows[column])
    return [np.sort(path) for path in filled]


def _gap_log_odds(detections: Detections, path: Labels, rows: Labels, rate: float) -> Reals:
    """Log-odds, at least 0, that detections of a frame lie in a gap of a path."""
    number = detections.frame[rows[0]]
    at = int(np.searchsorted(detections.frame[path], number))
    if at in (0, len(path)) or detections.frame[path[at]] == number:
        return np.zeros(len(rows))
    a, b = path[at - 1], path[at]
    share = (number - detections.frame[a]) / (detections.frame[b] - detections.frame[a])
    expected = (1 - share) * detections.poses[a] + share * detections.poses[b]
    weight = np.sqrt(
        np.minimum(detections.confidence[a], detections.confidence[b]) * detections.confidence[rows]
    )
    size = np.sqrt(detections.height[a] * detections.height[b])
    away = min(number - detections.frame[a], detections.frame[b] - number)
    spread = np.full(len(rows), np.hypot(JOINT_NOISE, away * JOINT_STEP * 30 / rate))
    odds: Reals = log_odds((detections.poses[rows] - expected) / size, weight, spread)
    return odds.clip(0)
