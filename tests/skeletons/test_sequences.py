"""Tests of sequences as data: classes, unknown people, and splits of whole sequences."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pyro_gmmvae.data import DataOptions, Transform
from pyro_gmmvae.data.dataset import Dataset
from pyro_gmmvae.data.row_groups import Sequences
from pyro_gmmvae.datasets import load_data
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons import PoseWindow
from pyro_gmmvae.skeletons.layouts import COCO_18, Layout
from pyro_gmmvae.skeletons.people import People
from pyro_gmmvae.skeletons.pose_dataset import sequence_dataset
from pyro_gmmvae.skeletons.tracks import Track, write_tracks

STICK = Layout("stick", ("a", "b", "c"), ((0, 1), (1, 2)), root=0, torso=((0,), (1,)))


def tracks(lengths: list[int], joints: int = 3, seed: int = 0) -> list[Track]:
    generator = np.random.default_rng(seed)
    return [
        Track.of_poses(f"s{k}", generator.normal(size=(n, joints, 2)))
        for k, n in enumerate(lengths)
    ]


def dataset(people: People, found: list[Track] | None = None) -> Dataset:
    found = tracks([8] * len(people.person)) if found is None else found
    return sequence_dataset(found, people, STICK, {"window": 4, "stride": 4})


def test_people_outside_of_test_are_classes_and_others_are_unknown() -> None:
    person = ("p10", "p9", None, "p9", "zoe", "zoe", None)
    split = ("train", "val", "train", "test", "test", "test", "test")
    data = dataset(People(person, split, {"view": ("b", None, "a", "a", "b", "c", None)}))
    assert data.classes == ("p9", "p10")
    assert data.y.tolist() == [1, 1, 0, 0, -1, -1, 0, 0, -1, -1, -1, -1, -1, -1]
    sequences = data.sequences
    assert sequences is not None
    assert sequences.unknown_names == ("zoe",)
    assert sequences.unknown_person.tolist() == [-1, -1, -1, -1, 0, 0, -1]
    assert data.test is not None
    assert data.test.tolist() == [6, 7, 8, 9, 10, 11, 12, 13]
    assert data.validation is not None
    assert data.validation.tolist() == [2, 3]
    (view,) = data.factors
    assert (view.name, view.classes) == ("view", ("a", "b", "c"))
    assert view.y[::2].tolist() == [1, -1, 0, 0, 1, 2, -1]


def test_without_splits_all_people_are_classes_and_parts_are_drawn() -> None:
    data = dataset(People(("a", "b", None), (None,) * 3))
    assert data.classes == ("a", "b")
    assert (data.test, data.validation) == (None, None)
    assert dataset(People.unknown(3)).classes == ()


def test_notes_list_dropped_padded_and_interpolated_data() -> None:
    found = [
        *tracks([8, 3]),
        Track.of_poses("empty", np.full((9, 3, 2), np.nan)),
        Track("gap", np.array([0, 1, 3, 4]), *_arrays(4)),
    ]
    notes = " ".join(dataset(People.unknown(4), found).notes)
    assert "1 sequences have no joints (empty, ...)" in notes
    assert "1 sequences are shorter than a window and padded" in notes
    assert "(s1, ...)" in notes
    assert "joints are interpolated" in notes
    assert dataset(People.unknown(2)).notes == ()


def _arrays(frames: int) -> tuple[np.ndarray, np.ndarray]:
    return np.ones((frames, 3, 2), np.float32), np.ones((frames, 3), np.float32)


def test_shared_frames_are_counted_without_empty_ones() -> None:
    one, other, copy = tracks([8, 8, 8])
    copy.poses[2:5] = one.poses[1:4]
    for track in (one, other, copy):
        track.poses[7] = np.nan
    sequences = dataset(People.unknown(3), [one, other, copy]).sequences
    assert sequences is not None
    assert sequences.shared_frames(np.array([0]), np.array([1, 2])) == 3
    assert sequences.shared_frames(np.array([0]), np.array([1])) == 0


def test_another_number_of_joints_than_in_the_layout_is_refused() -> None:
    with pytest.raises(GMMVAEError, match="tracks have 18 joints, and the layout 'stick' has 3"):
        dataset(People.unknown(1), tracks([8], 18))


# -- the user's own ------------------------------------------------------------------------


def load(folder: Path, joints: int, **options: object) -> Dataset:
    write_tracks(tracks([9, 9], joints), folder / "t.npz")
    return load_data("skeleton", DataOptions(tracks=folder / "t.npz", **options))  # type: ignore[arg-type]


def test_a_file_of_tracks_gets_the_layout_of_openpose(tmp_path: Path) -> None:
    data = load(tmp_path, 18)
    assert isinstance(data.kind, PoseWindow)
    assert data.kind.layout == COCO_18
    assert (data.classes, len(data.x)) == ((), 4)
    (tmp_path / "p.csv").write_text("sequence,person\ns1,bo\n")
    assert load(tmp_path, 18, labels_file=tmp_path / "p.csv").y.tolist() == [-1] * 2 + [0] * 2


@pytest.mark.parametrize(
    ("joints", "layout", "message"),
    [
        (7, None, "7 joints in 2-D; name their layout with --layout"),
        (7, "coco-18", "18"),
        (25, "coco-18", "joint 24 is out of range; the layout has 18 joints"),
        (18, "coco-81", "did you mean 'coco_18'"),
    ],
)
def test_tracks_of_another_layout(
    tmp_path: Path, joints: int, layout: str | None, message: str
) -> None:
    """Fewer joints than in the layout are accepted: the others were never detected."""
    if message == "18":
        assert load(tmp_path, joints, layout=layout).x.shape[2] == 18
        return
    with pytest.raises(GMMVAEError, match=message):
        load(tmp_path, joints, layout=layout)


def test_people_of_other_sequences_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("sequence,person\ns7,bo\n")
    with pytest.raises(GMMVAEError, match="s7"):
        load(tmp_path, 18, labels_file=tmp_path / "p.csv")
    with pytest.raises(GMMVAEError, match="needs --tracks"):
        load_data("skeleton", DataOptions())


# -- splits of whole sequences -------------------------------------------------------------


def many(seed: int = 0) -> tuple[np.ndarray, Sequences]:
    """40 sequences of 1 to 6 windows, their rows shuffled; 4 people; two sequences have no row."""
    generator = np.random.default_rng(seed)
    person = np.r_[np.arange(38) % 4, -1, -1]
    of_row = np.repeat(np.arange(40), generator.integers(1, 7, 40))
    of_row = generator.permutation(of_row[~np.isin(of_row, (5, 17))])
    names = np.arange(40).astype(str)
    unseen = np.full(40, -1)
    return person[of_row], Sequences(names, of_row, (frozenset(),) * 40, unseen, ())


SEEDS = {"classes": 4, "split_seed": 0, "label_seed": 0}


@pytest.mark.parametrize("given", [False, True])
def test_no_sequence_is_in_two_parts_and_labels_count_sequences(given: bool) -> None:
    y, sequences = many()
    test = sequences.rows_of(np.array([3, 9, 11])) if given else 6
    split = sequences.split(y, test=test, validation=5, labels=8, **SEEDS)
    parts = (split.train, split.validation, split.test)
    rows = np.concatenate(parts)
    assert np.array_equal(np.sort(rows), np.arange(len(y)))
    owners = [set(sequences.of_row[part]) for part in parts]
    assert [len(one) for one in owners] == [38 - 5 - len(owners[2]), 5, 3 if given else 6]
    if given:
        assert owners[2] == {3, 9, 11}
    labelled = np.unique(sequences.of_row[split.labelled])
    assert np.array_equal(split.labelled, sequences.rows_of(labelled))
    assert np.bincount(labelled % 4).tolist() == [2, 2, 2, 2]
    assert set(labelled) <= owners[0]


def test_given_validation_rows_and_all_labels() -> None:
    y, sequences = many()
    given = sequences.rows_of(np.array([0, 39]))
    split = sequences.split(y, test=0.9, validation=given, labels=None, **SEEDS)
    assert set(sequences.of_row[split.validation]) == {0, 39}
    assert not set(sequences.of_row[split.test]) & {0, 39}
    assert (y[split.labelled] >= 0).all()
    assert len(split.labelled) == (y[split.train] >= 0).sum()


def test_more_sequences_than_there_are_is_refused() -> None:
    y, sequences = many()
    with pytest.raises(GMMVAEError, match="labels are more than the"):
        sequences.split(y, test=0, validation=0, labels=len(y), **SEEDS)


# -- the transform, where entries are missing ----------------------------------------------


def test_standardizing_ignores_missing_entries() -> None:
    x = np.random.default_rng(0).normal(3, 2, (50, 4))
    x[::3, 0], x[:, 1], x[1:, 2] = np.nan, np.nan, np.nan
    x[:, 3] = 7
    transform = Transform.standardizing(x)
    np.testing.assert_allclose(transform.shift, [np.nanmean(x[:, 0]), 0, x[0, 2], 7])
    np.testing.assert_allclose(transform.scale, [np.nanstd(x[:, 0]), 1, 1, 1])
    seen = transform(x)
    np.testing.assert_array_equal(np.isnan(seen), np.isnan(x))
    np.testing.assert_allclose(transform.invert(seen), x, rtol=1e-5)


def test_outliers_are_clipped_and_missing_entries_stay() -> None:
    transform = replace(Transform.standardizing(np.array([[-1.0], [1.0]])), limit=6)
    assert transform(np.array([[50.0], [-7.0], [5.0], [np.nan]])).T.tolist()[0][:3] == [6, -6, 5]
    assert np.isnan(transform(np.array([[np.nan]]))).all()
    assert Transform.from_json(transform.to_json())(np.array([[50.0]])).item() == 6
