"""Tracklets to people: what the integer program is given, and windows that bound its size."""

from dataclasses import dataclass

import numpy as np

from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.skeletons.detections import Bodies, Reals, quantile
from pyro_gmmvae.skeletons.path_cover import PathCover, solve
from pyro_gmmvae.skeletons.tracklets import JITTER, STRIDE, SWAY, Outlook, evidence, outlook

COME_OR_GO = 3.0  # nats that a person's entering or leaving costs, each
MISSED = 0.1  # nats a frame in which a person who is there is not detected
FASTEST = 0.25  # heights a frame at 30 frames a second: 13 m/s
NEAR = 0.3  # heights that a gap's ends may lie apart at any speed
GROWTH = 0.06  # scale of a change of one person's log height, over a gap
GROWTHS = 0.3  # the same between people
LIMBS = 0.05  # heights by which limbs leave their place in the body, at most
OTHER_POSE = 0.08  # heights by which another person's joints do
TAIL = 4.0  # degrees of freedom
OVERLAP = 0.5  # similarity of poses above which two detections are one person's
TOLERANCE = 0.1  # heights that a joint may be off by in that similarity
PAIRS_AT_ONCE = 20_000
ENOUGH = 3.0  # sum of confidence at which a detection is as likely a person as none


@dataclass(frozen=True)
class Nodes:
    """Tracklets as nodes, in order of their beginnings.

    Attributes:
        chains: their detections.
        begin, end: (N,) first and last frame numbers.
        keep: (N,) log-odds that they are people.
        links: (M, 2) u before v that may be one person.
        gain: (M,) log-odds of that.
        exclusions: (C, 2) nodes that are one person, twice in the same frames.
    """

    chains: list[Labels]
    begin: Labels
    end: Labels
    keep: Reals
    links: Labels
    gain: Reals
    exclusions: Labels


def nodes_of(
    bodies: Bodies, chains: list[Labels], scenes: Labels, max_gap: int, rate: float
) -> Nodes:
    """What the program needs to know of tracklets (lists of detections, by their beginnings)."""
    begin = np.array([bodies.number[chain[0]] for chain in chains], np.int64)
    end = np.array([bodies.number[chain[-1]] for chain in chains], np.int64)
    pairs = _may_follow(begin, end, scenes, max_gap)
    links, gain = _scored(bodies, chains, pairs, rate)
    keep = np.array([_is_person(bodies, chain) for chain in chains])
    return Nodes(chains, begin, end, keep, links, gain, _twice(bodies, chains, begin, end))


def _may_follow(begin: Labels, end: Labels, scenes: Labels, max_gap: int) -> Labels:
    """(M, 2): v begins within max_gap missed frames of u's end, in the same scene."""
    pairs = []
    scene = np.searchsorted(scenes, begin, "right")
    for u, (last, of) in enumerate(zip(end, np.searchsorted(scenes, end, "right"), strict=True)):
        low, high = np.searchsorted(begin, [last + 1, last + max_gap + 2])
        pairs += [(u, v) for v in range(low, high) if scene[v] == of]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _scored(
    bodies: Bodies, chains: list[Labels], pairs: Labels, rate: float
) -> tuple[Labels, Reals]:
    """Those of the pairs that a person could have moved between, and the log-odds they did."""
    if not len(pairs):
        return pairs, np.zeros(0)
    after = outlook(bodies, chains, rate)
    before = outlook(bodies, [chain[::-1] for chain in chains], rate)
    parts = np.array_split(pairs, len(pairs) // PAIRS_AT_ONCE + 1)
    odds = np.concatenate(
        [_same_person(_rows(after, part[:, 0]), _rows(before, part[:, 1]), rate) for part in parts]
    )
    likely = odds > -2 * COME_OR_GO  # else leaving and entering is likelier
    return pairs[likely], odds[likely]


def _same_person(after: Outlook, before: Outlook, rate: float) -> Reals:
    """Log-odds (M,) that those who are seen after and before a gap are the same; -inf: can't be.

    The sum of five parts: that the body went where both velocities lead, that the velocity
    changed so much, that limbs moved, that the height changed, and that nothing was detected in
    the frames between.
    """
    gap = (before.number - after.number).astype(np.float64)
    size = np.sqrt(after.size * before.size)
    move = (before.pose - after.pose) / size[:, None, None]
    weight = np.sqrt(after.weight * before.weight)
    shift = quantile(np.where(weight > 0, move.transpose(2, 0, 1), np.nan), 0.5).T
    known = np.isfinite(shift[:, 0])
    shift = np.where(known[:, None], shift, 0)
    possible = known & (np.hypot(*shift.T) < NEAR + FASTEST * 30 / rate * gap)
    # the better known velocity counts for more
    trust = np.stack([after.steady**-2, before.steady**-2])
    speed = np.stack([after.velocity, before.velocity]) / size[:, None]
    expected = (trust[..., None] * speed).sum(0) / trust.sum(0)[:, None]
    miss = np.hypot(*(shift - expected * gap[:, None]).T)
    turn = np.hypot(*(speed[1] - speed[0]).T)
    unsteady = np.hypot(after.steady, before.steady)
    stray = np.hypot(JITTER, gap / np.sqrt(trust.sum(0)))
    limbs = np.hypot(JITTER, np.minimum(gap * SWAY * 30 / rate, LIMBS))
    odds = (
        _log_t(miss, stray, 2)
        - np.log(2 * np.pi)
        + _log_t(turn, unsteady, 2)
        - _log_t(turn, np.hypot(unsteady, STRIDE * 30 / rate), 2)
        + _log_t(np.log(before.size / after.size), GROWTH, 1)
        - _log_t(np.log(before.size / after.size), GROWTHS, 1)
        + evidence(move - shift[:, None], weight, limbs, OTHER_POSE)
        - MISSED * (gap - 1)
    )
    return np.where(possible, odds, -np.inf)


def _log_t(distance: Reals, scale: Reals | float, dimensions: int) -> Reals:
    """log density of Student's t with TAIL degrees of freedom, up to a constant.

    People walk on most of the time, and at times turn or jump: tails are heavy.
    """
    square = (distance / scale) ** 2
    return -dimensions * np.log(scale) - (TAIL + dimensions) / 2 * np.log1p(square / TAIL)


def _rows(known: Outlook, rows: Labels) -> Outlook:
    return Outlook(**{name: value[rows] for name, value in vars(known).items()})


def _is_person(bodies: Bodies, chain: Labels) -> float:
    """Log-odds that detections are a person: many sure joints, again and again.

    sum_t clip((c_t - 3) / 3, -1, 1) + (T - 1) / 2,   c_t the sum of the joints' confidence.
    """
    joints = bodies.weight[chain].sum(1)
    return float(((joints - ENOUGH) / ENOUGH).clip(-1, 1).sum() + 0.5 * (len(chain) - 1))


def _twice(bodies: Bodies, chains: list[Labels], begin: Labels, end: Labels) -> Labels:
    """Pairs of tracklets that lie on each other for most of the shorter one's frames.

    By the object keypoint similarity of COCO, mean_j exp(-d_j^2 / (2 (0.1 h)^2)).
    """
    found = []
    for v in range(len(chains)):
        for u in np.flatnonzero((end[:v] >= begin[v]) & (begin[:v] <= end[v])):
            _, i, j = np.intersect1d(
                bodies.number[chains[u]], bodies.number[chains[v]], return_indices=True
            )
            a, b = chains[u][i], chains[v][j]
            square = ((bodies.poses[a] - bodies.poses[b]) ** 2).sum(-1)
            common = np.isfinite(square)
            scale = 2 * TOLERANCE**2 * bodies.size[a] * bodies.size[b]
            alike = np.where(common, np.exp(-np.where(common, square, 0) / scale[:, None]), 0)
            alike = alike.sum(1) / common.sum(1).clip(1)
            same = (alike > OVERLAP) & (common.sum(1) >= 2)
            if 2 * same.sum() > min(len(chains[u]), len(chains[v])):
                found.append((u, v))
    return np.array(found, np.int64).reshape(-1, 2)


def link(nodes: Nodes, max_gap: int, window: int) -> list[list[int]]:
    """Nodes of each person, solved in windows that overlap by half.

    Of a window's solution the first half is final: whether its nodes are people, and what comes
    before them. The next window goes on from the ends of those paths.
    """
    state = _State(nodes)
    step = max(window // 2, max_gap + 1)
    while state.final < len(nodes.chains):
        start = nodes.begin[state.final]
        last, stop = np.searchsorted(nodes.begin, [start + step, start + 2 * step])
        state.solve(int(last), int(stop), int(start) - max_gap - 1)
    return state.paths()


class _State:
    """What earlier windows decided: of the nodes up to ``final``, who is kept, who came before."""

    def __init__(self, nodes: Nodes) -> None:
        n = len(nodes.chains)
        self.nodes = nodes
        self.final = 0
        self.kept = np.zeros(n, bool)
        self.before = np.full(n, -1)
        self.followed = np.zeros(n, bool)

    def solve(self, last: int, stop: int, reach: int) -> None:
        """Decide the nodes up to ``last``, with a view of those up to ``stop``.

        Kept nodes that ended before the frame ``reach`` are too far back to go on.
        """
        nodes = self.nodes
        old = np.flatnonzero(self.kept[: self.final] & (nodes.end[: self.final] >= reach))
        new = np.arange(self.final, stop)
        new = new[~np.isin(new, self._excluded())]
        chosen = np.r_[old, new]
        local = np.full(len(nodes.chains), -1)
        local[chosen] = np.arange(len(chosen))
        links, rivals = local[nodes.links], local[nodes.exclusions]
        inside = (links[:, 0] >= 0) & (links[:, 1] >= len(old))
        inside &= ~self.followed[nodes.links[:, 0]]
        cover = solve(
            PathCover(
                keep=nodes.keep[chosen],
                enter=np.full(len(chosen), COME_OR_GO),
                leave=np.where(self.followed[chosen], 0, COME_OR_GO),
                links=links[inside],
                gain=nodes.gain[inside],
                exclusions=rivals[(rivals >= len(old)).all(1)],
                held=np.arange(len(chosen)) < len(old),
            )
        )
        now = chosen[cover.kept]
        self.kept[now[now < last]] = True
        for u, v in nodes.links[inside][cover.used]:
            if v < last:
                self.before[v], self.followed[u] = u, True
        self.final = last

    def _excluded(self) -> Labels:
        """Nodes that are copies of those which are kept."""
        first, second = self.nodes.exclusions.T
        return np.r_[second[self.kept[first]], first[self.kept[second]]]

    def paths(self) -> list[list[int]]:
        """The nodes of each person, in order of their beginnings."""
        paths: dict[int, list[int]] = {}
        for node in np.flatnonzero(self.kept):
            paths[int(node)] = [*paths.pop(int(self.before[node]), []), int(node)]
        return sorted(paths.values())
