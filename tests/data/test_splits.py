"""Tests of splits: disjoint, stratified and reproducible, with balanced label draws."""

from typing import Any

import numpy as np
import pytest

from pyro_gmmvae.data import split_rows
from pyro_gmmvae.datasets import load_data
from pyro_gmmvae.errors import GMMVAEError

Y = load_data("digits").y


def split(**changes: Any) -> Any:
    values = {"classes": 10, "labels": 100, "test": 0.2, "validation": 200, "split_seed": 0}
    return split_rows(Y, **({"label_seed": 0} | values | changes))


def test_parts_are_disjoint_and_cover_all() -> None:
    s = split()
    together = np.concatenate([s.train, s.validation, s.test])
    assert np.array_equal(np.sort(together), np.arange(len(Y)))
    assert len(s.test) == round(0.2 * len(Y))
    assert len(s.validation) == 200
    assert np.isin(s.labelled, s.train).all()


def test_parts_are_stratified() -> None:
    share = np.bincount(Y) / len(Y)
    s = split()
    for part in (s.train, s.validation, s.test):
        assert np.abs(np.bincount(Y[part]) / len(part) - share).max() < 0.01


@pytest.mark.parametrize("seed", range(20))
def test_small_classes_are_not_held_out_completely(seed: int) -> None:
    y = np.array([*np.repeat(np.arange(27), 2), -1, -1])
    s = split_rows(
        y, classes=27, labels=27, test=0.1, validation=0.1, split_seed=seed, label_seed=0
    )
    assert np.array_equal(np.unique(y[s.labelled]), np.arange(27))
    assert (len(s.test), len(s.validation)) == (6, 5)
    together = np.concatenate([s.train, s.validation, s.test])
    assert np.array_equal(np.sort(together), np.arange(len(y)))


@pytest.mark.parametrize("labels", [10, 57, 100])
def test_label_draws_are_balanced(labels: int) -> None:
    counts = np.bincount(Y[split(labels=labels).labelled], minlength=10)
    assert counts.sum() == labels
    assert counts.max() - counts.min() <= 1


def test_a_small_class_leaves_its_share_to_the_others() -> None:
    y = np.array([0] * 3 + [1] * 50 + [2] * 50)
    s = split_rows(y, classes=3, labels=30, test=0, validation=0, split_seed=0, label_seed=0)
    assert sorted(np.bincount(y[s.labelled])) == [3, 13, 14]


def test_each_seed_changes_only_its_own_draw() -> None:
    a, b, c = split(), split(label_seed=1), split(split_seed=1)
    assert np.array_equal(a.test, b.test)
    assert np.array_equal(a.validation, b.validation)
    assert not np.array_equal(a.labelled, b.labelled)
    assert not np.array_equal(a.test, c.test)
    assert np.array_equal(a.labelled, split().labelled)


def test_a_published_test_set_is_kept() -> None:
    test = np.arange(1000, 1797)
    s = split(test=test)
    assert np.array_equal(s.test, test)
    assert max(s.train.max(), s.validation.max()) < 1000


def test_all_labels_or_none() -> None:
    assert np.array_equal(split(labels=None).labelled, split().train)
    assert len(split(labels=0).labelled) == 0


def test_rare_classes_and_unknown_labels_can_be_split() -> None:
    y = np.array([0] * 40 + [1] + [-1] * 40 + [2] * 2)
    s = split_rows(y, classes=3, labels=None, test=0.25, validation=0.1, split_seed=0, label_seed=0)
    assert len(np.concatenate([s.train, s.validation, s.test])) == len(y)
    assert (y[s.labelled] >= 0).all()


def test_a_class_of_one_row_keeps_the_rest_stratified() -> None:
    y = np.array([0] * 90 + [1] * 10 + [2])
    s = split_rows(y, classes=3, labels=None, test=0.2, validation=0, split_seed=0, label_seed=0)
    assert np.bincount(y[s.test]).tolist() == [18, 2]
    assert 100 in s.train


def test_the_error_names_a_class_without_a_label() -> None:
    y = np.array([0] * 20 + [1] * 20)
    with pytest.raises(GMMVAEError, match="class number 2"):
        split_rows(y, classes=3, labels=9, test=0, validation=0, split_seed=0, label_seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": 9}, "9 labels for 10 classes"),
        ({"labels": 5000}, "5000 labels are more than the 1238 of the training rows"),
        ({"test": 1797}, "there are only 1797 rows"),
        ({"validation": 9000}, "validation 9000"),
        ({"test": 1.5}, "test 1.5: of 1797 rows"),
        ({"test": 1e-6}, "give a whole number, a share"),
    ],
)
def test_sizes_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(GMMVAEError, match=message):
        split(**changes)


def test_rows_of_a_group_are_in_one_part() -> None:
    person = np.random.default_rng(0).integers(0, 200, len(Y))
    s = split(together=person, test=0.2, validation=200)
    parts = [set(person[part].tolist()) for part in (s.train, s.validation, s.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert sum(map(len, (s.train, s.validation, s.test))) == len(Y)
    assert abs(len(s.test) / len(Y) - 0.2) < 0.03
    assert abs(len(s.validation) - 200) < 50


def test_groups_are_stratified_by_their_class() -> None:
    y = np.repeat([0, 1, 0, 1], [300, 60, 300, 60])
    person = np.arange(720) // 6  # each has one class
    s = split_rows(
        y,
        classes=2,
        labels=None,
        test=0.25,
        validation=0,
        split_seed=0,
        label_seed=0,
        together=person,
    )
    assert np.bincount(y[s.test]).tolist() == [150, 30]


def test_fewer_groups_than_parts_are_refused() -> None:
    with pytest.raises(GMMVAEError, match="in 2 groups"):
        split(together=np.arange(len(Y)) % 2, test=0.2)
