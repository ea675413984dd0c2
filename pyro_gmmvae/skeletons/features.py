"""What a window of poses is described by: joints, velocities, bones, ratios, angles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.skeletons.layouts import Layout, Pairs

AXES = "xyz"


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
    return (x[..., a, :] - x[..., b, :]).norm(dim=-1)


def ratios(x: Tensor, layout: Layout) -> Tensor:
    """Logarithms of the bones' lengths less their mean over the body, (..., T, E)."""
    logs = bones(x, layout).clamp_min(1e-3).log()
    return logs - logs.nanmean(-1, keepdim=True)


def angles(x: Tensor, layout: Layout) -> Tensor:
    """Cosines of the angles between bones that share a joint, (..., T, A)."""
    triples = angle_triples(layout.edges)
    a, b, c = (list(numbers) for numbers in zip(*triples, strict=True))
    one, other = x[..., a, :] - x[..., b, :], x[..., c, :] - x[..., b, :]
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


@dataclass(frozen=True)
class SkeletonFeatures:
    """Windows x (B, T, J, C) -> what the models see, NaN where it can't be known.

    With statistics: (B, D), each statistic over the window's frames of each feature, of the
    frames where it is known. Without: the features of each frame, (B, T, J, n) where all of
    them belong to joints (joints, velocities), else (B, T, F).

    Args:
        layout: the joints.
        features: keys of ``FEATURES``.
        statistics: keys of ``STATISTICS``; none: frame by frame.

    Raises:
        GMMVAEError: an unknown name, or a feature of bones for a layout without edges.
    """

    layout: Layout
    features: tuple[str, ...]
    statistics: tuple[str, ...]

    def __post_init__(self) -> None:
        for kind, names, table in (
            ("feature", self.features, FEATURES),
            ("statistic", self.statistics, STATISTICS),
        ):
            for name in names:
                if name not in table:
                    raise unknown_name(kind, name, list(table))
        if not self.features:
            raise GMMVAEError("features: name at least one (joints, bones, ...)")
        of_bones = {"bones", "ratios", "angles"} & set(self.features)
        if of_bones and not self.layout.edges:
            raise GMMVAEError(
                f"the layout {self.layout.name!r} has no edges, which {min(of_bones)} need"
            )
        if "angles" in self.features and not angle_triples(self.layout.edges):
            raise GMMVAEError(
                f"no two edges of the layout {self.layout.name!r} share a joint, which angles need"
            )

    def __call__(self, x: Tensor) -> Tensor:
        per_frame = [FEATURES[name](x, self.layout) for name in self.features]
        if self.statistics:
            frames = torch.cat(per_frame, -1)
            return torch.cat([STATISTICS[name](frames) for name in self.statistics], -1)
        if set(self.features) <= {"joints", "velocities"}:
            return torch.cat([f.unflatten(-1, x.shape[-2:]) for f in per_frame], -1)
        return torch.cat(per_frame, -1)

    def of_arrays(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """The same of arrays, some thousand windows at a time."""
        parts = torch.from_numpy(rows).split(4096)
        return torch.cat([self(part) for part in parts]).numpy()

    def names(self, dimensions: int) -> tuple[str, ...]:
        """A name for each number of a row that has statistics, in its order."""
        frame = [name for feature in self.features for name in self._names_of(feature, dimensions)]
        return tuple(f"{statistic} {name}" for statistic in self.statistics for name in frame)

    def _names_of(self, feature: str, dimensions: int) -> list[str]:
        layout, axes = self.layout, AXES[:dimensions]
        if feature in ("joints", "velocities"):
            return [f"{feature} {joint} {axis}" for joint in layout.joints for axis in axes]
        groups: Sequence[tuple[int, ...]] = layout.edges
        if feature == "angles":
            groups = angle_triples(layout.edges)
        return [f"{feature} {'-'.join(layout.joints[j] for j in group)}" for group in groups]

    def poses(self, rows: Tensor, dimensions: int) -> Tensor:
        """Joint positions of rows that were described by them: (B, T, J, C), T = 1 of means.

        Raises:
            GMMVAEError: if joints are not among the features, or their mean is not kept.
        """
        J = len(self.layout.joints)
        if "joints" not in self.features or (self.statistics and "mean" not in self.statistics):
            raise GMMVAEError(
                "this run describes skeletons without the mean of their joints, and can't draw them"
            )
        if self.statistics:
            names = self.names(dimensions)
            start = names.index(f"mean joints {self.layout.joints[0]} x")
            return rows[..., start : start + J * dimensions].unflatten(-1, (1, J, dimensions))
        start = 0
        for feature in self.features[: self.features.index("joints")]:
            start += len(self._names_of(feature, dimensions))
        if rows.dim() == 4:
            start //= J
            return rows[..., start : start + dimensions]
        return rows[..., start : start + J * dimensions].unflatten(-1, (J, dimensions))

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"layout": self.layout.to_json()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "SkeletonFeatures":
        return cls(
            Layout.from_json(content["layout"]),
            tuple(content["features"]),
            tuple(content["statistics"]),
        )
