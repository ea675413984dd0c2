"""Tests of gmmvae skeleton inspect and render."""

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pyro_gmmvae.figures.skeleton_animation import SkeletonAnimation
from pyro_gmmvae.skeletons.layouts import BODY_25
from pyro_gmmvae.skeletons.openpose import read_frames
from pyro_gmmvae.skeletons.tracks import Track, write_tracks

from .conftest import Gmmvae
from .test_bad_input import refused


def frame(*people: list[float]) -> str:
    return json.dumps({"people": [{"pose_keypoints_2d": list(p)} for p in people]})


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Two clips with a gap, a frame without people, one problem and a foreign file."""
    folder = tmp_path / "frames"
    folder.mkdir()
    whole = [1.0, 2.0, 1.05] * 25
    legless = [1.0, -2.0, 0.5] * 9 + [0.0, 0.0, 0.0] * 16
    for name, content in {
        "a_000_keypoints": frame(whole, legless),
        "a_001_keypoints": frame(),
        "a_005_keypoints": frame(whole, whole, legless),
        "b_000_keypoints": frame(whole),
        "b_001_keypoints": "{",
    }.items():
        (folder / f"{name}.json").write_text(content)
    (folder / "README.txt").write_text("about")
    return folder


def test_inspect(gmmvae: Gmmvae, frames: Path) -> None:
    result = gmmvae("skeleton", "inspect", frames)
    assert (result.code, result.err) == (0, "")
    for line in (
        "clips             2",
        "frames            4",
        "people            6",
        "people per frame  min 0, median 1.5, max 3",
        "without people    1 frames",
        "layout            body_25",
        "missing numbers   3",
        "faint people      2",
        "outside image     18 joints",
        "max. confidence   1.05",
        "foreign files     1",
        "problems          1",
    ):
        assert line in result.out
    assert "Nose                   0.0%" in result.out
    assert "RHeel                 33.3%" in result.out
    assert "  b_001_keypoints.json: invalid JSON" in result.out
    assert "confidence above 1" in result.out


def test_inspect_as_json(gmmvae: Gmmvae, frames: Path) -> None:
    content = json.loads(gmmvae("skeleton", "inspect", frames, "--json").out)
    assert content["clips"]["a"] == {"frames": 3, "first": 0, "last": 5, "missing": 3}
    assert content["people_per_frame"] == {"min": 0, "median": 1.5, "max": 3}
    assert content["people_by_layout"] == {"body_25": 6}
    assert content["missing_joints"]["RHeel"] == pytest.approx(1 / 3, abs=1e-3)
    assert [p["file"] for p in content["problems"]] == ["b_001_keypoints.json"]


def test_inspect_shows_ten_problems_and_counts_the_others(gmmvae: Gmmvae, frames: Path) -> None:
    for number in range(30):
        (frames / f"c_{number}_keypoints.json").write_text(frame([1.0] * 54))
    result = gmmvae("skeleton", "inspect", frames)
    assert result.out.count("coco_18 among frames of body_25") == 9
    assert "and 21 more" in result.out
    assert "layout            body_25 (people: body_25 6, coco_18 30)" in result.out
    assert "two layouts" in result.out


def test_inspect_refuses(gmmvae: Gmmvae, frames: Path, tmp_path: Path) -> None:
    refused(gmmvae("skeleton", "inspect", tmp_path / "no"), "does not exist")
    refused(gmmvae("skeleton", "inspect", frames / "README.txt"), "neither a folder nor")
    refused(gmmvae("skeleton", "inspect", frames, "--strict"), "b_001_keypoints.json", "invalid")
    (tmp_path / "empty").mkdir()
    refused(gmmvae("skeleton", "inspect", tmp_path / "empty"), "no OpenPose frames")


def test_inspect_lists_the_problems_of_frames_that_all_have_one(
    gmmvae: Gmmvae, tmp_path: Path
) -> None:
    for number in range(3):
        (tmp_path / f"{number}_keypoints.json").write_text(frame([1.0] * 36))
    result = gmmvae("skeleton", "inspect", tmp_path)
    refused(result, "none of the 3 frames", "36 numbers")
    assert "  2_keypoints.json: person 0: 36 numbers" in result.out


def walk(name: str, numbers: list[int], joints: int = 25, axes: int = 2, at: float = 0) -> Track:
    one = np.random.default_rng(joints).uniform(0, 50, (joints, axes))
    poses = np.stack([one + at + n for n in numbers]).astype(np.float32)
    return Track(name, np.array(numbers), poses, np.ones(poses.shape[:2], np.float32))


@pytest.fixture
def tracks(tmp_path: Path) -> Path:
    """Two clips of two people and one person, and a sequence without a clip."""
    path = tmp_path / "tracks.npz"
    found = [walk("kick_10/0", [0, 1]), walk("kick_2/1", [10, 12, 13], at=100)]
    write_tracks([*found, walk("kick_2/0", [10, 11]), walk("solo", [3])], path)
    return path


def film(path: Path) -> Any:
    with Image.open(path) as image:
        return image.n_frames, image.size


def test_render_draws_the_people_of_a_clip(gmmvae: Gmmvae, tracks: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.gif"
    result = gmmvae("skeleton", "render", tracks, "--out", out)
    assert result.code == 0, result.err
    assert result.err == f"clip kick_2 (1 of 3 clips: --clip), 4 frames -> {out}\n"
    assert film(out)[0] == 4
    for options, frames in (
        (("--clip", "kick_10"), 2),
        (("--clip", "solo"), 1),
        (("--first", 11, "--frames", 2), 2),
    ):
        result = gmmvae("skeleton", "render", tracks, "--out", out, "--force", *options)
        assert f"{frames} frames" in result.err
        assert film(out)[0] == frames
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gif", "tracks.npz"]


def test_render_writes_mp4(gmmvae: Gmmvae, tracks: Path, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    out = tmp_path / "a.mp4"
    result = gmmvae("skeleton", "render", tracks, "--out", out)
    assert result.code == 0, result.err
    assert out.read_bytes()[4:8] == b"ftyp"


def test_render_refuses(
    gmmvae: Gmmvae, tracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(*arguments: object, out: str = "a.gif", of: Path = tracks) -> object:
        return gmmvae("skeleton", "render", of, "--out", tmp_path / out, *arguments)

    refused(render(out="a.avi"), ".gif or .mp4")
    refused(render(out="no/a.gif"), "make it first")
    refused(render(of=tmp_path / "no.npz"), "does not exist")
    refused(render("--clip", "kick_3"), "unknown clip", "did you mean 'kick_2'")
    refused(render("--layout", "body25"), "unknown layout", "body_25")
    refused(render("--layout", "coco_18"), "joint 24", "--layout")
    refused(render("--first", 99), "frame 99 is outside its frames", "10 to 13")
    refused(render("--frames", 0), "--frames")
    for joints, axes in ((7, 2), (18, 3), (25, 3)):
        write_tracks([walk("a", [0], joints, axes)], tmp_path / "odd.npz")
        refused(render(of=tmp_path / "odd.npz"), f"{joints} joints in {axes}-D", "--layout")
    write_tracks([walk("a", [0, 1, 2000])], tmp_path / "long.npz")
    refused(render(of=tmp_path / "long.npz"), "2001 frames are too many", "--frames")
    (tmp_path / "a.gif").write_text("mine")
    refused(render(), "exists and is kept")
    assert (tmp_path / "a.gif").read_text() == "mine"
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    refused(render(out="a.mp4"), "pip install 'pyro-gmmvae[video]'")


def test_a_failed_output_leaves_no_file(
    gmmvae: Gmmvae, tracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SkeletonAnimation, "save", full)
    out = tmp_path / "a.gif"
    refused(gmmvae("skeleton", "render", tracks, "--out", out), "can't write", "No space left")
    assert list(tmp_path.glob("*gif*")) == []


def test_a_person_has_one_color_and_only_detected_joints() -> None:
    poses = np.full((2, 2, 3, 2), np.nan, np.float32)
    poses[0, 0] = [[0, 0], [1, 1], [2, 4]]
    poses[0, 1, :2] = [[5, 5], [6, 6]]
    poses[1, 1] = [[5, 5], [6, 6], [7, 9]]
    names = ["$1_$", "_2"]  # neither a formula nor hidden
    shown = SkeletonAnimation(poses, names, [(0, 1), (1, 2)], ["frame 7", "frame 8"], title="c$_$")
    shown.figure.draw_without_rendering()
    axes = shown.figure.axes[0]
    bones, joints = axes.collections
    assert [s.tolist() for s in bones.get_segments()] == [
        *([[0, 0], [1, 1]], [[1, 1], [2, 4]], [[5, 5], [6, 6]])
    ]
    first, second = bones.get_colors()[0].tolist(), bones.get_colors()[2].tolist()
    assert first != second
    assert len(joints.get_offsets()) == 5
    assert axes.get_title(loc="left") == "c$_$   frame 7"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == names
    before = axes.get_xlim(), axes.get_ylim()
    shown.show(1)
    assert bones.get_colors().tolist() == [second, second]
    assert (axes.get_xlim(), axes.get_ylim()) == before
    assert axes.yaxis_inverted()
    assert (
        not SkeletonAnimation(poses, names, [], ["7"], y_down=False).figure.axes[0].yaxis_inverted()
    )


def test_animations_of_no_people_and_of_many(tmp_path: Path) -> None:
    SkeletonAnimation(np.full((1, 1, 3, 2), np.nan), ["a"], [(0, 1)], ["0"]).save(
        tmp_path / "a.gif"
    )
    many = np.random.default_rng(0).normal(size=(1, 30, 3, 2))
    shown = SkeletonAnimation(many, [str(p) for p in range(30)], [(0, 1)], ["0"])
    assert shown.figure.axes[0].get_legend() is None
    assert len({tuple(c) for c in shown.figure.axes[0].collections[0].get_colors()}) == 20


def test_real_frames_are_drawn(gmmvae: Gmmvae, real_data: Path, tmp_path: Path) -> None:
    source = real_data / "openpose_json" / "posepy_1to3"
    if not source.is_dir():
        pytest.skip("posepy_1to3 is not here")
    found = list(islice(read_frames(source), 4))
    made = [
        Track(f"{f.clip}/{f.number}-{p}", np.array([f.number]), f.poses[[p]], f.confidence[[p]])
        for f in found
        for p in range(len(f.poses))
    ]
    write_tracks(made, tmp_path / "tracks.npz")
    arguments = ("skeleton", "render", tmp_path / "tracks.npz", "--layout", BODY_25.name)
    result = gmmvae(*arguments, "--out", tmp_path / "a.gif")
    assert result.code == 0, result.err
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 4
        assert len(image.convert("RGB").getcolors(1 << 20)) > 5
