"""OpenPose JSON, one file a frame, read as a stream.

The format: https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.transform import Floats
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.archives import ENDINGS, Read, open_files
from pyro_gmmvae.skeletons.layouts import BODY_25, COCO_18, Layout

OPENPOSE_LAYOUTS = {3 * len(layout.joints): layout for layout in (BODY_25, COCO_18)}
KEYS = ("pose_keypoints_2d", "pose_keypoints")  # the latter until version 1.1
# no camera has a million pixels a side: beyond is memory that was never written
FARTHEST = 1e6

_NAME = re.compile(
    r"(?P<prefix>.*?)[_-]?(?P<number>\d{1,18})(_(?P<suffix>keypoints.*))?\.json", re.ASCII
)


@dataclass(frozen=True)
class Frame:
    """The people of one frame.

    Attributes:
        clip: the file name's part before the frame number, below its sub-folder's name; where
            both are empty, the name of the folder or archive.
        number: the frame's number in the clip.
        poses: (P, J, 2) pixels, y down, NaN where a joint was not detected; P may be 0.
        confidence: (P, J) in [0, 1], 0 where a joint was not detected.
        name: the file's name.
    """

    clip: str
    number: int
    poses: Floats
    confidence: Floats
    name: str


@dataclass
class Span:
    """The frames of a clip: how many, and the first's and last's number."""

    frames: int
    first: int
    last: int

    @property
    def missing(self) -> int:
        """How many numbers between the first and the last have no frame."""
        return self.last - self.first + 1 - self.frames


@dataclass
class Report:
    """What was read so far.

    Attributes:
        layout: the one that is read.
        frames, people: how many were given out.
        foreign: files that are no frames.
        clips: the frames by clip.
        layouts: people by the layout that their list's length is of, also those left out.
        people_per_frame: frames by how many people are in them.
        joints_per_person: people by how many of their joints were detected.
        detections: (J,) people by joint.
        negative: joints with a negative coordinate (off the picture; kept).
        non_finite: joints with a number that is none, or absurd (taken as not detected).
        max_confidence: the highest, before it is clipped to 1.
        problems: (file, reason) of what was left out.
    """

    layout: Layout | None = None
    frames: int = 0
    people: int = 0
    foreign: int = 0
    clips: dict[str, Span] = field(default_factory=dict)
    layouts: Counter[str] = field(default_factory=Counter)
    people_per_frame: Counter[int] = field(default_factory=Counter)
    joints_per_person: Counter[int] = field(default_factory=Counter)
    detections: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    negative: int = 0
    non_finite: int = 0
    max_confidence: float = 0.0
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add(self, frame: Frame) -> None:
        """Count a frame."""
        found = frame.confidence > 0
        self.frames += 1
        self.people += len(found)
        self.people_per_frame[len(found)] += 1
        self.joints_per_person.update(found.sum(1).tolist())
        if not len(self.detections):
            self.detections = np.zeros(found.shape[1], np.int64)
        self.detections += found.sum(0)
        self.negative += int((frame.poses < 0).any(-1).sum())
        span = self.clips.setdefault(frame.clip, Span(0, frame.number, frame.number))
        span.frames, span.last = span.frames + 1, frame.number


def read_frames(
    source: Path,
    *,
    layout: Layout | None = None,
    strict: bool = False,
    report: Report | None = None,
) -> Iterator[Frame]:
    """The frames of a folder, or of a .tar, .tar.gz, .tgz or .zip, one at a time.

    Files are named CLIP_NUMBER_keypoints.json ("Kick_1_000000000012_keypoints.json"); what
    follows on "keypoints" is a clip of its own. Frames come clip by clip, clips and numbers in
    natural order. Sub-folders, one level deep, are clips too. A joint of confidence 0 was not
    detected; confidence is clipped to [0, 1]. Hands, faces and 3-D are not read.

    Files and people that can't be read are left out and named in the report: invalid JSON, no
    list of people, a list of another length than the layout's, two files of one frame.

    Args:
        source: the folder or archive.
        layout: the joints; None: BODY_25 or COCO-18, as the first person is.
        strict: refuse what would be left out.
        report: filled while frames are read.

    Raises:
        GMMVAEError: the source is missing, damaged or of another kind, or holds no frame that
            can be read; with ``strict``, whatever is in the report's problems.
    """
    report = Report() if report is None else report
    with open_files(source) as (names, read):
        files = _in_order(names, source)
        report.foreign = len(names) - len(files)
        if not files:
            raise GMMVAEError(
                f"{source} holds no OpenPose frames (CLIP_000000000000_keypoints.json), only "
                f"{report.foreign} other files"
            )
        report.layout = layout or _first_layout(read(name) for *_, name in files)
        reader = _Reader(source, report.layout, strict, report)
        before: tuple[str, int] | None = None
        for clip, number, name in files:
            if (clip, number) == before:
                reader.leave_out(name, f"a second file of frame {number} of clip {clip!r}")
                continue
            frame = reader.frame(clip, number, name, read)
            before = (clip, number)
            if frame is not None:
                report.add(frame)
                yield frame
    if not report.frames:
        name, reason = report.problems[0]
        raise GMMVAEError(
            f"{source}: none of the {len(files)} frames can be read; the first, {name}: {reason}"
        )


def _in_order(names: Iterable[str], source: Path) -> list[tuple[str, int, str]]:
    """(clip, number, name) of the files that are frames, in natural order."""
    whole = source.name or source.resolve().name
    if not source.is_dir():
        ending = next(e for e in sorted(ENDINGS, key=len)[::-1] if whole.lower().endswith(e))
        whole = whole[: -len(ending)]
    found = []
    for name in names:
        folder, _, file = name.rpartition("/")
        match = _NAME.fullmatch(file)
        if match is None or "/" in folder or file.startswith(".") or folder.startswith("."):
            continue
        suffix = match["suffix"] if match["suffix"] != "keypoints" else None
        clip = "_".join(filter(None, (match["prefix"], suffix)))
        found.append(("/".join(filter(None, (folder, clip))) or whole, int(match["number"]), name))
    keys = {clip: natural(clip) for clip in {clip for clip, *_ in found}}
    return sorted(found, key=lambda file: (keys[file[0]], *file))


def natural(text: str) -> list[tuple[str, int]]:
    """A sorting key that takes digits as numbers: "Kick_2" comes before "Kick_10"."""
    parts = re.split(r"([0-9]+)", text)
    return [(a, int(b or 0)) for a, b in zip(parts[::2], [*parts[1::2], ""], strict=True)]


class _UnreadableError(Exception):
    """The reason why a file or a person is left out."""


def _people_of(content: bytes) -> list[Any]:
    try:
        frame = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _UnreadableError(f"invalid JSON ({error})") from error
    if not isinstance(frame, dict) or "people" not in frame:
        raise _UnreadableError('no "people": not a frame of OpenPose')
    if not isinstance(frame["people"], list):
        raise _UnreadableError('"people" is no list')
    return frame["people"]


def _numbers_of(person: Any) -> list[Any]:
    """The person's pose as it stands in the file."""
    values = None
    if isinstance(person, dict):
        values = person.get(KEYS[0], person.get(KEYS[1]))
    if not isinstance(values, list):
        raise _UnreadableError(f"no list {KEYS[0]!r}")
    return values


def _first_layout(contents: Iterable[bytes]) -> Layout:
    """That of the first person who has one."""
    for content in contents:
        try:
            people = [_numbers_of(person) for person in _people_of(content)]
        except _UnreadableError:
            continue
        for numbers in people:
            if len(numbers) in OPENPOSE_LAYOUTS:
                return OPENPOSE_LAYOUTS[len(numbers)]
    return BODY_25


@dataclass
class _Reader:
    source: Path
    layout: Layout
    strict: bool
    report: Report

    def leave_out(self, name: str, reason: str) -> None:
        if self.strict:
            raise GMMVAEError(f"{self.source}, {name}: {reason}")
        self.report.problems.append((name, reason))

    def frame(self, clip: str, number: int, name: str, read: Read) -> Frame | None:
        """A frame of the people that can be read; None where nothing can."""
        try:
            people = _people_of(read(name))
        except OSError as error:
            self.leave_out(name, f"can't be read ({error.strerror or error})")
            return None
        except _UnreadableError as error:
            self.leave_out(name, str(error))
            return None
        poses = []
        for order, person in enumerate(people):
            try:
                poses.append(self._pose(person))
            except _UnreadableError as error:
                self.leave_out(name, f"person {order}: {error}")
        if people and not poses:
            return None
        joints = np.array(poses, np.float64).reshape(len(poses), len(self.layout.joints), 3)
        return Frame(clip, number, *self._cleaned(joints), name)

    def _pose(self, person: Any) -> NDArray[Any]:
        values = _numbers_of(person)
        expected = 3 * len(self.layout.joints)
        own = OPENPOSE_LAYOUTS.get(len(values))
        if len(values) == expected:
            self.report.layouts[self.layout.name] += 1
        elif own is not None:
            self.report.layouts[own.name] += 1
            raise _UnreadableError(f"{own.name} among frames of {self.layout.name}")
        else:
            raise _UnreadableError(_about_length(len(values), self.layout))
        try:
            pose = np.array(values)
        except ValueError:  # lists in the list
            pose = np.array(None)
        if pose.dtype.kind not in "iuf" or pose.ndim != 1:
            raise _UnreadableError("its pose holds what is no number")
        return pose

    def _cleaned(self, joints: NDArray[np.float64]) -> tuple[Floats, Floats]:
        """Poses and confidence of (P, J, 3) numbers of a file."""
        if not len(joints):
            return joints[..., :2].astype(np.float32), joints[..., 2].astype(np.float32)
        sane = (np.abs(joints) < FARTHEST).all(-1)
        confidence = np.where(sane, joints[..., 2], 0).astype(np.float32)
        self.report.non_finite += int(sane.size - sane.sum())
        self.report.max_confidence = max(self.report.max_confidence, float(confidence.max()))
        found = confidence > 0
        poses = np.where(found[..., None], joints[..., :2], np.nan).astype(np.float32)
        return poses, confidence.clip(0, 1)


def _about_length(count: int, layout: Layout) -> str:
    joints = len(layout.joints)
    reason = f"{count} numbers, where {layout.name} has {3 * joints}"
    if count in (2 * joints, 36, 50):
        return f"{reason} (x and y without confidence?)"
    if count == 3 * joints - 1:
        return f"{reason} (the last confidence is missing)"
    return reason
