"""Linking of tracklets to people: the graph of tracklets, solved in windows of bounded size."""

from dataclasses import dataclass

import numpy as np

from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.skeletons.detections import Detections, Reals, nan_quantile
from pyro_gmmvae.skeletons.path_cover import PathCover, solve
from pyro_gmmvae.skeletons.tracklets import (
    JOINT_NOISE,
    JOINT_STEP,
    VELOCITY_SPREAD,
    MotionState,
    log_odds,
    motion_states,
)

ENTER_OR_LEAVE = 3.0  # nats, cost of a person's entering or leaving
MISSED_FRAME = 0.1  # nats per frame in which a person is not detected
MAX_SPEED = 0.25  # heights per frame at 30 frames per second: 13 m/s
MAX_OFFSET = 0.3  # heights between the ends of a gap that are possible at any speed
HEIGHT_CHANGE = 0.06  # scale of the change of one person's log height over a gap
HEIGHT_DIFFERENCE = 0.3  # scale of the difference of two people's log heights
MAX_LIMB_MOTION = 0.05  # heights that limbs move relative to the body, at most
OTHER_POSE_SPREAD = 0.08  # heights that another person's joints differ relative to the body
DEGREES_OF_FREEDOM = 4.0  # of Student's t
DUPLICATE_SIMILARITY = 0.5  # similarity of poses above which two detections are one person's
JOINT_TOLERANCE = 0.1  # heights, scale of that similarity
PAIRS_AT_ONCE = 20_000
PERSON_CONFIDENCE = 3.0  # sum of confidence at which a detection is as likely a person as not


@dataclass(frozen=True)
class TrackletGraph:
    """A graph with tracklets as nodes, in order of their first frames.

    Attributes:
        tracklets: N arrays of rows of the detections.
        begin, end: (N,) first and last frame numbers.
        keep: (N,) log-odds that a tracklet is a person.
        links: (M, 2) tracklets u before v that may be one person.
        gain: (M,) log-odds that they are.
        exclusions: (C, 2) tracklets that detect one person twice in the same frames.
    """

    tracklets: list[Labels]
    begin: Labels
    end: Labels
    keep: Reals
    links: Labels
    gain: Reals
    exclusions: Labels


def tracklet_graph(
    detections: Detections, tracklets: list[Labels], scenes: Labels, max_gap: int, rate: float
) -> TrackletGraph:
    """Build the graph of tracklets (arrays of rows of the detections, by their first frames)."""
    begin = np.array([detections.frame[tracklet[0]] for tracklet in tracklets], np.int64)
    end = np.array([detections.frame[tracklet[-1]] for tracklet in tracklets], np.int64)
    pairs = _candidate_links(begin, end, scenes, max_gap)
    links, gain = _scored_links(detections, tracklets, pairs, rate)
    keep = np.array([_person_log_odds(detections, tracklet) for tracklet in tracklets])
    return TrackletGraph(
        tracklets, begin, end, keep, links, gain, _duplicates(detections, tracklets, begin, end)
    )


def _candidate_links(begin: Labels, end: Labels, scenes: Labels, max_gap: int) -> Labels:
    """(M, 2) pairs where v begins at most max_gap frames after the end of u, in one scene."""
    pairs = []
    scene = np.searchsorted(scenes, begin, "right")
    for u, (last, of) in enumerate(zip(end, np.searchsorted(scenes, end, "right"), strict=True)):
        low, high = np.searchsorted(begin, [last + 1, last + max_gap + 2])
        pairs += [(u, v) for v in range(low, high) if scene[v] == of]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _scored_links(
    detections: Detections, tracklets: list[Labels], pairs: Labels, rate: float
) -> tuple[Labels, Reals]:
    """The pairs that can be one person, and the log-odds that they are."""
    if not len(pairs):
        return pairs, np.zeros(0)
    after = motion_states(detections, tracklets, rate)
    before = motion_states(detections, [tracklet[::-1] for tracklet in tracklets], rate)
    parts = np.array_split(pairs, len(pairs) // PAIRS_AT_ONCE + 1)
    odds = np.concatenate(
        [
            _link_log_odds(_rows(after, part[:, 0]), _rows(before, part[:, 1]), rate)
            for part in parts
        ]
    )
    likely = odds > -2 * ENTER_OR_LEAVE  # otherwise leaving and entering is more likely
    return pairs[likely], odds[likely]


def _link_log_odds(after: MotionState, before: MotionState, rate: float) -> Reals:
    """Log-odds (M,) that a gap joins one person's tracklets; -inf where it can't.

    The sum of five terms: the body's position given both velocities, the change of velocity, the
    motion of limbs, the change of height, and the frames between without a detection.

    Args:
        after: the states before the gap, at the ends of the first tracklets.
        before: the states after the gap, at the beginnings of the second ones.
        rate: frames per second.
    """
    gap = (before.frame - after.frame).astype(np.float64)
    size = np.sqrt(after.height * before.height)
    move = (before.pose - after.pose) / size[:, None, None]
    weight = np.sqrt(after.confidence * before.confidence)
    shift = nan_quantile(np.where(weight > 0, move.transpose(2, 0, 1), np.nan), 0.5).T
    known = np.isfinite(shift[:, 0])
    shift = np.where(known[:, None], shift, 0)
    possible = known & (np.hypot(*shift.T) < MAX_OFFSET + MAX_SPEED * 30 / rate * gap)
    # the more precise velocity has the larger weight
    trust = np.stack([after.velocity_scale**-2, before.velocity_scale**-2])
    speed = np.stack([after.velocity, before.velocity]) / size[:, None]
    expected = (trust[..., None] * speed).sum(0) / trust.sum(0)[:, None]
    miss = np.hypot(*(shift - expected * gap[:, None]).T)
    turn = np.hypot(*(speed[1] - speed[0]).T)
    unsteady = np.hypot(after.velocity_scale, before.velocity_scale)
    stray = np.hypot(JOINT_NOISE, gap / np.sqrt(trust.sum(0)))
    limbs = np.hypot(JOINT_NOISE, np.minimum(gap * JOINT_STEP * 30 / rate, MAX_LIMB_MOTION))
    odds = (
        _log_t(miss, stray, 2)
        - np.log(2 * np.pi)
        + _log_t(turn, unsteady, 2)
        - _log_t(turn, np.hypot(unsteady, VELOCITY_SPREAD * 30 / rate), 2)
        + _log_t(np.log(before.height / after.height), HEIGHT_CHANGE, 1)
        - _log_t(np.log(before.height / after.height), HEIGHT_DIFFERENCE, 1)
        + log_odds(move - shift[:, None], weight, limbs, OTHER_POSE_SPREAD)
        - MISSED_FRAME * (gap - 1)
    )
    return np.where(possible, odds, -np.inf)


def _log_t(distance: Reals, scale: Reals | float, dimensions: int) -> Reals:
    """Log density of Student's t, up to a constant.

    People mostly keep their velocity, and sometimes turn or jump: tails are heavy.
    """
    freedom, square = DEGREES_OF_FREEDOM, (distance / scale) ** 2
    return -dimensions * np.log(scale) - (freedom + dimensions) / 2 * np.log1p(square / freedom)


def _rows(known: MotionState, rows: Labels) -> MotionState:
    return MotionState(**{name: value[rows] for name, value in vars(known).items()})


def _person_log_odds(detections: Detections, tracklet: Labels) -> float:
    """Log-odds that detections are a person: many confident joints in many frames.

    sum_t clip((c_t - 3) / 3, -1, 1) + (T - 1) / 2,   c_t the sum of the joints' confidence.
    """
    joints = detections.confidence[tracklet].sum(1)
    odds = ((joints - PERSON_CONFIDENCE) / PERSON_CONFIDENCE).clip(-1, 1)
    return float(odds.sum() + 0.5 * (len(tracklet) - 1))


def _duplicates(
    detections: Detections, tracklets: list[Labels], begin: Labels, end: Labels
) -> Labels:
    """Pairs of tracklets that coincide in most of the shorter one's frames.

    By the object keypoint similarity of COCO, mean_j exp(-d_j^2 / (2 (0.1 h)^2)).
    """
    pairs = []
    for v in range(len(tracklets)):
        for u in np.flatnonzero((end[:v] >= begin[v]) & (begin[:v] <= end[v])):
            _, i, j = np.intersect1d(
                detections.frame[tracklets[u]], detections.frame[tracklets[v]], return_indices=True
            )
            a, b = tracklets[u][i], tracklets[v][j]
            square = ((detections.poses[a] - detections.poses[b]) ** 2).sum(-1)
            common = np.isfinite(square)
            scale = 2 * JOINT_TOLERANCE**2 * detections.height[a] * detections.height[b]
            alike = np.where(common, np.exp(-np.where(common, square, 0) / scale[:, None]), 0)
            alike = alike.sum(1) / common.sum(1).clip(1)
            same = (alike > DUPLICATE_SIMILARITY) & (common.sum(1) >= 2)
            if 2 * same.sum() > min(len(tracklets[u]), len(tracklets[v])):
                pairs.append((u, v))
    return np.array(pairs, np.int64).reshape(-1, 2)


def link(graph: TrackletGraph, max_gap: int, window: int) -> list[list[int]]:
    """The tracklets of each person, solved in windows that overlap by half.

    The first half of a window's solution is final: which of its tracklets are people, and their
    predecessors. The next window continues from the ends of these paths.
    """
    linker = _Linker(graph)
    step = max(window // 2, max_gap + 1)
    while linker.final < len(graph.tracklets):
        start = graph.begin[linker.final]
        last, stop = np.searchsorted(graph.begin, [start + step, start + 2 * step])
        linker.solve(int(last), int(stop), int(start) - max_gap - 1)
    return linker.paths()


class _Linker:
    """Decisions of earlier windows, for the nodes up to ``final``: kept ones and predecessors."""

    def __init__(self, graph: TrackletGraph) -> None:
        n = len(graph.tracklets)
        self.graph = graph
        self.final = 0
        self.kept = np.zeros(n, bool)
        self.before = np.full(n, -1)
        self.followed = np.zeros(n, bool)

    def solve(self, last: int, stop: int, reach: int) -> None:
        """Decide the nodes up to ``last`` in a window up to ``stop``.

        Kept nodes that ended before the frame ``reach`` can't be continued.
        """
        graph = self.graph
        old = np.flatnonzero(self.kept[: self.final] & (graph.end[: self.final] >= reach))
        new = np.arange(self.final, stop)
        new = new[~np.isin(new, self._excluded())]
        chosen = np.r_[old, new]
        local = np.full(len(graph.tracklets), -1)
        local[chosen] = np.arange(len(chosen))
        links, rivals = local[graph.links], local[graph.exclusions]
        inside = (links[:, 0] >= 0) & (links[:, 1] >= len(old))
        inside &= ~self.followed[graph.links[:, 0]]
        cover = solve(
            PathCover(
                keep=graph.keep[chosen],
                enter=np.full(len(chosen), ENTER_OR_LEAVE),
                leave=np.where(self.followed[chosen], 0, ENTER_OR_LEAVE),
                links=links[inside],
                gain=graph.gain[inside],
                exclusions=rivals[(rivals >= len(old)).all(1)],
                held=np.arange(len(chosen)) < len(old),
            )
        )
        now = chosen[cover.kept]
        self.kept[now[now < last]] = True
        for u, v in graph.links[inside][cover.used]:
            if v < last:
                self.before[v], self.followed[u] = u, True
        self.final = last

    def _excluded(self) -> Labels:
        """Nodes that are duplicates of kept ones."""
        first, second = self.graph.exclusions.T
        return np.r_[second[self.kept[first]], first[self.kept[second]]]

    def paths(self) -> list[list[int]]:
        """The nodes of each person, in order of their first frames."""
        paths: dict[int, list[int]] = {}
        for node in np.flatnonzero(self.kept):
            paths[int(node)] = [*paths.pop(int(self.before[node]), []), int(node)]
        return sorted(paths.values())
