"""OpenPose JSON, one file a frame, read as a stream.

The format: https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md
"""

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
from pyro_gmmvae.files import parse_json
from pyro_gmmvae.skeletons.archives import ENDINGS, Read, open_files
from pyro_gmmvae.skeletons.layouts import BODY_25, COCO_18, Layout

OPENPOSE_LAYOUTS = {3 * len(layout.joints): layout for layout in (BODY_25, COCO_18)}
KEYS = ("pose_keypoints_2d", "pose_keypoints")  # the latter until version 1.1
# no camera has a million pixels a side: larger numbers are uninitialized memory
MAX_PIXEL = 1e6

_NAME = re.compile(
    r"(?P<prefix>.*?)[_-]?(?P<number>\d{1,18})(_(?P<suffix>keypoints.*))?\.json",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class Frame:
    """The people of one frame.

    Attributes:
        clip: the sub-folder's name and the file name's part before the frame number; the name of
            the folder or archive where both are empty.
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
    """The number of frames of a clip, and the first and last frame number."""

    frames: int
    first: int
    last: int

    @property
    def missing(self) -> int:
        """The count of numbers between the first and the last without a frame."""
        return self.last - self.first + 1 - self.frames


@dataclass
class ReadingReport:
    """Counts of the frames that were read so far.

    Attributes:
        layout: the joints that are read.
        frames, people: how many were returned.
        foreign: files that are not frames.
        clips: the frames by clip.
        layouts: people by the layout that the length of their list matches, skipped ones too.
        people_per_frame: frames by their number of people.
        joints_per_person: people by their number of detected joints.
        detections: (J,) people by joint.
        negative: joints with a negative coordinate (outside of the image; kept).
        non_finite: joints with non-finite or huge numbers (treated as missing).
        max_confidence: the highest one, before it is clipped to 1.
        problems: (file, reason) of the files and people that were skipped.
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
        detected = frame.confidence > 0
        self.frames += 1
        self.people += len(detected)
        self.people_per_frame[len(detected)] += 1
        self.joints_per_person.update(detected.sum(1).tolist())
        if not len(self.detections):
            self.detections = np.zeros(detected.shape[1], np.int64)
        self.detections += detected.sum(0)
        self.negative += int((frame.poses < 0).any(-1).sum())
        span = self.clips.setdefault(frame.clip, Span(0, frame.number, frame.number))
        span.frames, span.last = span.frames + 1, frame.number


def read_frames(
    source: Path,
    *,
    layout: Layout | None = None,
    strict: bool = False,
    report: ReadingReport | None = None,
) -> Iterator[Frame]:
    """The frames of a folder, or of a .tar, .tar.gz, .tgz or .zip, one at a time.

    Files are named CLIP_NUMBER_keypoints.json ("Kick_1_000000000012_keypoints.json"); names that
    continue after "keypoints" are clips of their own. Frames come clip by clip, clips and numbers
    in natural order. Sub-folders, one level deep, are clips too. A joint of confidence 0 was not
    detected; confidence is clipped to [0, 1]. Hands, faces and 3-D are not read.

    Files and people that can't be read are skipped and listed in the report: invalid JSON, no
    list of people, a list of another length than the layout's, two files of one frame.

    Args:
        source: the folder or archive.
        layout: the joints; None: BODY_25 or COCO-18, as the first person has.
        strict: raise an error instead of skipping.
        report: filled while frames are read.

    Raises:
        GMMVAEError: the source is missing, damaged or of another kind, or holds no frame that
            can be read; with ``strict``, the first problem.
    """
    report = ReadingReport() if report is None else report
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
                reader.skip(name, f"a second file of frame {number} of clip {clip!r}")
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
    files = []
    for name in names:
        folder, _, file = name.rpartition("/")
        match = _NAME.fullmatch(file)
        if match is None or "/" in folder or file.startswith(".") or folder.startswith("."):
            continue
        suffix = match["suffix"] if match["suffix"] not in ("keypoints", "KEYPOINTS") else None
        clip = "_".join(filter(None, (match["prefix"], suffix)))
        files.append(("/".join(filter(None, (folder, clip))) or whole, int(match["number"]), name))
    keys = {clip: natural(clip) for clip in {clip for clip, *_ in files}}
    return sorted(files, key=lambda file: (keys[file[0]], *file))


def natural(text: str) -> list[tuple[str, int]]:
    """A sorting key in which digits are numbers: "Kick_2" comes before "Kick_10"."""
    parts = re.split(r"([0-9]+)", text)
    return [(a, int(b or 0)) for a, b in zip(parts[::2], [*parts[1::2], ""], strict=True)]


class _UnreadableError(Exception):
    """The reason why a file or a person is skipped."""


def _people_of(content: bytes) -> list[Any]:
    try:
        frame = parse_json(content)
    except ValueError as error:
        raise _UnreadableError(f"invalid JSON ({error})") from error
    if not isinstance(frame, dict) or "people" not in frame:
        raise _UnreadableError('no "people": not a frame of OpenPose')
    if not isinstance(frame["people"], list):
        raise _UnreadableError('"people" is not a list')
    return frame["people"]


def _numbers_of(person: Any) -> list[Any]:
    """The person's pose as it is in the file."""
    values = None
    if isinstance(person, dict):
        values = person.get(KEYS[0], person.get(KEYS[1]))
    if not isinstance(values, list):
        raise _UnreadableError(f"no list {KEYS[0]!r}")
    return values


def _first_layout(contents: Iterable[bytes]) -> Layout:
    """The layout of the first person whose list has the length of one."""
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
    report: ReadingReport

    def skip(self, name: str, reason: str) -> None:
        if self.strict:
            raise GMMVAEError(f"{self.source}, {name}: {reason}")
        self.report.problems.append((name, reason))

    def frame(self, clip: str, number: int, name: str, read: Read) -> Frame | None:
        """The frame with the people that can be read; None if there are only unreadable ones."""
        try:
            people = _people_of(read(name))
        except OSError as error:
            self.skip(name, f"can't be read ({error.strerror or error})")
            return None
        except _UnreadableError as error:
            self.skip(name, str(error))
            return None
        poses = []
        for order, person in enumerate(people):
            try:
                poses.append(self._pose(person))
            except _UnreadableError as error:
                self.skip(name, f"person {order}: {error}")
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
            raise _UnreadableError(_length_problem(len(values), self.layout))
        try:
            pose = np.array(values)
        except ValueError:  # lists in the list
            pose = np.array(None)
        if pose.dtype.kind not in "iuf" or pose.ndim != 1:
            raise _UnreadableError("its pose holds values that are not numbers")
        return pose

    def _cleaned(self, joints: NDArray[np.float64]) -> tuple[Floats, Floats]:
        """Poses and confidence of (P, J, 3) numbers of a file."""
        if not len(joints):
            return joints[..., :2].astype(np.float32), joints[..., 2].astype(np.float32)
        sane = (np.abs(joints) < MAX_PIXEL).all(-1)
        confidence = np.where(sane, joints[..., 2], 0).astype(np.float32)
        self.report.non_finite += int(sane.size - sane.sum())
        self.report.max_confidence = max(self.report.max_confidence, float(confidence.max()))
        detected = confidence > 0
        poses = np.where(detected[..., None], joints[..., :2], np.nan).astype(np.float32)
        return poses, confidence.clip(0, 1)


def _length_problem(count: int, layout: Layout) -> str:
    joints = len(layout.joints)
    reason = f"{count} numbers, where {layout.name} has {3 * joints}"
    if count in (2 * joints, 36, 50):
        return f"{reason} (x and y without confidence?)"
    if count == 3 * joints - 1:
        return f"{reason} (the last confidence is missing)"
    return reason
