"""Tests of OpenPose JSON: values, order, and reports of files that can't be read."""

import gzip
import json
import tarfile
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.layouts import BODY_25, COCO_18, Layout
from pyro_gmmvae.skeletons.openpose import Frame, ReadingReport, read_frames


def person(joints: int = 25, at: float = 100.0, **changes: Any) -> dict[str, Any]:
    """Joint j at (at + j, at + 2 j) with confidence 0.5."""
    values = [v for j in range(joints) for v in (at + j, at + 2 * j, 0.5)]
    return {"person_id": [-1], "pose_keypoints_2d": values, "face_keypoints_2d": []} | changes


def text(*people: Any) -> str:
    return json.dumps({"version": 1.3, "people": list(people)})


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def name(number: int, clip: str = "video_") -> str:
    return f"{clip}{number:012d}_keypoints.json"


def read(source: Path, **options: Any) -> tuple[list[Frame], ReadingReport]:
    report = ReadingReport()
    return list(read_frames(source, report=report, **options)), report


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three clips in one folder, with other files."""
    files = {name(n, f"Kick_{k}_"): text(person(at=k)) for k in (10, 2) for n in (12, 2, 100)}
    others = {"README.txt": "hello", "frame_1.png": "", f"._{name(1)}": "", "meta.json": "{}"}
    return put(tmp_path / "soccer", files | {name(0, ""): text()} | others)


ORDER = [
    *(("Kick_2", 2), ("Kick_2", 12), ("Kick_2", 100)),
    *(("Kick_10", 2), ("Kick_10", 12), ("Kick_10", 100)),
    ("soccer", 0),
]


def test_clips_and_frames_come_in_natural_order(clips: Path) -> None:
    frames, report = read(clips)
    assert [(f.clip, f.number) for f in frames] == ORDER
    assert frames[0].name == name(2, "Kick_2_")
    assert report.foreign == 4
    assert report.problems == []
    assert (report.frames, report.people) == (7, 6)
    assert report.people_per_frame == Counter({1: 6, 0: 1})
    kick = report.clips["Kick_2"]
    assert (kick.frames, kick.first, kick.last, kick.missing) == (3, 2, 100, 96)


@pytest.mark.parametrize("kind", [".tar", ".tar.gz", ".tgz", ".zip"])
@pytest.mark.parametrize("inner", ["", "./", "data/soccer/"])
def test_an_archive_is_read_as_its_folder(
    clips: Path, tmp_path: Path, kind: str, inner: str
) -> None:
    archive = tmp_path / f"soccer{kind}"
    # not in the order of the frames, as a folder's files come
    files = sorted(clips.iterdir(), key=lambda path: path.name[::-1])
    if kind == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in files:
                packed.write(path, inner + path.name)
    else:
        with tarfile.open(archive, "w" if kind == ".tar" else "w:gz") as packed_tar:
            for path in files:
                packed_tar.add(path, inner + path.name)
    frames, report = read(archive)
    assert [(f.clip, f.number) for f in frames] == ORDER
    assert report.foreign == 4
    for ours, theirs in zip(frames, read(clips)[0], strict=True):
        np.testing.assert_array_equal(ours.poses, theirs.poses)


def test_values_of_a_person(tmp_path: Path) -> None:
    odd = person()
    values = odd["pose_keypoints_2d"]
    values[0:3] = [0, 0, 0]
    values[3:6] = [7.5, 8.5, 0]
    values[6:9] = [-3.0, 20.0, 1.0631]
    values[9:12] = [float("nan"), 4, 0.9]
    values[12:15] = [5, float("inf"), 0.9]
    values[15:18] = [4.9e33, 5, 0.9]
    (frame,), report = read(put(tmp_path, {name(3): text(odd, person(at=200))}))
    assert frame.poses.shape == (2, 25, 2)
    assert frame.poses.dtype == frame.confidence.dtype == np.float32
    assert np.isnan(frame.poses[0, [0, 1, 3, 4, 5]]).all()
    assert (frame.confidence[0, [0, 1, 3, 4, 5]] == 0).all()
    np.testing.assert_allclose(frame.poses[0, 2], [-3, 20])
    assert frame.confidence[0, 2] == 1
    np.testing.assert_allclose(frame.poses[1, 24], [224, 248])
    np.testing.assert_allclose(frame.confidence[0, 6:], 0.5)
    assert (report.negative, report.non_finite) == (1, 3)
    assert report.max_confidence == pytest.approx(1.0631)
    assert report.joints_per_person == Counter({20: 1, 25: 1})
    np.testing.assert_array_equal(report.detections, [1, 1, 2, 1, 1, 1] + [2] * 19)


def test_coco_of_old_versions(tmp_path: Path) -> None:
    old = {"pose_keypoints": person(18)["pose_keypoints_2d"]}
    ints = {"pose_keypoints_2d": [1] * 54}
    frames, report = read(put(tmp_path, {name(0): text(old), name(1): text(ints)}))
    assert [f.poses.shape for f in frames] == [(1, 18, 2)] * 2
    assert report.layout == COCO_18


def test_frames_before_the_first_person_have_the_layout_of_the_person(tmp_path: Path) -> None:
    files = {name(0): text(), name(1): "[", name(2): text(person(18))}
    frames, _ = read(put(tmp_path, files))
    assert [f.poses.shape for f in frames] == [(0, 18, 2), (1, 18, 2)]
    assert frames[0].confidence.shape == (0, 18)
    (empty,), _ = read(put(tmp_path / "nobody", {name(0): text()}))
    assert empty.poses.shape == (0, 25, 2)


def test_sub_folders_are_clips_one_level_deep(tmp_path: Path) -> None:
    files = [name(1), f"b10/{name(1)}", f"b2/{name(1, '')}", f"b2/deep/{name(1)}", f".x/{name(1)}"]
    frames, report = read(put(tmp_path, dict.fromkeys(files, text(person()))))
    assert [f.clip for f in frames] == ["b2", "b10/video", "video"]
    assert report.foreign == 2
    assert frames[0].name == f"b2/{name(1, '')}"


def test_a_suffix_after_keypoints_is_a_clip(tmp_path: Path) -> None:
    files = {f"000000000001_keypoints{end}.json": text(person()) for end in ("", "_3", "_12")}
    frames, report = read(put(tmp_path / "eight", files))
    assert [f.clip for f in frames] == ["eight", "keypoints_3", "keypoints_12"]
    assert report.problems == []


BROKEN = {
    "truncated": ('{"version":1.3,"people":[{"pose_keyp', "invalid JSON"),
    "bare nan": (text(person()).replace("100.0", "-nan", 1), "invalid JSON"),
    "no text": ("\x00\x01", "invalid JSON"),
    "deep": ("[" * 100_000, "invalid JSON"),
    "no people": ('{"version": 1.3}', 'no "people"'),
    "a list": ("[]", 'no "people"'),
    "people of another kind": ('{"people": {"0": []}}', '"people" is not a list'),
    "36": (text(person(pose_keypoints_2d=[1] * 36)), "36 numbers.*without confidence"),
    "74": (text(person(pose_keypoints_2d=[1] * 74)), "74 numbers.*last confidence is missing"),
    "78": (text(person(26)), "78 numbers, where body_25 has 75"),
    "none": (text(person(pose_keypoints_2d=[])), "0 numbers"),
    "no pose": (text({"person_id": [-1]}), "no list 'pose_keypoints_2d'"),
    "no person": (text(None), "no list 'pose_keypoints_2d'"),
    "words": (text(person(pose_keypoints_2d=["1"] * 75)), "values that are not numbers"),
    "nulls": (text(person(pose_keypoints_2d=[None] * 75)), "values that are not numbers"),
    "lists": (text(person(pose_keypoints_2d=[[1, 2]] * 75)), "values that are not numbers"),
    "ragged": (
        text(person(pose_keypoints_2d=[[1, 2], 3] * 37 + [1])),
        "values that are not numbers",
    ),
    "huge": (text(person(pose_keypoints_2d=[10**400] * 75)), "integer of more than 64 bits"),
    "coco among body": (text(person(18)), "coco_18 among frames of body_25"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=list(BROKEN))
def test_an_unreadable_file_is_skipped_and_reported(
    tmp_path: Path, content: str, reason: str
) -> None:
    put(tmp_path, {name(0): text(person()), name(1): content, name(2): text(person())})
    frames, report = read(tmp_path)
    assert [f.number for f in frames] == [0, 2]
    assert report.clips["video"].missing == 1
    ((file, said),) = report.problems
    assert file == name(1)
    with pytest.raises(GMMVAEError, match=reason) as caught:
        read(tmp_path, strict=True)
    assert name(1) in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unreadable_person_is_skipped_alone(tmp_path: Path) -> None:
    files = {name(0): text(person(), person(18), person(at=300))}
    (frame,), report = read(put(tmp_path, files))
    np.testing.assert_allclose(frame.poses[:, 0, 0], [100, 300])
    assert report.problems == [(name(0), "person 1: coco_18 among frames of body_25")]
    assert report.layouts == Counter({"body_25": 2, "coco_18": 1})
    (frame,), _ = read(tmp_path, layout=COCO_18)
    assert frame.poses.shape == (1, 18, 2)


def test_a_custom_layout(tmp_path: Path) -> None:
    (frame,), _ = read(
        put(tmp_path, {name(0): text(person(3))}), layout=Layout("mine", ("a", "b", "c"))
    )
    assert frame.poses.shape == (1, 3, 2)


def test_two_files_of_one_frame(tmp_path: Path) -> None:
    files = {name(7): text(person()), "video_7_keypoints.json": text(person())}
    frames, report = read(put(tmp_path, files))
    assert len(frames) == 1
    assert "a second file of frame 7 of clip 'video'" in report.problems[0][1]
    with pytest.raises(GMMVAEError, match="second file"):
        read(tmp_path, strict=True)


def test_bad_sources_are_refused(tmp_path: Path) -> None:
    def refused(source: Path, words: str) -> None:
        with pytest.raises(GMMVAEError, match=words) as caught:
            read(source)
        assert "\n" not in str(caught.value)
        assert source.name in str(caught.value)

    refused(tmp_path / "absent", "does not exist")
    refused(put(tmp_path, {"notes.md": "x"}) / "notes.md", "neither a folder nor an archive")
    refused(put(tmp_path / "other", {"a.png": "", "b.txt": ""}), "no OpenPose frames.*2 other")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no OpenPose frames.*0 other")
    wrong = {name(n): text(person(pose_keypoints_2d=[1] * 74)) for n in range(3)}
    refused(put(tmp_path / "wrong", wrong), "none of the 3 frames.*000_keypoints.json.*74 numbers")


@pytest.mark.parametrize("kind", [".tar", ".tar.gz", ".tgz", ".zip"])
def test_damaged_archives(tmp_path: Path, kind: str) -> None:
    source = put(tmp_path / "frames", {name(n): text(person(at=n)) for n in range(20)})
    whole = tmp_path / f"whole{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(whole, "w") as packed:
            for path in source.iterdir():
                packed.write(path, path.name)
    else:
        with tarfile.open(whole, "w" if kind == ".tar" else "w:gz") as packed_tar:
            packed_tar.add(source)
    assert len(read(whole)[0]) == 20
    content = whole.read_bytes()
    middle = len(content) // 2
    flipped = bytes(b ^ 255 for b in content[middle : middle + 600])
    damages = [content[:middle], b"", b"nothing of the kind" * 99]
    # a plain tar has no checksum of what is in it
    damages += [] if kind == ".tar" else [content[:middle] + flipped + content[middle + 600 :]]
    for damage in damages:
        broken = tmp_path / f"broken{kind}"
        broken.write_bytes(damage)
        with pytest.raises(GMMVAEError, match=r"broken.* is (a damaged archive|empty)"):
            read(broken)


def test_a_tar_truncated_between_two_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        for path in put(tmp_path / "frames", {name(n): text(person()) for n in (0, 1)}).iterdir():
            packed.add(path, path.name)
    with tarfile.open(tmp_path / "a.tar") as packed:
        second = packed.getmembers()[1].offset
    assert second > 0
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:second])
    with pytest.raises(GMMVAEError, match="damaged archive"):
        read(tmp_path / "a.tar")
    # and a gzip that is none within
    (tmp_path / "b.tgz").write_bytes(gzip.compress(b"no tar" * 1000))
    with pytest.raises(GMMVAEError, match="damaged archive"):
        read(tmp_path / "b.tgz")


def test_memory_does_not_grow_with_the_frames(tmp_path: Path) -> None:
    content = text(*[person()] * 5)
    source = put(tmp_path, {name(n): content for n in range(200)})
    frames = read_frames(source)
    next(frames)
    tracemalloc.start()
    for _ in frames:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * len(content)  # poses alone are a quarter of that, 200 times


REAL = {
    "posepy_multi": (280, 2847, {"body_25"}, 1, 0),
    "posepy_1to3": (600, 1306, {"body_25"}, 1, 0),
    "soccer_0to3": (1785, 1519, {"body_25"}, 20, 0),
    "openpose_8people_and_truncated": (8, 33, {"body_25"}, 5, 2),
    "coco18_v12": (91, 91, {"coco_18"}, 2, 0),
}


@pytest.mark.parametrize("folder", REAL)
def test_real_recordings(real_data: Path, folder: str) -> None:
    source = real_data / "openpose_json" / folder
    if not source.is_dir():
        pytest.skip(f"{folder} is not here")
    frames, report = read(source)
    found = (report.frames, report.people, set(report.layouts), len(report.clips))
    assert (*found, len(report.problems)) == REAL[folder]
    keys = [(f.clip, f.number) for f in frames]
    assert len(set(keys)) == len(keys)
    for frame in frames:
        assert (np.isfinite(frame.poses).all(-1) == (frame.confidence > 0)).all()
        assert frame.confidence.max(initial=0) <= 1
    assert report.layout in (BODY_25, COCO_18)


@pytest.mark.parametrize("folder", ["coco_no_conf", "vae_bvh_74values"])
def test_real_files_of_a_wrong_length(real_data: Path, folder: str) -> None:
    source = real_data / "openpose_json" / folder
    if not source.is_dir():
        pytest.skip(f"{folder} is not here")
    with pytest.raises(GMMVAEError, match=r"none of the .* frames can be read"):
        read(source)
