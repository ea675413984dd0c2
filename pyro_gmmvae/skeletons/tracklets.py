"""Tracklets: detections that follow each other beyond doubt.

Frame by frame, detections are assigned to the people seen just before, who are expected to move
on as they did. A pair is taken only if every other assignment is worse by a margin; where two
people come too near each other to tell, their tracklets end, and :mod:`linking` decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.skeletons.detections import Bodies, Reals

# standard deviations, in heights: of a joint where it is, of a joint's step in a frame at 30
# frames a second, beyond the body's known velocity, and of one whose velocity is unknown
JITTER = 0.02
SWAY = 0.012
STRIDE = 0.03
DRIFT = 0.004  # of the body's velocity
SURE = 8.0  # nats below which nothing is beyond doubt
LOST_JOINT = 0.02  # joints found where they should not be: left and right exchanged
JOINTS_THAT_COUNT = 3.0  # joints move together: so many are independent evidence
MARGIN = 4.0  # nats by which an assignment must be better than any other
PATIENCE = 10  # frames
RECALL = 10  # frames that velocity and pose are taken from
FOLLOWED = 3  # frames after which a person counts as one
STAYING = 0.25  # share of the people who may be found again after a cut, by chance


@dataclass(frozen=True)
class Outlook:
    """Where people are expected after (or before) their last (or first) detection.

    Attributes:
        pose: (N, J, 2) pixels at that detection, joints lost shortly before moved along.
        weight: (N, J) confidence.
        velocity: (N, 2) pixels a frame.
        steady: (N,) standard deviation of the velocity, heights a frame.
        size: (N,) height in pixels.
        number: (N,) frame number.
    """

    pose: Reals
    weight: Reals
    velocity: Reals
    steady: Reals
    size: Reals
    number: Labels


def evidence(residual: Reals, weight: Reals, spread: Reals, other: float | None = None) -> Reals:
    """Log-odds (nats) that two poses are one person's, against another's.

    For joints j both have, with residual r_j (in heights) and confidences w_j:

        n' / (n' + 1) 3 sum_j w_j log((1 - e) N(r_j; 0, s^2 I) / U(r_j) + e) / sum_j w_j,

    n' = sum_j w_j, e the share of joints found elsewhere, U the density of another's joints: 1
    per squared height, or N(r_j; 0, o^2 I). -inf where no joint is common.

    Args:
        residual: (..., J, 2), NaN where a joint is missing.
        weight: (..., J) in [0, 1].
        spread: (...,) s, in heights.
        other: o, in heights; None: another may be anywhere within a height.
    """
    square = (residual**2).sum(-1)
    both = np.isfinite(square) & (weight > 0)
    variance = spread[..., None] ** 2
    square = np.where(both, square, 0)
    if other is None:
        ratio = np.exp(-square / (2 * variance)) / (2 * np.pi * variance)
    else:
        ratio = np.exp(-square * (1 / variance - other**-2) / 2) * other**2 / variance
    odds = np.log((1 - LOST_JOINT) * ratio + LOST_JOINT)
    weight = np.where(both, weight, 0)
    total = weight.sum(-1)
    mean = (weight * odds).sum(-1) / np.where(total > 0, total, 1)
    return np.where(total > 0, JOINTS_THAT_COUNT * total / (total + 1) * mean, -np.inf)


def outlook(bodies: Bodies, chains: Sequence[Labels], rate: float) -> Outlook:
    """The outlook of each chain of detections: onwards from its last one.

    Chains in the order of time give what follows, reversed ones what came before. The velocity
    is the median of the joints' least-squares slopes over the last detections.
    """
    n, joints = len(chains), bodies.poses.shape[1]
    at = np.full((n, RECALL), -1)
    for row, chain in enumerate(chains):
        recent = chain[-RECALL:]
        at[row, RECALL - len(recent) :] = recent
    last = at[:, -1]
    time = np.where(at >= 0, bodies.number[at] - bodies.number[last][:, None], 0)
    here = (at >= 0) & (np.abs(time) < RECALL)
    seen = here[..., None] & (bodies.weight[at] > 0)
    poses = np.where(seen[..., None], bodies.poses[at], 0)
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
    newest = RECALL - 1 - seen[:, ::-1].argmax(1)  # (N, J) when each joint was last seen
    rows, columns = np.arange(n)[:, None], np.arange(joints)[None]
    ever = seen.any(1)
    pose = poses[rows, newest, columns] - t[rows, newest, columns][..., None] * velocity[:, None]
    size = np.exp(np.where(here, np.log(bodies.size[at]), 0).sum(1) / here.sum(1))
    span = np.where(here, np.abs(time), 0).max(1)
    steady = np.hypot(DRIFT * 30 / rate, JITTER / span.clip(1))
    stride = STRIDE * 30 / rate
    return Outlook(
        pose=np.where(ever[..., None], pose, np.nan),
        weight=np.where(ever, bodies.weight[at][rows, newest, columns], 0),
        velocity=velocity,
        steady=np.where(known & (span > 1), steady.clip(None, stride), stride),
        size=size,
        number=bodies.number[last],
    )


@dataclass
class Tracklet:
    """Detections of one person.

    Attributes:
        chain: their rows in the bodies, in order.
        doubtful: whether it begins or ends where people could not be told apart.
    """

    chain: list[int] = field(default_factory=list)
    doubtful: bool = False


def grow_tracklets(bodies: Bodies, rate: float) -> tuple[list[Tracklet], Labels]:
    """The tracklets of a clip, in order of their beginnings, and the first frames of its scenes.

    Args:
        bodies: the clip's detections.
        rate: frames a second.
    """
    grown: list[Tracklet] = []
    active: list[Tracklet] = []
    scenes: list[int] = []
    edges = np.searchsorted(bodies.number, [*bodies.numbers, np.iinfo(np.int64).max])
    rows = [np.arange(*span) for span in pairwise(edges)]
    for at, number in enumerate(bodies.numbers):
        active = [t for t in active if number - bodies.number[t.chain[-1]] <= PATIENCE]
        if at == 0 or is_cut(bodies, active, rows[at : at + 3], rate):
            scenes.append(int(number))
            active = []
        new = rows[at]
        partner, doubtful, closed = _assign(bodies, active, new, rate)
        kept = [t for t, shut in zip(active, closed, strict=True) if not shut]
        for row in np.flatnonzero(closed):
            active[row].doubtful = True
        for detection, row, doubt in zip(new, partner, doubtful, strict=True):
            if row >= 0 and not doubt:
                active[row].chain.append(int(detection))
            else:
                grown.append(Tracklet([int(detection)], bool(doubt)))
                kept.append(grown[-1])
        active = kept
    return grown, np.array(scenes, np.int64)


def _assign(
    bodies: Bodies, active: Sequence[Tracklet], new: Labels, rate: float
) -> tuple[Labels, NDArray[np.bool_], NDArray[np.bool_]]:
    """Whom each new detection follows (-1: nobody), whether that is in doubt, and who ends."""
    closed = np.zeros(len(active), bool)
    if not active or not len(new):
        return np.full(len(new), -1), np.zeros(len(new), bool), closed
    known = outlook(bodies, [np.array(t.chain[-RECALL:]) for t in active], rate)
    odds = next_odds(known, bodies, new, rate)
    partner = best_partners(odds)
    rivals = _rivals(odds, partner) & (partner >= 0)
    doubtful = rivals.any(0)
    closed[rivals.any(1)] = True
    closed[partner[doubtful]] = True
    # one who ends for another's sake is not continued either
    doubtful |= (partner >= 0) & closed[partner]
    unsure = odds[partner, np.arange(len(new))] < SURE
    partner[unsure & ~doubtful] = -1
    return partner, doubtful, closed


def next_odds(known: Outlook, bodies: Bodies, new: Labels, rate: float) -> Reals:
    """Log-odds (A, P) that detections of one frame are the people expected there."""
    steps = (bodies.number[new[0]] - known.number).astype(np.float64)
    expected = known.pose + (known.velocity * steps[:, None])[:, None]
    residual = (bodies.poses[new] - expected[:, None]) / known.size[:, None, None, None]
    weight = np.sqrt(known.weight[:, None] * bodies.weight[new])
    spread = np.hypot(JITTER, steps * np.hypot(SWAY * 30 / rate, known.steady))
    return evidence(residual, weight, spread[:, None])


def best_partners(odds: Reals) -> Labels:
    """The assignment of greatest sum: each column's row, -1 where none is better than nobody."""
    rows, columns = linear_sum_assignment(odds.clip(0), maximize=True)
    partner = np.full(odds.shape[1], -1)
    partner[columns] = np.where(odds[rows, columns] > 0, rows, -1)
    return partner


def _rivals(odds: Reals, partner: Labels) -> NDArray[np.bool_]:
    """(A, P): where giving a detection to another person costs less than the margin.

    That person's own detection then goes to the one who loses, or to nobody.
    """
    odds = odds.clip(0)
    people, columns = odds.shape
    matched = np.flatnonzero(partner >= 0)
    own = np.full(people, -1)
    own[partner[matched]] = matched
    value = np.where(own >= 0, odds[np.arange(people), own], 0)
    held = np.where(partner >= 0, odds[partner, np.arange(columns)], 0)
    # what the loser of column p gets in the place of it: the column that person a had
    back = np.where((own >= 0)[:, None], odds[partner[None, :], own[:, None]], 0)
    loss = held + value[:, None] - odds - back
    loss[partner[matched], matched] = np.inf
    return (loss < MARGIN) & (odds > 0)


def is_cut(
    bodies: Bodies, active: Sequence[Tracklet], frames: Sequence[Labels], rate: float
) -> bool:
    """Whether all people are replaced at once: hardly anybody who was followed is found again.

    One bad frame is no cut, so that all the frames given, one or two, must be of strangers.
    """
    followed = [np.array(t.chain[-RECALL:]) for t in active if len(t.chain) >= FOLLOWED]
    if len(followed) < 2:
        return False
    known = outlook(bodies, followed, rate)
    for new in frames:
        if len(new) < 2:
            return False
        partner = best_partners(next_odds(known, bodies, new, rate))
        if (partner >= 0).sum() > STAYING * min(len(followed), len(new)):
            return False
    return True
