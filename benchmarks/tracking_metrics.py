"""Metrics of tracking: CLEAR MOT and IDF1.

Bernardin and Stiefelhagen, Evaluating multiple object tracking performance, 2008; Ristani et
al., Performance measures and a data set for multi-target, multi-camera tracking, ECCV 2016
Workshops, arXiv:1609.01775.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

# people's names, tracks' names, and the distances between them, infinite where too far
Matched = tuple[Sequence[Hashable], Sequence[Hashable], NDArray[np.float64]]


@dataclass(frozen=True)
class Score:
    """Counts over all frames.

    Attributes:
        people: detections that are there.
        misses, false: people without a track, tracks without a person.
        switches: people whose track is another than when they were last tracked.
        id_true: people in the track that is theirs, under the best one-to-one assignment.
        tracked: all that tracks hold.
    """

    people: int
    misses: int
    false: int
    switches: int
    id_true: int
    tracked: int

    @property
    def mota(self) -> float:
        """1 - (misses + false + switches) / people."""
        return 1 - (self.misses + self.false + self.switches) / max(self.people, 1)

    @property
    def idf1(self) -> float:
        """2 id_true / (people + tracked)."""
        return 2 * self.id_true / max(self.people + self.tracked, 1)


def score(frames: Iterable[Matched]) -> Score:
    """Compare tracks with the truth, frame by frame."""
    people = tracked = misses = false = switches = 0
    last: dict[Hashable, Hashable] = {}
    together: Counter[tuple[Hashable, Hashable]] = Counter()
    for truth, found, distance in frames:
        people, tracked = people + len(truth), tracked + len(found)
        for i, j in np.argwhere(np.isfinite(distance)):
            together[truth[i], found[j]] += 1
        pairs = _matches(truth, found, distance, last)
        misses, false = misses + len(truth) - len(pairs), false + len(found) - len(pairs)
        switches += sum(last.get(t, f) != f for t, f in pairs.items())
        last |= pairs
    return Score(people, misses, false, switches, _best_overlap(together), tracked)


def _matches(
    truth: Sequence[Hashable],
    found: Sequence[Hashable],
    distance: NDArray[np.float64],
    last: dict[Hashable, Hashable],
) -> dict[Hashable, Hashable]:
    """People's tracks in a frame: those they had, where they still fit, then the nearest."""
    cost = np.where(np.isfinite(distance), distance, 1e9)
    pairs = {}
    for i, person in enumerate(truth):
        j = found.index(last[person]) if last.get(person) in found else -1
        if j >= 0 and cost[i, j] < 1e9:
            pairs[person] = found[j]
            cost[i], cost[:, j] = 1e9, 1e9
    for i, j in zip(*linear_sum_assignment(cost), strict=True):
        if cost[i, j] < 1e9:
            pairs[truth[i]] = found[j]
    return pairs


def _best_overlap(together: Counter[tuple[Hashable, Hashable]]) -> int:
    truths = {truth: k for k, truth in enumerate(dict.fromkeys(t for t, _ in together))}
    founds = {found: k for k, found in enumerate(dict.fromkeys(f for _, f in together))}
    counts = np.zeros((len(truths), len(founds)), np.int64)
    for (truth, found), n in together.items():
        counts[truths[truth], founds[found]] = n
    return int(counts[linear_sum_assignment(counts, maximize=True)].sum())
