"""What loaders of data are told, beside the data set's name."""

from dataclasses import dataclass
from pathlib import Path

from pyro_gmmvae.skeletons.windows import WindowOptions


@dataclass(frozen=True)
class DataOptions:
    """Where rows are and how they are read; each loader uses what concerns it.

    Attributes:
        data_dir: folder of a named set's files.
        label_column: of files and shards.
        drop_nonfinite: leave out rows of files that hold NaN or infinities.
        tracks: file of tracks (``data="skeleton"``); see ``read_tracks``.
        labels_file: CSV of persons and splits, see ``people.read_people``.
        layout: name or TOML file of the joints.
        protocol: which sequences a named skeleton set trains on, and which it tests.
        window, stride, max_gap, scale: see :class:`pyro_gmmvae.skeletons.windows.WindowOptions`.
        features, statistics: see :class:`pyro_gmmvae.skeletons.SkeletonFeatures`.
    """

    data_dir: Path | None = None
    label_column: str = "label"
    drop_nonfinite: bool = False
    tracks: Path | None = None
    labels_file: Path | None = None
    layout: str | None = None
    protocol: str | None = None
    window: int = 8
    stride: int = 4
    max_gap: int = 5
    scale: str = "torso"
    features: tuple[str, ...] = ("joints", "bones")
    statistics: tuple[str, ...] = ("mean", "std")

    @property
    def windows(self) -> WindowOptions:
        """How tracks become windows."""
        return WindowOptions(self.window, self.stride, self.max_gap, self.scale)
