"""Tests of published tables: values, missing joints, and errors of damaged files."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons.published import (
    LabelledTrack,
    read_japanese_vowels,
    read_ucalgary_gait,
    read_utd_mhad,
)

Reader = Callable[[Path], list[LabelledTrack]]


def rows(values: np.ndarray) -> str:
    return "\n".join(",".join(map(str, row)) for row in values) + "\n"


def gait_file(folder: Path, person: int, run: int, seed: int | None, kind: str = "N") -> Path:
    """A gait of three frames; None: an empty file."""
    name = f"subject{person}_Seq_{run}_Gen_F_GeometricPositions_{kind}.csv"
    path = folder / f"sub{person}" / f"Run{run}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(size=(3, 62)).round(4)
    path.write_text("" if seed is None else "Foot Left X, Y, Z\n" + rows(values))
    path.with_name(name.replace("GeometricPositions", "Height")).write_text("1\n")
    return path


def names(tracks: list[LabelledTrack]) -> list[str]:
    return [one.track.sequence for one in tracks]


def test_gait_without_empty_and_duplicate_files(tmp_path: Path) -> None:
    for run in (1, 2, 3):
        gait_file(tmp_path, 2, run, seed=run)
        gait_file(tmp_path, 10, run, seed=run)  # is person 2
    gait_file(tmp_path, 1, 1, seed=11)
    gait_file(tmp_path, 1, 2, seed=11)
    gait_file(tmp_path, 1, 3, seed=None)
    gait_file(tmp_path, 1, 4, seed=14)
    gait_file(tmp_path, 1, 7, seed=17, kind="OA")
    gait_file(tmp_path, 12, 1, seed=121)
    tracks = read_ucalgary_gait(tmp_path)
    assert names(tracks) == [
        *("subject1-run1", "subject1-run4", "subject2-run1", "subject2-run2", "subject2-run3"),
        "subject12-run1",
    ]
    assert [one.person for one in tracks] == ["1", "1", "2", "2", "2", "12"]
    assert tracks[1].tags == {"run": "4", "gender": "F"}


def test_values_of_gait(tmp_path: Path) -> None:
    path = gait_file(tmp_path, 1, 1, seed=0)
    values = np.loadtxt(path, delimiter=",", skiprows=1)
    values[1, 6:9] = 0
    values[2, 6] = 0  # one coordinate may well be
    path.write_text("header\n" + rows(values))
    (one,) = read_ucalgary_gait(tmp_path)
    assert one.track.poses.shape == (3, 18, 3)
    assert np.isnan(one.track.poses[1, 2]).all()
    np.testing.assert_array_equal(np.argwhere(one.track.confidence == 0), [[1, 2]])
    np.testing.assert_allclose(one.track.poses[0, 17], values[0, 51:54], rtol=1e-6)
    np.testing.assert_allclose(one.track.poses[2, 2], values[2, 6:9], rtol=1e-6)


def utd_file(folder: Path, action: int, person: int, trial: int, columns: int = 36) -> Path:
    path = folder / "csv" / f"a{action}_s{person}_t{trial}_color.avi.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(2 * columns, dtype=float).reshape(2, -1) + 1
    values[:, 2:4] = 0  # the neck
    values[1, 8:10] = 0
    path.write_text(rows(values))
    return path


def test_actions(tmp_path: Path) -> None:
    for action, person, trial in ((10, 1, 1), (2, 1, 1), (2, 1, 2), (2, 11, 1), (2, 3, 1)):
        utd_file(tmp_path, action, person, trial)
    tracks = read_utd_mhad(tmp_path)
    assert names(tracks) == ["s1-a2-t1", "s1-a2-t2", "s1-a10-t1", "s3-a2-t1", "s11-a2-t1"]
    assert tracks[2].tags == {"action": "10", "trial": "1"}
    assert tracks[4].person == "11"
    track = tracks[0].track
    assert track.poses.shape == (2, 18, 2)
    np.testing.assert_array_equal(track.poses[:, 1], 0)
    np.testing.assert_array_equal(np.argwhere(track.confidence == 0), [[1, 4]])
    np.testing.assert_array_equal(track.poses[0, 17], [35, 36])


def vowels(folder: Path, lines: list[str], split: str = "TRAIN") -> None:
    head = "#about\n@problemName JapaneseVowels\n@classLabel true 1 2\n@data\n"
    (folder / f"JapaneseVowels_{split}.ts").write_text(head + "\n".join(lines) + "\n")


def utterance(length: int, speaker: str, channels: int = 12) -> str:
    each = [",".join(str(c + t / 100) for t in range(length)) for c in range(channels)]
    return ":".join([*each, speaker])


def test_vowels(tmp_path: Path) -> None:
    vowels(tmp_path, [utterance(7, "1"), utterance(9, "2")])
    vowels(tmp_path, [utterance(8, "2")], "TEST")
    tracks = read_japanese_vowels(tmp_path)
    assert names(tracks) == ["train-0", "train-1", "test-0"]
    assert [one.person for one in tracks] == ["1", "2", "2"]
    assert [one.tags["split"] for one in tracks] == ["train", "train", "test"]
    poses = tracks[1].track.poses
    assert poses.shape == (9, 12, 1)
    np.testing.assert_allclose(poses[3, 5], [5.03])


def refused(reader: Reader, folder: Path, *words: str) -> None:
    with pytest.raises(GMMVAEError) as caught:
        reader(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("reader", [read_ucalgary_gait, read_utd_mhad, read_japanese_vowels])
def test_bad_folders_are_refused(tmp_path: Path, reader: Reader) -> None:
    refused(reader, tmp_path / "absent", "absent does not exist")
    (tmp_path / "file").write_text("")
    refused(reader, tmp_path / "file", "is not a folder")
    (tmp_path / "empty").mkdir()
    refused(reader, tmp_path / "empty", "empty")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("head\n1,2,3\n", ["3 columns", "62"]),
        ("head\n", ["holds no rows"]),
        ("head\n1,2\n1,2,3\n", ["is damaged"]),
        ("head\n" + "x," * 61 + "1\n", ["is damaged"]),
        ("head\n" + "\x00" * 40, ["is damaged"]),
    ],
)
def test_damaged_gait(tmp_path: Path, content: str, words: list[str]) -> None:
    path = gait_file(tmp_path, 1, 1, seed=0)
    path.write_text(content)
    refused(read_ucalgary_gait, tmp_path, path.name, *words)


def test_damaged_actions(tmp_path: Path) -> None:
    path = utd_file(tmp_path, 1, 1, 1, columns=34)
    refused(read_utd_mhad, tmp_path, path.name, "34 columns", "36")
    path.write_text("")
    refused(read_utd_mhad, tmp_path, path.name, "holds no rows")
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / path.name).write_text("")
    refused(read_utd_mhad, tmp_path, "the same recording")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (utterance(7, "1", channels=11), ["line 6", "11 channels"]),
        (utterance(7, "1").replace("5.03", "x"), ["line 6", "damaged series"]),
        (utterance(7, "1").replace("5.03,", ""), ["line 6", "damaged series"]),
        (utterance(7, " "), ["line 6", "speaker"]),
        ("", ["holds no series"]),
    ],
)
def test_damaged_vowels(tmp_path: Path, line: str, words: list[str]) -> None:
    vowels(tmp_path, [utterance(7, "1")], "TEST")
    vowels(tmp_path, [utterance(7, "1"), line] if line else [])
    refused(read_japanese_vowels, tmp_path, "JapaneseVowels_TRAIN.ts", *words)
    (tmp_path / "JapaneseVowels_TRAIN.ts").write_text("@dimensions 12")
    refused(read_japanese_vowels, tmp_path, "holds no series")


REAL = {
    "ucalgary_gait": (read_ucalgary_gait, 27, 159, 19_080, 82),
    "utd_mhad_openpose": (read_utd_mhad, 8, 195, 9_433, 166),
    "japanese_vowels": (read_japanese_vowels, 9, 640, 9_961, 0),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets(real_data: Path, name: str) -> None:
    reader, people, sequences, frames, missing = REAL[name]
    if not (real_data / name).is_dir():
        pytest.skip(f"{name} is not here")
    tracks = reader(real_data / name)
    assert len({one.person for one in tracks}) == people
    assert len(set(names(tracks))) == len(tracks) == sequences
    assert len({one.track.poses.tobytes() for one in tracks}) == sequences  # no copies are left
    assert sum(len(one.track.frames) for one in tracks) == frames
    assert sum(int((one.track.confidence == 0).sum()) for one in tracks) == missing
    if name == "japanese_vowels":
        assert Counter(one.tags["split"] for one in tracks) == {"train": 270, "test": 370}
    if name == "ucalgary_gait":
        gone = {("6", "6"), ("22", "2"), ("21", "4")}
        assert not gone & {(one.person, one.tags["run"]) for one in tracks}
        assert "10" not in {one.person for one in tracks}
