"""The best set of disjoint paths: the tracklets that are people, linked where they are one.

Iqbal, Milan and Gall, PoseTrack: Joint Multi-Person Pose Estimation and Tracking, CVPR 2017,
arXiv:1611.07727, partition a graph of detections over space and time by an integer linear
program. Here a person is a path forward in time, which is consistent in time by construction
(Zhang, Li and Nevatia, Global data association for multi-object tracking using network flows,
CVPR 2008); exclusions of nodes make it consistent in space.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linear_sum_assignment, milp
from scipy.sparse import coo_array, vstack

from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.skeletons.detections import Reals


@dataclass(frozen=True)
class PathCover:
    """Maximize, over x, e, q, y in {0, 1}, the log-odds (nats) of kept nodes and links,

        sum_v keep_v x_v - sum_v enter_v e_v - sum_v leave_v q_v + sum_uv gain_uv y_uv,

    where x_v = e_v + sum_u y_uv (a person enters or continues), x_u = q_u + sum_v y_uv (leaves or
    continues), and x_u + x_v <= 1 for exclusions (one person detected twice in a frame).

    Attributes:
        keep: (N,) log-odds that a node is a person.
        enter, leave: (N,) costs of a path that begins or ends.
        links: (M, 2) nodes u before v, without cycles.
        gain: (M,) log-odds that u and v are one person.
        exclusions: (C, 2) nodes of which at most one is kept.
        held: (N,) nodes that were kept before, as the ends of paths; no link leads to them.
    """

    keep: Reals
    enter: Reals
    leave: Reals
    links: Labels
    gain: Reals
    exclusions: Labels
    held: NDArray[np.bool_]


@dataclass(frozen=True)
class Cover:
    """A solution: kept nodes (N,), used links (M,), and its value in nats."""

    kept: NDArray[np.bool_]
    used: NDArray[np.bool_]
    value: float


def solve(problem: PathCover) -> Cover:
    """The best cover, by assignment or, where exclusions demand it, by integer programming.

    Both are exact: without exclusions the program is an assignment of nodes to successors, and
    an optimum of that which respects the exclusions is an optimum with them.
    """
    relaxed = solve_relaxed(problem)
    first, second = problem.exclusions.reshape(-1, 2).T
    if not (relaxed.kept[first] & relaxed.kept[second]).any():
        return relaxed
    return solve_exact(problem)


def solve_relaxed(problem: PathCover) -> Cover:
    """The best cover without exclusions, by linear assignment.

    Rows are nodes and beginnings, columns nodes and ends: a node is assigned to its successor
    or its end, its predecessor or a beginning to it; a node assigned to itself is left out.
    """
    n = len(problem.keep)
    cost = np.full((2 * n, 2 * n), np.inf)
    cost[n:, n:] = 0
    every = np.arange(n)
    cost[every, every] = np.where(problem.held, np.inf, problem.keep)
    cost[every, n + every] = problem.leave
    cost[n + every, every] = np.where(problem.held, 0, problem.enter)
    u, v = problem.links.reshape(-1, 2).T
    cost[u, v] = -problem.gain
    _, column = linear_sum_assignment(cost)
    return _cover(problem, column[:n] != every, column[u] == v)


def solve_exact(problem: PathCover) -> Cover:
    """The best cover, by HiGHS (scipy.optimize.milp)."""
    n, m = len(problem.keep), len(problem.links)
    u, v = problem.links.reshape(-1, 2).T
    every, edge = np.arange(n), np.arange(m)
    ones, links = np.ones(n), np.ones(m)
    size = 3 * n + m  # x, e, q, y
    held = problem.held.astype(float)
    comes = _matrix(
        [every, every, v], [every, n + every, 3 * n + edge], [ones, -ones, -links], size
    )
    goes = _matrix(
        [every, every, u], [every, 2 * n + every, 3 * n + edge], [ones, -ones, -links], size
    )
    constraints = [LinearConstraint(vstack([comes, goes]), 0, 0)]
    pairs = problem.exclusions.reshape(-1, 2)
    if len(pairs):
        row = np.arange(len(pairs))
        both = _matrix([row, row], list(pairs.T), [np.ones(len(pairs))] * 2, size)
        constraints.append(LinearConstraint(both, -np.inf, 1))
    enter = np.where(problem.held, 0, problem.enter)
    result = milp(
        np.concatenate([-problem.keep, enter, problem.leave, -problem.gain]),
        integrality=np.ones(size, np.int64),
        bounds=Bounds(np.concatenate([held, np.zeros(size - n)]), np.ones(size)),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:  # only infeasible where held nodes exclude each other
        raise RuntimeError(f"the integer program has no solution: {result.message}")
    chosen = result.x > 0.5
    return _cover(problem, chosen[:n], chosen[3 * n :])


def _matrix(
    rows: list[Labels], columns: list[Labels], values: list[Reals], width: int
) -> "coo_array[np.float64]":
    r, c, x = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
    return coo_array((x, (r, c)), shape=(int(r.max()) + 1, width))


def _cover(problem: PathCover, kept: NDArray[np.bool_], used: NDArray[np.bool_]) -> Cover:
    u, v = problem.links.reshape(-1, 2).T
    begins, ends = kept & ~problem.held, kept.copy()
    begins[v[used]] = False
    ends[u[used]] = False
    value = problem.keep[kept].sum() - problem.enter[begins].sum() - problem.leave[ends].sum()
    return Cover(kept, used, float(value + problem.gain[used].sum()))
