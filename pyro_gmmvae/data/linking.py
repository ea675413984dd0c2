"""Tracklets to people: what the integer program is given, and windows that bound its size."""

from dataclasses import dataclass

import numpy as np

from pyro_gmmvae.data.bodies import Bodies, Reals
from pyro_gmmvae.data.dataset import Labels
from pyro_gmmvae.data.path_cover import PathCover, solve
from pyro_gmmvae.data.tracklets import JITTER, STRIDE, Outlook, evidence, outlook

COME_OR_GO = 3.0  # nats that a person's entering or leaving costs, each
MISSED = 0.1  # nats a frame in which a person who is there is not detected
FASTEST = 0.25  # heights a frame at 30 frames a second: 13 m/s
NEAR = 0.3  # heights that a gap's ends may lie apart at any speed
GROWTH = 0.15  # standard deviation of one person's log height, over a gap
GROWTHS = 0.5  # the same between people
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

    The sum of four parts: the way (:func:`_motion`), the change of velocity (:func:`_turn`), the
    change of height, and a cost of each frame in which nothing was detected.
    """
    gap = (before.number - after.number).astype(np.float64)
    size = np.sqrt(after.size * before.size)
    move = (before.pose - after.pose) / size[:, None, None]
    common = np.isfinite(move[..., 0])
    shift = np.where(common[..., None], move, 0).sum(1) / common.sum(1).clip(1)[:, None]
    possible = np.hypot(*shift.T) < NEAR + FASTEST * 30 / rate * gap
    odds = (
        _motion(after, before, gap, move, size)
        + _turn(after, before, size, rate)
        + _log_ratio(np.log(before.size / after.size), GROWTH, GROWTHS)
        - MISSED * (gap - 1)
    )
    return np.where(possible, odds, -np.inf)


def _rows(known: Outlook, rows: Labels) -> Outlook:
    return Outlook(**{name: value[rows] for name, value in vars(known).items()})


def _motion(after: Outlook, before: Outlook, gap: Reals, move: Reals, size: Reals) -> Reals:
    """Mean of the evidence that u's way leads to v, and that v's leads back to u."""
    weight = np.sqrt(after.weight * before.weight)
    parts = []
    for side in (after, before):
        travelled = side.velocity * (gap / size)[:, None]
        spread = np.sqrt(JITTER**2 + (gap * side.steady) ** 2)
        parts.append(evidence(move - travelled[:, None], weight, spread))
    return (parts[0] + parts[1]) / 2


def _turn(after: Outlook, before: Outlook, size: Reals, rate: float) -> Reals:
    """Log-odds of the change of velocity, in place of any two people's."""
    stride = STRIDE * 30 / rate
    change = np.hypot(*(before.velocity - after.velocity).T) / size
    known = (after.steady < stride) & (before.steady < stride)
    own = np.sqrt(after.steady**2 + before.steady**2)
    other = np.hypot(own, stride)
    odds = 2 * np.log(other / own) - change**2 * (1 / own**2 - 1 / other**2) / 2
    return np.where(known, odds.clip(-6), 0)


def _log_ratio(value: Reals, own: float, other: float) -> Reals:
    """log N(value; 0, own^2) / N(value; 0, other^2), no less than -4."""
    odds = np.log(other / own) - value**2 * (1 / own**2 - 1 / other**2) / 2
    return odds.clip(-4)


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
