"""Published tables of skeletons, and one of speech, as tracks with a person each."""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_bytes
from pyro_gmmvae.skeletons.layouts import COCO_18, KINECT_18
from pyro_gmmvae.skeletons.tracks import Track

GAIT_RUNS = range(1, 7)  # the README of the data set advises against the seventh
NECK = COCO_18.joints.index("Neck")
CEPSTRA = 12

_GAIT = re.compile(r"subject(\d+)_Seq_(\d+)_Gen_([MF])_GeometricPositions_\w+\.csv", re.IGNORECASE)
_ACTION = re.compile(r"a(\d+)_s(\d+)_t(\d+)_color.*\.csv", re.IGNORECASE)


@dataclass(frozen=True)
class LabelledTrack:
    """A track whose person is known.

    Attributes:
        track: the joints over time.
        person: a number as text, "1".
        tags: further facts about the sequence, by name.
    """

    track: Track
    person: str
    tags: Mapping[str, str] = field(default_factory=dict)


def read_ucalgary_gait(folder: Path) -> list[LabelledTrack]:
    """UCalgary gait: 27 people walk six times past a Kinect v2, 120 frames each.

    Poses are (T, 18, 3) meters in the camera's coordinates, y up, of the layout KINECT_18.
    Tags: ``run`` ("1" and "2" walk normally, "3" and "4" with the right leg held, "5" and "6"
    with the left) and ``gender`` ("M", "F").

    Empty files are skipped. Of files with the same bytes only that of the lowest person and run is
    read: the set has one person under two numbers, and runs that are copies.

    Args:
        folder: holds files subject1_Seq_1_Gen_M_GeometricPositions_N.csv, at any depth.

    Raises:
        GMMVAEError: the folder is missing, holds no such files, or one of them is damaged.
    """
    tracks, seen = [], set()
    for (person, run), match, path in _matching_files(folder, _GAIT, "UCalgary gait files"):
        content = _read(path)
        digest = hashlib.sha256(content).digest()
        if run not in GAIT_RUNS or not content.strip() or digest in seen:
            continue
        seen.add(digest)
        _, _, numbers = content.partition(b"\n")  # the first line names the columns
        poses = _table(numbers, path, 62)[:, :54].reshape(-1, len(KINECT_18.joints), 3)
        track = Track.of_poses(f"subject{person}-run{run}", _without_zeros(poses))
        tracks.append(LabelledTrack(track, str(person), {"run": str(run), "gender": match[3]}))
    return tracks


def read_utd_mhad(folder: Path) -> list[LabelledTrack]:
    """UTD-MHAD by OpenPose: 8 people, 195 clips of six actions in up to four trials.

    Poses are (T, 18, 2) of the layout COCO_18, y down, in shoulder widths from the neck, which
    is always (0, 0); another joint at (0, 0) was not detected. The files do not hold frames
    without a full pose, so that the time between frames is unknown. Tags: ``action``, ``trial``.

    Args:
        folder: holds files a1_s1_t1_color.avi.csv, at any depth.

    Raises:
        GMMVAEError: the folder is missing, holds no such files, or one of them is damaged.
    """
    tracks = []
    for (action, person, trial), _, path in _matching_files(
        folder, _ACTION, "UTD-MHAD files", key=lambda n: (n[1], n[0], n[2])
    ):
        poses = _table(_read(path), path, 36).reshape(-1, len(COCO_18.joints), 2)
        track = Track.of_poses(f"s{person}-a{action}-t{trial}", _without_zeros(poses, NECK))
        tags = {"action": str(action), "trial": str(trial)}
        tracks.append(LabelledTrack(track, str(person), tags))
    return tracks


def read_japanese_vowels(folder: Path) -> list[LabelledTrack]:
    """Japanese vowels: 9 speakers, 270 and 370 utterances of 7 to 29 frames.

    "Poses" are (T, 12, 1) cepstral coefficients. Tags: ``split`` ("train", "test"). From M. Kudo,
    J. Toyama, M. Shimbo (1999), Pattern Recognition Letters 20.

    Args:
        folder: holds JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts.

    Raises:
        GMMVAEError: the folder or a file is missing, or a file is damaged.
    """
    _require_folder(folder)
    tracks = []
    for split in ("train", "test"):
        path = folder / f"JapaneseVowels_{split.upper()}.ts"
        head, mark, body = _read(path).decode("utf-8", "replace").partition("@data")
        if not mark or not body.strip():
            raise GMMVAEError(f"{path} holds no series; fetch it again")
        first = head.count("\n") + 2
        for number, line in enumerate(body.strip().split("\n")):
            poses, speaker = _utterance(line.strip(), f"{path}, line {first + number}")
            track = Track.of_poses(f"{split}-{number}", poses)
            tracks.append(LabelledTrack(track, speaker, {"split": split}))
    return tracks


def _utterance(line: str, place: str) -> tuple[NDArray[np.float64], str]:
    """Channels are separated by colons, their values by commas; the speaker is last."""
    *channels, speaker = line.split(":")
    try:
        values = np.array([channel.split(",") for channel in channels], np.float64)
    except ValueError as error:
        raise GMMVAEError(f"{place}: damaged series ({error}); fetch the file again") from error
    if len(values) != CEPSTRA or not speaker.strip():
        raise GMMVAEError(
            f"{place}: {len(values)} channels, not {CEPSTRA} and a speaker; fetch the file again"
        )
    return values.T[..., None], speaker.strip()


def _without_zeros(poses: NDArray[np.float64], but: int | None = None) -> NDArray[np.float64]:
    """Set joints at the origin to NaN: they were not detected."""
    missing = (poses == 0).all(-1)
    if but is not None:
        missing[:, but] = False
    return np.where(missing[..., None], np.nan, poses)


def _matching_files(
    folder: Path,
    pattern: re.Pattern[str],
    what: str,
    key: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda numbers: numbers,
) -> Iterable[tuple[tuple[int, ...], re.Match[str], Path]]:
    """The numbers in the names of matching files, the matches, and the files, in order."""
    _require_folder(folder)
    files: dict[tuple[int, ...], tuple[tuple[int, ...], re.Match[str], Path]] = {}
    for path in sorted(folder.rglob("*.*")):
        if match := pattern.fullmatch(path.name):
            numbers = tuple(int(group) for group in match.groups() if group.isdecimal())
            if numbers in files:
                raise GMMVAEError(f"{path} and {files[numbers][2]} are the same recording")
            files[numbers] = (numbers, match, path)
    if not files:
        raise GMMVAEError(f"{folder} holds no {what} (their names match {pattern.pattern})")
    return [files[numbers] for numbers in sorted(files, key=key)]


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        state = "is not a folder" if folder.exists() else "does not exist"
        raise GMMVAEError(f"{folder} {state}; name the folder of the set's files")


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise GMMVAEError(f"{path} can't be read: {error.strerror or error}") from error


def _table(content: bytes, path: Path, columns: int) -> NDArray[np.float64]:
    """(T, columns) numbers of a csv without a header."""
    if not content.strip():
        raise GMMVAEError(f"{path} holds no rows")
    try:
        table = np.loadtxt(io.BytesIO(content), delimiter=",", ndmin=2)
    except ValueError as error:
        raise GMMVAEError(f"{path} is damaged: {error}") from error
    if table.shape[1] != columns:
        raise GMMVAEError(f"{path} has {table.shape[1]} columns; expected {columns}")
    return table
