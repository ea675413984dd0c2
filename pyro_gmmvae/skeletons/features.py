"""Features of windows of poses (joints, velocities, bones, ratios, angles) and their statistics.

Features take windows (..., T, J, C), NaN where a joint is missing, and are NaN where they can't be
known. Statistics take features (..., T, F) and leave the frames out where they are missing.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyro_gmmvae.data.kinds import Pairs
from pyro_gmmvae.skeletons.layouts import Layout

AXES = "xyz"
PER_JOINT = ("joints", "velocities")  # the features that are numbers of single joints
NEED_EDGES = ("bones", "ratios", "angles")


def at_joints(x: Tensor, numbers: Sequence[int]) -> Tensor:
    """Joints by their numbers, (..., T, len(numbers), C), in memory of their own.

    Slices are stacked: an index of the host is copied to a GPU, which a CUDA graph does not allow.
    """
    return torch.stack([x[..., joint, :] for joint in numbers], -2)


def joints(x: Tensor, layout: Layout) -> Tensor:  # noqa: ARG001 - every feature's signature
    """Coordinates, (..., T, J * C)."""
    return x.flatten(-2)


def velocities(x: Tensor, layout: Layout) -> Tensor:  # noqa: ARG001
    """Change to the next frame, (..., T, J * C), missing at the last one."""
    following = torch.cat([x[..., 1:, :, :], torch.full_like(x[..., :1, :, :], torch.nan)], -3)
    return (following - x).flatten(-2)


def bones(x: Tensor, layout: Layout) -> Tensor:
    """Lengths of the layout's edges, (..., T, E)."""
    a, b = _ends(layout.edges)
    return (at_joints(x, a) - at_joints(x, b)).norm(dim=-1)


def ratios(x: Tensor, layout: Layout) -> Tensor:
    """Logarithms of the bones' lengths less their mean over the body, (..., T, E)."""
    logs = bones(x, layout).clamp_min(1e-3).log()
    return logs - logs.nanmean(-1, keepdim=True)


def angles(x: Tensor, layout: Layout) -> Tensor:
    """Cosines of the angles between bones that share a joint, (..., T, A)."""
    triples = angle_triples(layout.edges)
    a, b, c = (list(numbers) for numbers in zip(*triples, strict=True))
    middle = at_joints(x, b)
    one, other = at_joints(x, a) - middle, at_joints(x, c) - middle
    lengths = (one.norm(dim=-1) * other.norm(dim=-1)).clamp_min(1e-6)
    return (one * other).sum(-1) / lengths


def angle_triples(edges: Pairs) -> list[tuple[int, int, int]]:
    """(a, b, c) for each two bones a-b and b-c that meet in joint b."""
    found = []
    for joint in sorted(set(sum(edges, ()))):
        near = sorted({other for edge in edges if joint in edge for other in edge} - {joint})
        found += [(a, joint, c) for i, a in enumerate(near) for c in near[i + 1 :]]
    return found


def _ends(edges: Pairs) -> tuple[list[int], list[int]]:
    return [a for a, _ in edges], [b for _, b in edges]


FEATURES: dict[str, Callable[[Tensor, Layout], Tensor]] = {
    "joints": joints,
    "velocities": velocities,
    "bones": bones,
    "ratios": ratios,
    "angles": angles,
}


def _mean(x: Tensor) -> Tensor:
    return x.nanmean(-2)


def _std(x: Tensor) -> Tensor:
    return (x - x.nanmean(-2, keepdim=True)).square().nanmean(-2).sqrt()


def _first(x: Tensor) -> Tensor:
    return _nth(x, x.isfinite().to(torch.uint8).argmax(-2))


def _last(x: Tensor) -> Tensor:
    return _first(x.flip(-2))


def _nth(x: Tensor, frame: Tensor) -> Tensor:
    return x.gather(-2, frame.unsqueeze(-2)).squeeze(-2)


def _low(x: Tensor) -> Tensor:
    return _or_missing(x.nan_to_num(torch.inf).amin(-2))


def _high(x: Tensor) -> Tensor:
    return _or_missing(x.nan_to_num(-torch.inf).amax(-2))


def _or_missing(x: Tensor) -> Tensor:
    return torch.where(x.isinf(), torch.nan, x)


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": _mean,
    "std": _std,
    "first": _first,
    "last": _last,
    "min": _low,
    "max": _high,
}


def feature_names(feature: str, layout: Layout, dimensions: int) -> list[str]:
    """A name for each number of a feature in one frame, in its order."""
    if feature in PER_JOINT:
        axes = AXES[:dimensions]
        return [f"{feature} {joint} {axis}" for joint in layout.joints for axis in axes]
    groups: Sequence[tuple[int, ...]] = layout.edges
    if feature == "angles":
        groups = angle_triples(layout.edges)
    return [f"{feature} {'-'.join(layout.joints[j] for j in group)}" for group in groups]
