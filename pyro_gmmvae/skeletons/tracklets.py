"""Tracklets: detections of consecutive frames that are one person's without ambiguity.

Frame by frame, detections are assigned to the people detected just before, who are expected to
keep their velocity. A pair is accepted only if every other assignment is worse by a margin; where
two people come too close to be distinguished, their tracklets end, and :mod:`linking` decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.skeletons.detections import MAX_MISSED, Detections, Reals

# standard deviations, in heights: of a joint's detected position; per frame at 30 frames a second,
# of a joint's motion beyond the body's velocity, and of a body's unknown velocity and its change
JOINT_NOISE = 0.02
JOINT_STEP = 0.012
VELOCITY_SPREAD = 0.03
VELOCITY_CHANGE = 0.004
MIN_LOG_ODDS = 8.0  # nats that a pair needs to be unambiguous
OUTLIER_SHARE = 0.02  # of joints detected in a wrong place, such as left and right exchanged
INDEPENDENT_JOINTS = 3.0  # joints move together: evidence is that of so many independent ones
MARGIN = 4.0  # nats by which an assignment must be better than any other
HISTORY = 10  # frames from which velocity and pose are estimated
MIN_HISTORY = 3  # detections of a tracklet that takes part in finding cuts
MAX_REFOUND_SHARE = 0.25  # of the people who may match after a cut, by chance


@dataclass(frozen=True)
class MotionState:
    """Pose and velocity of people at their last (or first) detection.

    Attributes:
        pose: (N, J, 2) pixels at that detection; joints lost shortly before are moved along.
        confidence: (N, J) in [0, 1].
        velocity: (N, 2) pixels per frame.
        velocity_scale: (N,) standard deviation of the velocity, heights per frame.
        height: (N,) pixels.
        frame: (N,) frame numbers.
    """

    pose: Reals
    confidence: Reals
    velocity: Reals
    velocity_scale: Reals
    height: Reals
    frame: Labels


def log_odds(residual: Reals, weight: Reals, spread: Reals, other: float | None = None) -> Reals:
    """Log-odds (nats) that two poses are one person's, against two people's.

    For joints j that both have, with residual r_j (in heights) and confidences w_j:

        n' / (n' + 1) 3 sum_j w_j log((1 - e) N(r_j; 0, s^2 I) / U(r_j) + e) / sum_j w_j,

    n' = sum_j w_j, e the share of outliers, U the density of another person's joints: 1 per
    squared height, or N(r_j; 0, o^2 I). -inf where no joint is common.

    Args:
        residual: (..., J, 2), NaN where a joint is missing.
        weight: (..., J) in [0, 1].
        spread: (...,) s, in heights.
        other: o, in heights; None: another person may be anywhere within a height.
    """
    square = (residual**2).sum(-1)
    both = np.isfinite(square) & (weight > 0)
    variance = spread[..., None] ** 2
    square = np.where(both, square, 0)
    if other is None:
        ratio = np.exp(-square / (2 * variance)) / (2 * np.pi * variance)
    else:
        ratio = np.exp(-square * (1 / variance - other**-2) / 2) * other**2 / variance
    odds = np.log((1 - OUTLIER_SHARE) * ratio + OUTLIER_SHARE)
    weight = np.where(both, weight, 0)
    total = weight.sum(-1)
    mean = (weight * odds).sum(-1) / np.where(total > 0, total, 1)
    return np.where(total > 0, INDEPENDENT_JOINTS * total / (total + 1) * mean, -np.inf)


def motion_states(detections: Detections, tracklets: Sequence[Labels], rate: float) -> MotionState:
    """The motion state at the last detection of each tracklet.

    Tracklets (rows of the detections) in the order of time give the state after them, reversed
    ones the state before. The velocity is the median of the joints' least-squares slopes over
    the last detections.
    """
    n, joints = len(tracklets), detections.poses.shape[1]
    at = np.full((n, HISTORY), -1)
    for row, tracklet in enumerate(tracklets):
        recent = tracklet[-HISTORY:]
        at[row, HISTORY - len(recent) :] = recent
    last = at[:, -1]
    time = np.where(at >= 0, detections.frame[at] - detections.frame[last][:, None], 0)
    here = (at >= 0) & (np.abs(time) < HISTORY)
    seen = here[..., None] & (detections.confidence[at] > 0)
    poses = np.where(seen[..., None], detections.poses[at], 0)
    t = np.where(seen, time[..., None], 0).astype(np.float64)
    count = seen.sum(1).clip(1)
    centered = np.where(seen, t - (t.sum(1) / count)[:, None], 0)
    lever = (centered**2).sum(1)
    with np.errstate(invalid="ignore"):
        slopes = (centered[..., None] * poses).sum(1) / np.where(lever > 0, lever, np.nan)[
            ..., None
        ]
    moving = np.isfinite(slopes[..., 0])
    velocity = np.zeros((n, 2))
    known = moving.any(1)
    if known.any():
        velocity[known] = np.nanmedian(slopes[known], 1)
    newest = HISTORY - 1 - seen[:, ::-1].argmax(1)  # (N, J) when each joint was last seen
    rows, columns = np.arange(n)[:, None], np.arange(joints)[None]
    ever = seen.any(1)
    pose = poses[rows, newest, columns] - t[rows, newest, columns][..., None] * velocity[:, None]
    height = np.exp(np.where(here, np.log(detections.height[at]), 0).sum(1) / here.sum(1))
    span = np.where(here, np.abs(time), 0).max(1)
    scale = np.hypot(VELOCITY_CHANGE * 30 / rate, JOINT_NOISE / span.clip(1))
    widest = VELOCITY_SPREAD * 30 / rate
    return MotionState(
        pose=np.where(ever[..., None], pose, np.nan),
        confidence=np.where(ever, detections.confidence[at][rows, newest, columns], 0),
        velocity=velocity,
        velocity_scale=np.where(known & (span > 1), scale.clip(None, widest), widest),
        height=height,
        frame=detections.frame[last],
    )


@dataclass
class Tracklet:
    """Detections of one person.

    Attributes:
        rows: of the detections, in order.
        ambiguous: whether it begins or ends where people could not be distinguished.
    """

    rows: list[int] = field(default_factory=list)
    ambiguous: bool = False


def grow_tracklets(detections: Detections, rate: float) -> tuple[list[Tracklet], Labels]:
    """The tracklets of a clip, by their first frames, and the first frames of its scenes.

    Args:
        detections: the clip's detections.
        rate: frames per second.
    """
    grown: list[Tracklet] = []
    active: list[Tracklet] = []
    scenes: list[int] = []
    edges = np.searchsorted(detections.frame, [*detections.frames, np.iinfo(np.int64).max])
    rows = [np.arange(*span) for span in pairwise(edges)]
    for at, number in enumerate(detections.frames):
        active = [t for t in active if number - detections.frame[t.rows[-1]] <= MAX_MISSED]
        if at == 0 or is_cut(detections, active, rows[at : at + 3], rate):
            scenes.append(int(number))
            active = []
        new = rows[at]
        partner, ambiguous, closed = _assign(detections, active, new, rate)
        kept = [t for t, shut in zip(active, closed, strict=True) if not shut]
        for row in np.flatnonzero(closed):
            active[row].ambiguous = True
        for detection, row, is_ambiguous in zip(new, partner, ambiguous, strict=True):
            if row >= 0 and not is_ambiguous:
                active[row].rows.append(int(detection))
            else:
                grown.append(Tracklet([int(detection)], bool(is_ambiguous)))
                kept.append(grown[-1])
        active = kept
    return grown, np.array(scenes, np.int64)


def _assign(
    detections: Detections, active: Sequence[Tracklet], new: Labels, rate: float
) -> tuple[Labels, NDArray[np.bool_], NDArray[np.bool_]]:
    """Assign new detections to tracklets.

    Returns:
        The row in ``active`` of each detection (-1: none), whether that is ambiguous, and which
        of the active tracklets end.
    """
    closed = np.zeros(len(active), bool)
    if not active or not len(new):
        return np.full(len(new), -1), np.zeros(len(new), bool), closed
    known = motion_states(detections, [np.array(t.rows[-HISTORY:]) for t in active], rate)
    odds = next_log_odds(known, detections, new, rate)
    partner = best_partners(odds)
    rivals = _has_rival(odds, partner) & (partner >= 0)
    ambiguous = rivals.any(0)
    closed[rivals.any(1)] = True
    closed[partner[ambiguous]] = True
    # a tracklet that ends because of another one is not continued either
    ambiguous |= (partner >= 0) & closed[partner]
    unsure = odds[partner, np.arange(len(new))] < MIN_LOG_ODDS
    partner[unsure & ~ambiguous] = -1
    return partner, ambiguous, closed


def next_log_odds(known: MotionState, detections: Detections, new: Labels, rate: float) -> Reals:
    """Log-odds (A, P) that the detections of one frame are the people expected there."""
    steps = (detections.frame[new[0]] - known.frame).astype(np.float64)
    expected = known.pose + (known.velocity * steps[:, None])[:, None]
    residual = (detections.poses[new] - expected[:, None]) / known.height[:, None, None, None]
    weight = np.sqrt(known.confidence[:, None] * detections.confidence[new])
    spread = np.hypot(JOINT_NOISE, steps * np.hypot(JOINT_STEP * 30 / rate, known.velocity_scale))
    return log_odds(residual, weight, spread[:, None])


def best_partners(odds: Reals) -> Labels:
    """Each column's row in the assignment of greatest sum, -1 where no row is better than none."""
    rows, columns = linear_sum_assignment(odds.clip(0), maximize=True)
    partner = np.full(odds.shape[1], -1)
    partner[columns] = np.where(odds[rows, columns] > 0, rows, -1)
    return partner


def _has_rival(odds: Reals, partner: Labels) -> NDArray[np.bool_]:
    """(A, P): where assigning a detection to another person costs less than the margin.

    The detection of that person is then assigned to the person who loses this one, or to none.
    """
    odds = odds.clip(0)
    people, columns = odds.shape
    matched = np.flatnonzero(partner >= 0)
    own = np.full(people, -1)
    own[partner[matched]] = matched
    value = np.where(own >= 0, odds[np.arange(people), own], 0)
    held = np.where(partner >= 0, odds[partner, np.arange(columns)], 0)
    # the person who loses column p gets the column that person a had
    back = np.where((own >= 0)[:, None], odds[partner[None, :], own[:, None]], 0)
    loss = held + value[:, None] - odds - back
    loss[partner[matched], matched] = np.inf
    return (loss < MARGIN) & (odds > 0)


def is_cut(
    detections: Detections, active: Sequence[Tracklet], frames: Sequence[Labels], rate: float
) -> bool:
    """Whether all people are replaced at once, as hardly any tracklet matches a detection.

    One bad frame is not a cut: none of the given frames may match.
    """
    followed = [np.array(t.rows[-HISTORY:]) for t in active if len(t.rows) >= MIN_HISTORY]
    if len(followed) < 2:
        return False
    known = motion_states(detections, followed, rate)
    for new in frames:
        if len(new) < 2:
            return False
        partner = best_partners(next_log_odds(known, detections, new, rate))
        if (partner >= 0).sum() > MAX_REFOUND_SHARE * min(len(followed), len(new)):
            return False
    return True
