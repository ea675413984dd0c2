"""Estimators of frames: kinds of columns, names, members, and frames that can't be used."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators import GMMVAEClassifier, GMMVAECluster, GMMVAETransformer
from pyro_gmmvae.estimators.inputs import encoded, labels_of
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.teacher import TEACHERS

SMALL: dict[str, Any] = {
    "hidden": (8,),
    "latent_dim": 2,
    "engine": "svi",
    "epochs": 20,
    "random_state": 0,
    "settings": {"members": 1, "teacher_share": 0},
}
WITHOUT = {key: value for key, value in SMALL.items() if key != "settings"}  # labels
TWO = {"members": 2, "teacher_share": 0}
ROWS = 60


def made_table() -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    """Columns of several types with missing cells, and three in five classes hidden by -1."""
    generator = np.random.default_rng(0)
    y = np.arange(ROWS) % 2
    table = pd.DataFrame(
        {
            "age": pd.array(generator.integers(20, 60, ROWS) + 25 * y, dtype="Int64"),
            "city": np.where(y == 1, "Oslo", generator.choice(["Lima", "Rome"], ROWS)),
            "size": pd.Categorical(
                generator.choice(["small", "large"], ROWS), ["small", "large"], ordered=True
            ),
            "member": generator.random(ROWS) < 0.2 + 0.6 * y,
            "income": np.exp(generator.normal(10 + y, 1.5, ROWS)),
        }
    )
    table.loc[::7, "age"] = pd.NA
    table.loc[::9, "city"] = None
    table.loc[::11, "income"] = np.nan
    return table, np.where(np.arange(ROWS) % 5 < 2, y, -1)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return made_table()[0]


@pytest.fixture(scope="module")
def labels() -> np.ndarray[Any, Any]:
    return made_table()[1]


@pytest.fixture(scope="module")
def fitted(table: pd.DataFrame, labels: np.ndarray[Any, Any]) -> GMMVAEClassifier:
    """Two members."""
    return GMMVAEClassifier(**SMALL | {"settings": TWO}).fit(table, labels)


def kinds_of(estimator: Any) -> dict[str, str]:
    return {column.name: column.kind for column in estimator._fitted.run.schema.kind.specs}


def test_columns_get_kinds_and_are_learned(fitted: GMMVAEClassifier, table: pd.DataFrame) -> None:
    assert kinds_of(fitted) == {
        "age": "real",
        "city": "category",
        "size": "binary",
        "member": "binary",
        "income": "positive",
    }
    assert fitted.feature_names_in_.tolist() == list(table.columns)
    assert fitted.score(table, np.arange(ROWS) % 2) > 0.9
    assert fitted._fitted.run.config.preset == "table"
    assert fitted._fitted.run.config.batch_norm


def test_members_are_averaged(fitted: GMMVAEClassifier, table: pd.DataFrame) -> None:
    """Members differ in their weights; probabilities are means, and scores are of the mixture."""
    assert len(fitted._fitted.run.others) == 1
    parts = [copy.copy(fitted), copy.copy(fitted)]
    for part, member in zip(parts, fitted._fitted.members, strict=True):
        part._keep(member)
    probs = [one.predict_proba(table) for one in parts]
    assert not np.allclose(*probs)
    assert_allclose(fitted.predict_proba(table), np.mean(probs, axis=0), atol=1e-6)
    scores = np.array([one.score_samples(table, 5) for one in parts])
    mixture = np.logaddexp(*scores) - np.log(2)
    assert_allclose(fitted.score_samples(table, 5), mixture, rtol=1e-6)
    assert_array_equal(fitted.transform(table), parts[0].transform(table))


def test_a_teacher_labels_rows_in_memory(
    table: pd.DataFrame, labels: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The surest half of the rows without a label are pseudo-labelled from the start."""
    monkeypatch.setattr("pyro_gmmvae.runs.teacher.TEACHERS", {"logistic": TEACHERS["logistic"]})
    model = GMMVAEClassifier(**SMALL | {"epochs": 1, "settings": {"members": 1}})
    model.fit(table, labels)
    without = clone(model).set_params(settings={"members": 1, "teacher_share": 0})
    without.fit(table, labels)
    assert model._fitted.run.config.teacher_share == 0.6
    assert not np.allclose(model.predict_proba(table), without.predict_proba(table), atol=1e-3)


def test_columns_are_matched_by_name(fitted: GMMVAEClassifier, table: pd.DataFrame) -> None:
    wanted = fitted.predict_proba(table)
    mixed = table[table.columns[::-1]].assign(further=3)
    assert_array_equal(fitted.predict_proba(mixed), wanted)
    assert_array_equal(fitted.predict_proba(table.set_index(table.index.rename("id"))), wanted)
    assert_array_equal(fitted.predict_proba(table.to_numpy(object)), wanted)
    with pytest.raises(GMMVAEError, match=r"lacks the column 'city'; is 'City' meant"):
        fitted.predict(table.rename(columns={"city": "City"}))
    with pytest.raises(GMMVAEError, match="the fit had 5 columns"):
        fitted.predict(np.zeros((3, 4)))


def test_a_polars_frame_is_the_same(
    fitted: GMMVAEClassifier, table: pd.DataFrame, labels: np.ndarray[Any, Any]
) -> None:
    pl = pytest.importorskip("polars")
    columns = {
        name: [None if value is pd.NA or value != value else value for value in table[name]]
        for name in table
    }
    frame = pl.DataFrame(columns)
    assert_array_equal(fitted.predict_proba(frame), fitted.predict_proba(table))
    series = pl.Series([None if label < 0 else label for label in labels.tolist()])
    assert_array_equal(
        clone(fitted).fit(frame, series).predict_proba(table), fitted.predict_proba(table)
    )


def test_new_values_are_missing_and_named(fitted: GMMVAEClassifier, table: pd.DataFrame) -> None:
    other = table.copy()
    other.loc[3, "city"] = "Paris"
    with pytest.warns(UserWarning, match=r"'city': 'Paris' not among .*taken as missing"):
        found = fitted.predict_proba(other)
    other.loc[3, "city"] = None
    assert_array_equal(found, fitted.predict_proba(other))


def test_a_column_whose_cells_are_all_missing(
    fitted: GMMVAEClassifier, table: pd.DataFrame, labels: np.ndarray[Any, Any]
) -> None:
    assert np.isfinite(fitted.predict_proba(table.assign(city=None, age=np.nan))).all()
    with pytest.warns(UserWarning, match="left out: 'age' .every cell is missing"):
        other = GMMVAEClassifier(**SMALL | {"epochs": 1}).fit(table.assign(age=np.nan), labels)
    assert "age" not in kinds_of(other)
    assert other.n_features_in_ == 5


def test_draws_are_frames(fitted: GMMVAEClassifier, table: pd.DataFrame) -> None:
    rows, _ = fitted.sample(20)
    assert list(rows.columns) == list(table.columns)
    assert set(rows["city"]) <= {"Lima", "Oslo", "Rome"}
    assert (rows["income"] > 0).all()
    assert np.isfinite(fitted.predict_proba(rows)).all()


def test_a_frame_of_numbered_columns_is_an_array() -> None:
    x = np.random.default_rng(0).normal(size=(30, 3))
    arguments = WITHOUT | {"epochs": 1}
    plain, framed = (GMMVAETransformer(**arguments).fit(rows) for rows in (x, pd.DataFrame(x)))
    assert_array_equal(framed.transform(pd.DataFrame(x)), plain.transform(x))


def test_output_is_a_frame_where_asked(fitted: GMMVAEClassifier, table: pd.DataFrame) -> None:
    z = copy.copy(fitted).set_output(transform="pandas").transform(table)
    assert [*z.columns] == ["gmmvaeclassifier0", "gmmvaeclassifier1"]
    assert_array_equal(z.to_numpy(), fitted.transform(table))


def test_kinds_that_are_given(table: pd.DataFrame, labels: np.ndarray[Any, Any]) -> None:
    columns = {"size": "ordinal(small<large)", "age": "skip", "income": "real"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a column that the user leaves out there is no warning
        model = GMMVAEClassifier(**SMALL | {"epochs": 1}, columns=columns).fit(table, labels)
    assert kinds_of(model) == {
        "city": "category",
        "size": "ordinal",
        "member": "binary",
        "income": "real",
    }
    assert np.isfinite(model.predict_proba(table.drop(columns="age"))).all()


def test_a_folder_keeps_members_and_columns(
    fitted: GMMVAEClassifier, table: pd.DataFrame, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "run")
    other = GMMVAEClassifier.load(tmp_path / "run")
    assert_array_equal(other.predict_proba(table), fitted.predict_proba(table))
    assert other.feature_names_in_.tolist() == list(table.columns)
    other.save(tmp_path / "again")
    run = Run.load(tmp_path / "again")
    assert len(run.others) == 1
    assert run.schema.kind == fitted._fitted.run.schema.kind
    again = pickle.loads(pickle.dumps(fitted))
    assert_array_equal(again.predict_proba(table), fitted.predict_proba(table))


def test_passes_over_frames(table: pd.DataFrame, labels: np.ndarray[Any, Any]) -> None:
    """Units, values and members are those of the first pass."""
    model = GMMVAEClassifier(**SMALL | {"settings": TWO}, learning_rate=0.01)
    model.partial_fit(table[:30], labels[:30], classes=[0, 1])
    kind = model._fitted.run.schema.kind
    before = [copy.deepcopy(run.model.state_dict()) for run in model._runs]
    model.partial_fit(table[30:], labels[30:])
    assert model._fitted.run.schema.kind == kind
    assert model.n_iter_ == 2
    for run, weights in zip(model._runs, before, strict=True):
        assert any(
            not torch.equal(value, weights[k]) for k, value in run.model.state_dict().items()
        )
    with pytest.raises(GMMVAEError, match="arguments changed since the last fit"):
        model.set_params(settings={"members": 3}).partial_fit(table, labels)


@pytest.mark.parametrize("estimator", [GMMVAECluster, GMMVAETransformer])
def test_frames_without_labels(estimator: Any, table: pd.DataFrame) -> None:
    settings = {"init": "random"} if estimator is GMMVAECluster else None
    model = estimator(**SMALL | {"epochs": 2, "settings": settings}).fit(table)
    z = model.transform(table)
    assert z.shape == (ROWS, 2)
    if estimator is GMMVAETransformer:
        decoded = model.inverse_transform(z)
        assert list(decoded.columns) == list(table.columns)
        assert set(decoded["member"]) <= {"True", "False"}
    with pytest.raises(GMMVAEError, match="members is for GMMVAEClassifier"):
        clone(model).set_params(settings={"members": 2}).fit(table)


def test_a_frame_of_plain_numbers_under_another_likelihood(table: pd.DataFrame) -> None:
    model = GMMVAETransformer(**WITHOUT | {"epochs": 1}, likelihood="normal")
    model.fit(table[["age", "income"]].astype(float))
    assert model._fitted.run.schema.kind.name == "table"
    with pytest.raises(ValueError, match="could not convert string to float"):
        model.fit(table)


DAYS = pd.Series(pd.date_range("2024-01-01", periods=ROWS).astype(str))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.rename(columns={"age": "city"}), "X names the column 'city' twice"),
        (lambda t: t.iloc[:0], "X holds no rows: 0 rows of 5 columns"),
        (lambda t: t[[]], "X holds no rows: 0 rows of 0 columns"),
        (lambda t: t.iloc[:1], "X holds 1 row, and a fit needs two or more"),
        (
            lambda t: t.assign(income=[*range(ROWS - 1), np.inf]),
            "'income' holds infinite values .*row 59",
        ),
        (lambda t: t[[]].assign(day=DAYS), "no column to model: .*'day'.*write dates as num"),
        (lambda t: t.assign(city=[[1]] * ROWS), "'city' holds lists"),
        (lambda t: t[["city"]].assign(city=None), "every cell is missing"),
    ],
)
def test_frames_that_cannot_be_used(change: Any, match: str, table: pd.DataFrame) -> None:
    with pytest.raises(GMMVAEError, match=match) as refusal:
        GMMVAETransformer(**WITHOUT).fit(change(table))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"agee": "real"}, "no column 'agee'; did you mean 'age'"),
        ({"age": "reel"}, "did you mean 'real'"),
        ({"city": "count"}, "'city' can't be count: it holds the text 'Oslo'"),
        (["age"], "columns must be a dict"),
    ],
)
def test_kinds_that_cannot_be(columns: Any, match: str, table: pd.DataFrame) -> None:
    with pytest.raises(GMMVAEError, match=match):
        GMMVAETransformer(**WITHOUT, columns=columns).fit(table)


def test_kinds_for_an_array_are_refused() -> None:
    with pytest.raises(
        GMMVAEError, match="columns gives kinds to the columns of a frame with names"
    ):
        GMMVAETransformer(**WITHOUT, columns={"0": "real"}).fit(np.zeros((5, 2)))


def test_numbers_and_texts_in_one_column(table: pd.DataFrame) -> None:
    """Texts among numbers are named; a column of mostly numbers is left out."""
    mixed = table.assign(dose=[*range(ROWS - 2), "low", "none so far"])
    with pytest.warns(UserWarning, match="'dose' .numbers, but for 2 cells such as 'low'"):
        model = GMMVAETransformer(**WITHOUT | {"epochs": 1}).fit(mixed)
    assert "dose" not in kinds_of(model)


def test_covariates_are_given(table: pd.DataFrame, labels: np.ndarray[Any, Any]) -> None:
    settings = {"members": 1, "teacher_share": 0, "covariates": "city"}
    model = GMMVAEClassifier(**SMALL | {"epochs": 1, "settings": settings}).fit(table, labels)
    given = {column.name: column.given for column in model._fitted.run.schema.kind.specs}
    assert [name for name, one in given.items() if one] == ["city"]
    with pytest.raises(GMMVAEError, match="no column 'citty'; did you mean 'city'"):
        model.set_params(settings=settings | {"covariates": ["citty"]}).fit(table, labels)


def test_soft_labels_and_weights_of_frames(
    table: pd.DataFrame, labels: np.ndarray[Any, Any]
) -> None:
    soft = np.where(labels[:, None] < 0, np.nan, np.eye(2)[labels])
    model = GMMVAEClassifier(**SMALL | {"epochs": 1}).fit(table, soft, np.ones(ROWS))
    assert model.classes_.tolist() == [0, 1]
    assert model.transduction_.shape == (ROWS,)


def test_missing_labels_of_a_series_are_unknown(
    fitted: GMMVAEClassifier, table: pd.DataFrame, labels: np.ndarray[Any, Any]
) -> None:
    """Of text, of floats that are whole, and of nullable numbers and booleans."""
    known = pd.Series(labels >= 0)
    text = pd.Series(np.where(labels > 0, "sick", "well")).where(known, None)
    wanted = encoded(np.where(labels < 0, -1, np.where(labels > 0, "sick", "well").astype(object)))
    for y in (text, text.astype("string"), text.astype("category")):
        codes, classes = encoded(labels_of(y))
        assert_array_equal(codes, wanted[0])
        assert classes.tolist() == ["sick", "well"]
    numbers = pd.Series(labels).where(known)
    for y in (numbers, numbers.astype("Int64"), numbers.astype("boolean")):
        codes, classes = encoded(labels_of(y))
        assert_array_equal(codes, labels)
        assert classes.dtype == np.int64
    assert fitted.score(table, numbers) == fitted.score(table, labels)
    model = GMMVAEClassifier(**SMALL | {"epochs": 1}).fit(table, text)
    assert model.classes_.tolist() == ["sick", "well"]


def test_a_frame_is_fitted_as_its_file(
    table: pd.DataFrame, labels: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    """To the bit, with members, and the command line reads the folder of the estimator."""
    file = tmp_path / "table.csv"
    table.assign(label=labels).to_csv(file, index=False)
    keys = {key: SMALL[key] for key in ("latent_dim", "engine")} | {"epochs": 2, "hidden": "8"}
    config = default_config(str(file), keys | TWO | {"cv": 0, "preset": "table"})
    run = train(config, tmp_path / "run")
    model = GMMVAEClassifier(**SMALL | {"epochs": 2, "settings": TWO}).fit(table, labels)
    for one, other in zip((run, *run.others), model._runs, strict=True):
        assert one.schema.kind == other.schema.kind
        for name, value in one.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[name]), name
    model.save(tmp_path / "saved")
    found = Run.load(tmp_path / "saved").predict(file)
    assert_allclose(found[["p_0", "p_1"]], model.predict_proba(table), atol=1e-5)
