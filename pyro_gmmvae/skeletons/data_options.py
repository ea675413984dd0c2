"""Options of data loaders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DataOptions:
    """Where rows are and how they are read; each loader uses the options that concern it.

    Attributes:
        data_dir: folder of a named set's files.
        label_column: of files and shards.
        drop_nonfinite: leave out rows of files that hold NaN or infinities.
        tracks: file of tracks (``data="skeleton"``); see ``read_tracks``.
        labels_file: CSV of people and splits, see ``people.read_people``.
        layout: name or TOML file of the joints.
        protocol: which sequences of a named skeleton set are trained on, and which are tested.
        pose_window: keyword arguments of :class:`pyro_gmmvae.skeletons.PoseWindow`.
    """

    data_dir: Path | None = None
    label_column: str = "label"
    drop_nonfinite: bool = False
    tracks: Path | None = None
    labels_file: Path | None = None
    layout: str | None = None
    protocol: str | None = None
    pose_window: Mapping[str, Any] = field(default_factory=dict)
