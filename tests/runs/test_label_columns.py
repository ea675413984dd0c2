"""Soft labels, weights and groups from the columns of a file, to a run and its cross-validation."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.config import Config
from pyro_gmmvae.data import DataOptions
from pyro_gmmvae.datasets import load_data
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.data import TrainingData

ROWS = 120
OPTIONS = DataOptions(weight_column="weight", group_column="person")


def table() -> pd.DataFrame:
    """Two classes; the first third has soft labels, the last third none."""
    generator = np.random.default_rng(0)
    y = np.arange(ROWS) % 2
    votes = np.where(y == 1, 0.8, 0.2)
    votes[::4] = y[::4]  # certain
    known = np.arange(ROWS) < 80
    return pd.DataFrame(
        {
            "size": y + 0.3 * generator.normal(size=ROWS),
            "site": np.where(generator.random(ROWS) < 0.5, "north", "south"),
            "p_healthy": np.where(known, 1 - votes, np.nan),
            "p_ill": np.where(known, votes, np.nan),
            "weight": np.where(np.arange(ROWS) % 10 == 3, 0, 1 + y),
            "person": [f"person {n}" for n in np.arange(ROWS) // 4],
        }
    )


def written(folder: Path, frame: pd.DataFrame, name: str = "rows.csv") -> str:
    frame.to_csv(folder / name, index=False)
    return str(folder / name)


def small(data: str, **more: Any) -> Config:
    networks = {"preset": "paper", "hidden": (8,), "latent_dim": 2, "engine": "svi", "epochs": 60}
    columns = {"weight_column": "weight", "group_column": "person", "learning_rate": 0.05}
    return default_config(data, {**networks, **columns, "members": 1, "cv": 2, **more})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("labels")
    return train(small(written(folder, table())), folder / "run")


def test_columns_beside_x_are_read(tmp_path: Path) -> None:
    data, frame = load_data(written(tmp_path, table()), OPTIONS), table()
    assert data.kind.columns == ("size", "site")
    assert data.classes == ("healthy", "ill")
    known = np.arange(ROWS) < 80
    assert np.array_equal(data.y, np.where(known, np.arange(ROWS) % 2, -1))
    assert data.soft_labels is not None
    assert data.weights is not None
    assert data.together is not None
    soft = ~np.isnan(data.soft_labels).all(1)
    assert np.array_equal(soft, known & (np.arange(ROWS) % 4 > 0))
    np.testing.assert_allclose(data.soft_labels[soft, 1], frame["p_ill"][soft])
    assert np.array_equal(data.weights, frame["weight"])
    assert np.array_equal(data.together, np.arange(ROWS) // 4)
    assert [note.split(" (")[0] for note in data.notes[:3]] == [
        "soft labels of 60 rows",
        "rows are drawn by their weights",
        "30 groups",
    ]


def test_labels_go_before_soft_labels_of_their_classes(tmp_path: Path) -> None:
    frame = table().assign(label="")
    frame.loc[:9, "label"] = "ill"
    data = load_data(written(tmp_path, frame), OPTIONS)
    assert (data.y[:10] == 1).all()
    assert data.soft_labels is not None
    assert np.isnan(data.soft_labels[:10]).all()
    assert data.y[10] == 0
    # with other classes they are columns as all others
    other = load_data(written(tmp_path, frame.replace({"label": {"ill": "old"}}), "b.csv"), OPTIONS)
    assert other.classes == ("old",)
    assert other.kind.columns == ("size", "site", "p_healthy", "p_ill")


def test_measurements_named_p_are_taken_as_such_by_their_kind(tmp_path: Path) -> None:
    frame = table().drop(columns=["p_ill", "p_healthy"])
    frame = frame.assign(p_systolic=frame["size"] * 10 + 120, p_diastolic=frame["size"] * 5 + 80)
    file = written(tmp_path, frame)
    with pytest.raises(GMMVAEError, match=r"row 0 has prob.*--column p_systolic=real"):
        load_data(file, OPTIONS)
    kinds = ("p_systolic=real", "p_diastolic=real")
    data = load_data(file, DataOptions(column=kinds, weight_column="weight", group_column="person"))
    assert data.kind.columns == ("size", "site", "p_systolic", "p_diastolic")
    assert data.soft_labels is None


def test_arrays_have_soft_labels_weights_and_groups(tmp_path: Path) -> None:
    frame = table()
    p, w = frame[["p_healthy", "p_ill"]].to_numpy(), frame["weight"].to_numpy()
    x = np.random.default_rng(0).normal(size=(ROWS, 3))
    x[5] = np.nan
    np.savez(tmp_path / "rows.npz", x=x, p=p, weight=w, person=frame["person"].to_numpy("U"))
    options = DataOptions(weight_column="weight", group_column="person", drop_nonfinite=True)
    data = load_data(str(tmp_path / "rows.npz"), options)
    assert data.classes == ("0", "1")
    assert data.soft_labels is not None
    np.testing.assert_array_equal(data.soft_labels[5], p[6])  # without the row that was dropped
    assert data.weights is not None
    assert np.array_equal(data.weights, np.delete(w, 5))
    with pytest.raises(GMMVAEError, match="has no column or array 'w'"):
        load_data(str(tmp_path / "rows.npz"), DataOptions(weight_column="w"))


def test_a_run_learns_from_soft_labels(run: Run) -> None:
    predicted = run.predict(run.config.data)
    truth = np.array(["healthy", "ill"], object)[np.arange(ROWS) % 2]
    assert (predicted["label"] == truth).mean() > 0.85
    # the labels are right in four of five cases, and the probabilities say so
    assert 0.6 < predicted.loc[truth == "ill", "p_ill"].mean() < 0.97


def test_rows_of_weight_zero_are_left_out_of_the_fit(run: Run) -> None:
    data = TrainingData.from_config(run.config, run.schema)
    assert not (data.training_rows % 10 == 3).any()
    assert not (data.split.labelled % 10 == 3).any()


def test_folds_keep_groups_together(run: Run) -> None:
    scores = pd.read_csv(run.path / "out_of_fold.csv")
    fold_of = scores.groupby(scores["row"] // 4)["fold"].nunique()
    assert (fold_of == 1).all()
    assert scores["fold"].nunique() == 2
    assert set(scores["label"]) == {"healthy", "ill"}


def test_parts_keep_groups_together(tmp_path: Path) -> None:
    config = small(written(tmp_path, table()), cv=0, test=0.25, validation=0.25)
    split = TrainingData.from_config(config).split
    parts = [set((part // 4).tolist()) for part in (split.train, split.validation, split.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))


@pytest.mark.parametrize(
    ("changes", "keys", "message"),
    [
        ({"p_ill": 0.9}, {}, "row 0 has probabilities that do not sum to 1"),
        ({"p_ill": -0.1, "p_healthy": 1.1}, {}, "row 0 has a negative probability"),
        ({"p_ill": "much"}, {}, "column 'p_ill' must hold probabilities"),
        ({"weight": -1}, {}, "weights of column 'weight': row 0 has -1"),
        ({"weight": 0}, {}, "all zero"),
        ({"weight": np.nan}, {}, "row 0 has nan"),
        ({"weight": "heavy"}, {}, "weights of column 'weight' must be numbers"),
        ({}, {"weight_column": "wieght"}, "did you mean 'weight'"),
        ({}, {"group_column": "persn"}, "did you mean 'person'"),
        ({}, {"group_column": "weight"}, "only one of label, weight, group and covariate"),
        ({}, {"covariates": ("person",)}, "only one of label, weight, group and covariate"),
        ({"person": "one"}, {"cv": 0, "test": 0.2}, "in 1 groups that stay together"),
    ],
)
def test_bad_columns_are_refused(
    tmp_path: Path, changes: dict[str, Any], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(GMMVAEError, match=message):
        TrainingData.from_config(small(written(tmp_path, table().assign(**changes)), **keys))


def test_models_of_given_classes_refuse_soft_labels(tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match="soft"):
        train(small(written(tmp_path, table()), model="m1", cv=0), tmp_path / "run")


@pytest.mark.parametrize("key", ["weight_column", "group_column"])
def test_data_without_such_columns_refuse_the_key(key: str, tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match=f"{key} is for files"):
        train(default_config("digits", {key: "w"}), tmp_path / "run")
    np.save(tmp_path / "x-0.npy", np.zeros((4, 2)))
    with pytest.raises(GMMVAEError, match="not for folders of shards"):
        load_data(str(tmp_path), DataOptions(**{key: "w"}))
