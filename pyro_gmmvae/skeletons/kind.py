"""Windows of poses as a kind of row."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.kinds import Pairs, RowKind
from pyro_gmmvae.data.row_groups import Sequences
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.skeletons.layouts import Layout
from pyro_gmmvae.skeletons.pose_augment import drop, jitter, mirror, rotate, warp
from pyro_gmmvae.skeletons.tracks import Track, read_tracks
from pyro_gmmvae.skeletons.windows import SCALES, Windows, cut_windows

if TYPE_CHECKING:
    from torch import Tensor

WINDOWS_AT_ONCE = 4096


@dataclass(frozen=True)
class PoseWindow(RowKind):
    """Windows of T frames of J joints in C dimensions, described by features.

    A raw row is a window (T, J, C), NaN where a joint is missing. With statistics a row is (D,),
    each statistic over the window's frames of each feature, from the frames where it is known.
    Without statistics a row has the features of each frame: (T, J, n) where all of them belong
    to single joints (joints, velocities), else (T, F).

    Args:
        layout: the joints.
        frames: T; 0 where it is not known yet.
        dimensions: C, coordinates of a joint.
        likelihood: of the features, "normal".
        window: frames per window; 0: each piece of a track as a whole, padded to the longest.
        stride: frames from the start of one window to that of the next.
        max_gap: missing frames in a row that are interpolated; longer gaps stay missing, and
            longer runs without any frame end a piece of the track.
        scale: "torso" divides by the body's size, "file" leaves the file's units.
        features: keys of :data:`pyro_gmmvae.skeletons.features.FEATURES`.
        statistics: keys of :data:`pyro_gmmvae.skeletons.features.STATISTICS`; none: each frame.
        joint_dropout: the largest share of joints that the augmentation "drop" hides.

    Raises:
        GMMVAEError: a number out of range, an unknown name, a feature of bones for a layout
            without edges, or velocities of single frames.
    """

    name: ClassVar[str] = "pose_window"
    plural: ClassVar[str] = "windows of poses"
    # joints that jump are rare, and far away
    limit: ClassVar[float | None] = 6.0
    # features are computed in single precision
    rounding: ClassVar[float] = 16 * float(np.finfo(np.float32).eps)
    augments_raw_rows: ClassVar[bool] = True
    reads_tracks: ClassVar[bool] = True
    group_noun: ClassVar[str] = Sequences.noun
    augmentations: ClassVar[Mapping[str, Callable[..., "Tensor"]]] = {
        "mirror": mirror,
        "jitter": jitter,
        "warp": warp,
        "rotate": rotate,
        "drop": drop,
    }
    default_augmentation: ClassVar[str] = "mirror,jitter,warp"

    layout: Layout
    frames: int
    dimensions: int
    likelihood: str = "normal"
    _: KW_ONLY
    window: int = 8
    stride: int = 4
    max_gap: int = 5
    scale: str = "torso"
    features: tuple[str, ...] = ("joints", "bones")
    statistics: tuple[str, ...] = ("mean", "std")
    joint_dropout: float = 0.5
    x_shape: tuple[int, ...] = field(init=False)
    columns: tuple[str, ...] | None = field(init=False)
    missing: bool = field(init=False, default=True)
    edges: Pairs = field(init=False)

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_features()
        columns = self._columns() if self.statistics else None
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "edges", self.layout.edges)
        object.__setattr__(self, "x_shape", self._x_shape() if columns is None else (len(columns),))

    def _check_numbers(self) -> None:
        if self.window < 0 or self.stride < 1 or self.max_gap < 0:
            raise GMMVAEError(
                f"window {self.window}, stride {self.stride}, max_gap {self.max_gap}: window and "
                "max_gap are at least 0 frames, and stride at least 1"
            )
        if self.scale not in SCALES:
            raise GMMVAEError(f"scale must be {' or '.join(SCALES)}, not {self.scale!r}")

    def _check_features(self) -> None:
        from pyro_gmmvae.skeletons.features import FEATURES, NEED_EDGES, STATISTICS, angle_triples

        names: Sequence[str]
        for kind, names, table in (
            ("feature", self.features, list(FEATURES)),
            ("statistic", self.statistics, list(STATISTICS)),
        ):
            for name in names:
                if name not in table:
                    raise unknown_name(kind, name, table)
        if not self.features:
            raise GMMVAEError("features: name at least one (joints, bones, ...)")
        of_edges = [name for name in sorted(self.features) if name in NEED_EDGES]
        if of_edges and not self.layout.edges:
            raise GMMVAEError(
                f"the layout {self.layout.name!r} has no edges, which {of_edges[0]} need"
            )
        if "angles" in self.features and not angle_triples(self.layout.edges):
            raise GMMVAEError(
                f"no two edges of the layout {self.layout.name!r} share a joint, which angles need"
            )
        if self.frames == 1 and set(self.features) == {"velocities"}:
            raise GMMVAEError("velocities need windows of at least 2 frames")

    def _columns(self) -> tuple[str, ...]:
        """A name for each entry of a row that has statistics, in its order."""
        frame = [name for feature in self.features for name in self._names_of(feature)]
        return tuple(f"{statistic} {name}" for statistic in self.statistics for name in frame)

    def _names_of(self, feature: str) -> list[str]:
        from pyro_gmmvae.skeletons.features import feature_names

        return feature_names(feature, self.layout, self.dimensions)

    def _x_shape(self) -> tuple[int, ...]:
        """Shape of a row that keeps its frames."""
        if self._is_per_joint():
            joints = len(self.layout.joints)
            return (self.frames, joints, len(self.features) * self.dimensions)
        return (self.frames, sum(len(self._names_of(feature)) for feature in self.features))

    def _is_per_joint(self) -> bool:
        from pyro_gmmvae.skeletons.features import PER_JOINT

        return set(self.features) <= set(PER_JOINT)

    # -- from tracks to the model ----------------------------------------------------------

    def cut(self, tracks: Sequence[Track]) -> Windows:
        """Windows of tracks; whole sequences are cut to or filled up to ``frames``, if known."""
        window = self.window or (0 if self.statistics else self.frames)
        return cut_windows(
            tracks,
            self.layout,
            window=window,
            stride=self.stride,
            max_gap=self.max_gap,
            scale=self.scale,
        )

    def read(self, file: Path) -> tuple[list[Track], Windows]:
        """The tracks of a file, and their windows as this kind cuts them.

        Raises:
            GMMVAEError: a file that can't be read, or tracks of another layout.
        """
        tracks = read_tracks(file, len(self.layout.joints))
        dimensions = tracks[0].poses.shape[-1]
        if dimensions != self.dimensions:
            raise GMMVAEError(
                f"{file} holds tracks in {dimensions}-D; the run was trained on "
                f"{self.dimensions}-D ones"
            )
        return tracks, self.cut(tracks)

    def featurize(self, x: "Tensor") -> "Tensor":
        """Windows (B, T, J, C) -> features (B, *x_shape), NaN where they can't be known."""
        import torch

        from pyro_gmmvae.skeletons.features import FEATURES, STATISTICS

        per_frame = [FEATURES[name](x, self.layout) for name in self.features]
        if self.statistics:
            frames = torch.cat(per_frame, -1)
            return torch.cat([STATISTICS[name](frames) for name in self.statistics], -1)
        if self._is_per_joint():
            return torch.cat([f.unflatten(-1, x.shape[-2:]) for f in per_frame], -1)
        return torch.cat(per_frame, -1)

    def featurize_array(self, rows: NDArray[Any]) -> NDArray[Any]:
        import torch

        parts = torch.from_numpy(rows).split(WINDOWS_AT_ONCE)
        return torch.cat([self.featurize(part) for part in parts]).numpy()

    def _bind(self, function: "Callable[..., Tensor]") -> "Callable[[Tensor], Tensor]":
        if function is mirror:
            return functools.partial(mirror, pairs=self.layout.pairs)
        if function is drop:
            return functools.partial(drop, share=self.joint_dropout)
        return function

    # -- how a row is drawn ----------------------------------------------------------------

    @property
    def drawing(self) -> str:
        has_means = not self.statistics or "mean" in self.statistics
        if self.dimensions in (2, 3) and "joints" in self.features and has_means:
            return "skeleton"
        return "profile" if self.statistics else "series"

    @property
    def y_down(self) -> bool:
        """Whether y grows downwards, as in an image; 3-D skeletons are drawn from the front."""
        return self.dimensions == 2

    def poses(self, rows: NDArray[Any]) -> NDArray[Any]:
        """(N, T, J, C) joint positions of rows (N, *x_shape); T is 1 where only means are kept.

        Raises:
            GMMVAEError: series that are not skeletons, or features without the joints' means.
        """
        if self.dimensions not in (2, 3):
            raise GMMVAEError("this run's series are not skeletons: there is nothing to draw")
        if self.drawing != "skeleton":
            raise GMMVAEError(
                "this run describes skeletons without the mean of their joints, and can't draw them"
            )
        J, C = len(self.layout.joints), self.dimensions
        if self.columns is not None:
            start = self.columns.index(f"mean joints {self.layout.joints[0]} x")
            return rows[..., start : start + J * C].reshape(-1, 1, J, C)
        before = self.features[: self.features.index("joints")]
        start = sum(len(self._names_of(feature)) for feature in before)
        if self._is_per_joint():
            start //= J
            return rows[..., start : start + C]
        return rows[..., start : start + J * C].reshape(len(rows), -1, J, C)

    # -- in a run folder -------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(self) if field.init]
        return {name: getattr(self, name) for name in names} | {"layout": self.layout.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        values = dict(content)
        values["layout"] = Layout.from_json(values["layout"])
        for key in ("features", "statistics"):
            values[key] = tuple(values[key])
        for key in ("frames", "dimensions"):
            if type(values[key]) is not int or values[key] < 1:
                raise ValueError(f"{key} {values[key]!r}")
        return cls(**values)

    def with_frames(self, windows: NDArray[np.floating]) -> "PoseWindow":
        """The kind of windows (N, T, J, C) that were cut by :meth:`cut`."""
        return dataclasses.replace(self, frames=windows.shape[1])
