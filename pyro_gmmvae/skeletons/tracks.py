"""Tracks of people's joints over time, and the files that hold them."""

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.transform import Floats, Labels
from pyro_gmmvae.errors import GMMVAEError, missing_extra
from pyro_gmmvae.files import atomic_file, ending, read_table, require_file

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("sequence", "frame", "joint", "x", "y")
NUMBERS = (*COLUMNS[1:], "z", "confidence")
# larger coordinates are marks for missing values; the squares of smaller ones still fit a float
MAX_COORDINATE, MAX_JOINTS = 1e12, 10_000


@dataclass(frozen=True)
class Track:
    """One sequence of one person's skeleton.

    Attributes:
        sequence: its name.
        frames: (T,) frame numbers, increasing; gaps are frames without a detection.
        poses: (T, J, C) coordinates, C = 2 or 3 (1 for series that are not skeletons), NaN
            where a joint was not detected.
        confidence: (T, J) in [0, 1], 0 where a joint was not detected.
    """

    sequence: str
    frames: Labels
    poses: Floats
    confidence: Floats

    @classmethod
    def of_poses(cls, sequence: str, poses: NDArray[Any]) -> "Track":
        """From coordinates (T, J, C) alone; NaN: not detected."""
        detected = np.isfinite(poses).all(-1)
        poses = np.where(detected[..., None], poses, np.nan).astype(np.float32)
        return cls(sequence, np.arange(len(poses)), poses, detected.astype(np.float32))


def to_table(tracks: Iterable[Track]) -> "pd.DataFrame":
    """The plain table: a row per joint and frame, missing joints left out.

    Columns: sequence, frame, joint (numbers from 0), x, y, z (of 3-D tracks), confidence.
    """
    import pandas as pd

    parts = []
    for track in tracks:
        t, j = np.nonzero(np.isfinite(track.poses).all(-1))
        coordinates = track.poses[t, j]
        part = {"sequence": np.full(len(t), track.sequence), "frame": track.frames[t], "joint": j}
        part |= dict(zip("xyz", coordinates.T, strict=False))
        parts.append(pd.DataFrame(part | {"confidence": track.confidence[t, j]}))
    if not parts:
        return pd.DataFrame(columns=[*COLUMNS, "confidence"])
    return pd.concat(parts, ignore_index=True)


def read_tracks(path: Path, joints: int | None = None) -> list[Track]:
    """Tracks of a plain table, a parquet, csv or npz file (arrays of equal length), by sequence.

    The table has columns sequence, frame, joint, x, y and optionally z and confidence; a joint
    that is left out, NaN, or of confidence 0 was not detected. Confidence is clipped to [0, 1].

    Args:
        path: the file.
        joints: number of joints; None: the highest number in the file plus 1.

    Raises:
        GMMVAEError: a file that is missing or damaged, lacks columns, holds a joint twice in a
            frame, or numbers out of range.
    """
    return from_table(_read(path), str(path), joints)


def from_table(table: "pd.DataFrame", source: str, joints: int | None = None) -> list[Track]:
    """Tracks of a plain table; see :func:`read_tracks`."""
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise GMMVAEError(
            f"{source} lacks the column {missing[0]!r}: tracks are a table of sequence, frame, "
            "joint, x, y and optionally z and confidence"
        )
    if table.empty:
        raise GMMVAEError(f"{source} holds no rows")
    axes = [name for name in ("x", "y", "z") if name in table.columns]
    numbers = {name: _whole(table, name, source) for name in ("frame", "joint")}
    lowest, highest = int(numbers["joint"].min()), int(numbers["joint"].max())
    if lowest < 0 or highest >= (joints or MAX_JOINTS):
        wrong = min(lowest, 0) or highest
        range_ = "joints are" if joints is None else f"the layout has {joints} joints,"
        advice = "" if joints is None else " (another --layout?)"
        raise GMMVAEError(
            f"{source}: joint {wrong} is out of range; {range_} numbered from 0{advice}"
        )
    values = np.stack([_floats(table, name, source) for name in axes], -1)
    if (np.abs(values[np.isfinite(values)]) > MAX_COORDINATE).any():
        raise GMMVAEError(
            f"{source}: coordinates beyond {MAX_COORDINATE:g} are not positions of joints"
        )
    confidence = np.ones(len(table))
    if "confidence" in table.columns:
        confidence = np.nan_to_num(_floats(table, "confidence", source)).clip(0, 1)
    if table["sequence"].isna().any():
        raise GMMVAEError(f"{source}: a row has no sequence name")
    names = table["sequence"].astype(str).to_numpy()
    _refuse_mixed_dimensions(names, values, source)
    order = np.lexsort((numbers["joint"], numbers["frame"], names))
    names, values, confidence = names[order], values[order], confidence[order]
    frame, joint = numbers["frame"][order], numbers["joint"][order]
    again = (names[1:] == names[:-1]) & (frame[1:] == frame[:-1]) & (joint[1:] == joint[:-1])
    if again.any():
        row = int(np.flatnonzero(again)[0])
        raise GMMVAEError(
            f"{source}: sequence {names[row]!r}, frame {frame[row]} has joint {joint[row]} twice"
        )
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    spans = zip(starts, np.r_[starts[1:], len(names)], strict=True)
    return [
        _track(
            str(names[a]),
            frame[a:b],
            joint[a:b],
            values[a:b],
            confidence[a:b],
            joints or highest + 1,
        )
        for a, b in spans
    ]


def _refuse_mixed_dimensions(names: NDArray[Any], values: NDArray[np.float64], source: str) -> None:
    """Refuse sequences without z among others with z, which would seem to have no joints."""
    flat = np.isfinite(values[:, :2]).all(-1)
    whole = np.isfinite(values).all(-1)
    without = sorted(set(names[flat]) - set(names[whole]))
    if without:
        raise GMMVAEError(
            f"{source}: sequence {without[0]!r} has x and y but no z; write 2-D and 3-D tracks to "
            "separate files, 2-D tracks without the column 'z'"
        )


def _track(
    sequence: str,
    frame: Labels,
    joint: Labels,
    values: NDArray[np.float64],
    score: NDArray[np.float64],
    joints: int,
) -> Track:
    frames, at = np.unique(frame, return_inverse=True)
    poses = np.full((len(frames), joints, values.shape[-1]), np.nan, np.float32)
    confidence = np.zeros((len(frames), joints), np.float32)
    present = np.isfinite(values).all(-1) & (score > 0)
    poses[at[present], joint[present]] = values[present]
    confidence[at[present], joint[present]] = score[present]
    return Track(sequence, frames, poses, confidence)


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    require_file(path)
    if ending(path) in (".csv", ".parquet"):
        # a sequence may be called NA
        missing = {name: ["", "nan", "NaN", "NA"] for name in NUMBERS}
        return read_table(path, dtype={"sequence": str}, keep_default_na=False, na_values=missing)
    try:
        if ending(path) == ".npz":
            return pd.DataFrame(_arrays(path))
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0]
        raise GMMVAEError(f"{path} can't be read as {ending(path)[1:]}: {reason}") from error
    raise GMMVAEError(f"{path}: unknown kind of file; tracks are .parquet, .npz or .csv")


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file."""
    if not zipfile.is_zipfile(path):
        raise ValueError("it is damaged, or another kind of file")
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except zlib.error as error:
        raise ValueError(f"it is damaged ({error})") from error


def write_tracks(tracks: Iterable[Track], path: Path) -> None:
    """Write the plain table atomically as parquet, npz or csv, by the name's ending.

    Raises:
        GMMVAEError: another ending, or parquet without pyarrow.
    """
    table = to_table(tracks)
    if ending(path) not in (".parquet", ".csv", ".npz"):
        raise GMMVAEError(f"{path}: tracks are written as .parquet, .npz or .csv")
    try:
        with atomic_file(path) as part:
            if ending(path) == ".parquet":
                table.to_parquet(part, index=False)
            elif ending(path) == ".csv":
                table.to_csv(part, index=False)
            else:
                columns: dict[str, Any] = {name: _plain(table[name]) for name in table.columns}
                with part.open("wb") as file:  # NumPy goes by the ending of a name
                    np.savez_compressed(file, **columns)
    except ImportError as error:
        raise missing_extra("a parquet file", "pyarrow", "parquet") from error


def _plain(column: "pd.Series[Any]") -> NDArray[Any]:
    """An array that can be stored without pickling: text has a fixed width."""
    values = column.to_numpy()
    return values.astype(str) if values.dtype.kind not in "iufb" else values


def _floats(table: "pd.DataFrame", name: str, source: str) -> NDArray[np.float64]:
    if table[name].dtype.kind not in "iuf":
        raise GMMVAEError(f"{source}: the column {name!r} is not numeric")
    return table[name].to_numpy(np.float64)


def _whole(table: "pd.DataFrame", name: str, source: str) -> Labels:
    values = _floats(table, name, source)
    if not (np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)).all():
        raise GMMVAEError(f"{source}: the column {name!r} must hold whole numbers")
    return values.astype(np.int64)
