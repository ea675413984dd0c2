"""Tests of kinds of rows, groups of rows, and the schema that a run keeps of its data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data import (
    ColumnTable,
    Dataset,
    Image,
    RowGroups,
    RowKind,
    Sequences,
    Table,
    Transform,
)
from pyro_gmmvae.datasets import DATA, KINDS, load_data
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs.schema import Schema
from pyro_gmmvae.skeletons import PoseWindow
from pyro_gmmvae.skeletons.features import FEATURES, STATISTICS
from pyro_gmmvae.skeletons.layouts import COCO_18

POSES = PoseWindow(COCO_18, 5, 2, features=("bones", "joints"), statistics=(), stride=2)
EXAMPLES: dict[str, RowKind] = {
    "image": Image((1, 4, 3), "bernoulli", missing=True),
    "table": Table((3,), columns=("a", "b", "c")),
    "pose_window": POSES,
    "columns": ColumnTable((Column("age", "real"), Column("sex", "category", ("f", "m", "x")))),
}


def schema(kind: RowKind) -> Schema:
    return Schema(kind, ("x", "y"), Transform(np.zeros(()), np.ones(())), "f", (("v", ("b",)),))


@pytest.mark.parametrize("name", KINDS)
def test_json_gives_the_same_schema(name: str) -> None:
    before = schema(EXAMPLES[name])
    after = Schema.from_json(json.loads(json.dumps(before.to_json())))
    assert after.kind == before.kind
    assert isinstance(after.kind, KINDS[name])
    assert (after.classes, after.factors) == (before.classes, before.factors)


@pytest.mark.parametrize("name", KINDS)
def test_features_of_arrays_equal_those_of_tensors(name: str) -> None:
    kind = EXAMPLES[name]
    shape = (5, 18, 2) if isinstance(kind, PoseWindow) else kind.x_shape
    x = torch.randn(7, *shape)
    features = kind.featurize(x)
    assert features.shape == (7, *kind.x_shape)
    np.testing.assert_array_equal(kind.featurize_array(x.numpy()), features.numpy())
    assert len(kind.entry_names) == np.prod(kind.x_shape)


@pytest.mark.parametrize("features", [("joints",), ("velocities", "joints"), tuple(FEATURES)])
@pytest.mark.parametrize("statistics", [(), ("mean",), tuple(STATISTICS)])
def test_the_shape_of_features_is_known_before_any_window(
    features: tuple[str, ...], statistics: tuple[str, ...]
) -> None:
    kind = PoseWindow(COCO_18, 4, 3, features=features, statistics=statistics)
    assert kind.featurize(torch.randn(2, 4, 18, 3)).shape == (2, *kind.x_shape)


def test_keys_of_a_kind_are_the_keywords_of_its_constructor() -> None:
    keys = PoseWindow.own_keys()
    assert {"window", "features", "joint_dropout"} <= keys.keys()
    assert (keys["window"], keys["statistics"]) == (8, ("mean", "std"))
    assert Image.own_keys() == Table.own_keys() == {}


def test_each_kind_is_drawn_its_own_way() -> None:
    drawings = {name: kind.drawing for name, kind in EXAMPLES.items()}
    flat = {"table": "profile", "columns": "profile"}
    assert drawings == {"image": "image", "pose_window": "skeleton", **flat}
    assert Table((4, 3)).drawing == "series"
    assert PoseWindow(COCO_18, 5, 1).drawing == "profile"
    with pytest.raises(GMMVAEError, match="no joint positions"):
        EXAMPLES["table"].poses(np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("image", {"x_shape": [1, 0, 3]}),
        ("image", {"x_shape": "8"}),
        ("table", {"columns": 3}),
        ("table", {"columns": ["a"]}),
        ("pose_window", {"frames": 0}),
        ("pose_window", {"features": ["joint"]}),
        ("pose_window", {"window": "long"}),
        ("pose_window", {"layout": {"name": "l", "joints": ["a"], "edges": [[0, 7]]}}),
        ("pose_window", {"no_key": 1}),
    ],
)
def test_damaged_kinds_raise_plain_errors(name: str, changes: dict[str, Any]) -> None:
    """The reader of the run folder turns them into one line with the file's name."""
    content = json.loads(json.dumps(schema(EXAMPLES[name]).to_json()))
    content["kind"] |= changes
    with pytest.raises((KeyError, TypeError, ValueError)):
        Schema.from_json(content)


def test_rows_of_a_file_are_matched_by_column() -> None:
    kept = schema(Table((2,), columns=("a", "b")))
    x, y = np.array([[1.0, 2.0, 3.0]]), np.array([-1])
    rows = kept.rows_for_model(Dataset.of_arrays(x, y, (), columns=("b", "c", "a")), "f.csv")
    assert rows.tolist() == [[3, 1]]
    with pytest.raises(GMMVAEError, match=r"f\.csv lacks the columns b"):
        kept.rows_for_model(Dataset.of_arrays(x, y, (), columns=("a", "c", "d")), "f.csv")


def test_single_rows_are_their_own_groups() -> None:
    groups = RowGroups.of_single_rows(np.array([4, 7, 9]))
    rows, values = np.array([2, 0]), np.array([[0.5], [0.25]], np.float32)
    assert groups.pool(values, rows) is values
    assert groups.mean(values, rows) is values
    assert groups.captions(rows) == ["row 9", "row 4"]
    assert groups.count(rows) == 2
    assert groups.first(np.array([3, 5]), rows).tolist() == [3, 5]


def test_rows_of_sequences_are_pooled() -> None:
    names = np.array(["a", "b", "c"], object)
    groups = Sequences(names, np.array([2, 0, 2, 0]), (frozenset(),) * 3, np.full(3, -1), ())
    rows = np.array([0, 1, 2])
    probs = np.array([[0.2, 0.8], [0.5, 0.5], [0.4, 0.6]])
    mean = np.exp((np.log(probs[0]) + np.log(probs[2])) / 2)
    pooled = np.exp(groups.pool(np.log(probs), rows))
    np.testing.assert_allclose(pooled, [probs[1], mean / mean.sum()])
    assert groups.mean(np.array([1.0, 5.0, 3.0]), rows).tolist() == [5, 2]
    assert groups.first(np.array([7, 8, 7]), rows).tolist() == [8, 7]
    assert groups.captions(rows) == ["c", "a", "c"]
    assert groups.count(rows) == 2


def test_presets_of_named_sets_have_keys_of_their_kind() -> None:
    poses = PoseWindow.own_keys().keys()
    for source in DATA.values():
        for keys in source.presets.values():
            assert not (keys.keys() & poses) - source.kind.own_keys().keys()


@pytest.mark.parametrize("name", ["x.csv", "x.npz", "x.npy", "x.parquet", "shards/x-0.npy"])
def test_a_pipe_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    import os

    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    os.mkfifo(file)
    with pytest.raises(GMMVAEError, match="not a regular file") as caught:
        load_data(str(file if file.parent == tmp_path else file.parent))
    assert "\n" not in str(caught.value)
