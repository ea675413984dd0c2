"""The imputer: types of what it gives back, cells that stay, errors of what it fills."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators import GMMVAEImputer

ROWS = 60
SMALL: dict[str, Any] = {
    "hidden": (8,),
    "latent_dim": 2,
    "engine": "svi",
    "epochs": 120,
    "learning_rate": 0.03,
    "random_state": 0,
    "settings": {"members": 1},
}


def made_table() -> pd.DataFrame:
    """Every column follows from the row's group; a sixth of the cells is missing."""
    generator = np.random.default_rng(0)
    group = np.arange(ROWS) % 2
    table = pd.DataFrame(
        {
            "height": 150 + 30.0 * group + generator.normal(0, 3, ROWS),
            "visits": pd.array(generator.poisson(1 + 20 * group), dtype="Int64"),
            "city": np.array(["Lima", "Oslo"], object)[group],
            "member": pd.array(group == 1, dtype="boolean"),
            "size": pd.Categorical(np.array(["S", "L"])[group]),
            "flag": (group == 1).astype(object),
            "name": [f"p{row}" for row in range(ROWS)],
            "unit": "cm",
        },
        index=pd.RangeIndex(100, 100 + ROWS, name="person"),
    )
    for number, name in enumerate(table):
        table.loc[table.index[number :: 12 - number % 2], name] = None
    return table


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return made_table()


@pytest.fixture(scope="module")
def fitted(table: pd.DataFrame) -> GMMVAEImputer:
    return GMMVAEImputer(**SMALL, columns={"visits": "count"}).fit(table)


@pytest.fixture(scope="module")
def filled(fitted: GMMVAEImputer, table: pd.DataFrame) -> pd.DataFrame:
    with pytest.warns(UserWarning, match="does not fill: 'name'$"):
        return fitted.transform(table)


def test_cells_get_values_of_their_group(filled: pd.DataFrame, table: pd.DataFrame) -> None:
    group = np.arange(ROWS) % 2
    for name, values in {
        "city": ["Lima", "Oslo"],
        "member": [False, True],
        "size": ["S", "L"],
        "flag": [False, True],
    }.items():
        cells = table[name].isna().to_numpy()
        wanted = np.array(values, object)[group[cells]]
        assert (filled[name].to_numpy(object)[cells] == wanted).mean() > 0.8, name
    cells = table["height"].isna().to_numpy()
    errors = filled["height"].to_numpy()[cells] - (150 + 30 * group[cells])
    assert np.abs(errors).mean() < 8  # the mean of the column is 15 away
    assert (filled["unit"] == "cm").all()
    assert filled["name"].isna().sum() == table["name"].isna().sum()


def test_cells_that_are_there_stay(filled: pd.DataFrame, table: pd.DataFrame) -> None:
    assert filled.index.equals(table.index)
    assert [*filled.columns] == [*table.columns]
    assert not filled.drop(columns="name").isna().to_numpy().any()
    for name in table:
        there = table[name].notna()
        assert filled.loc[there, name].tolist() == table.loc[there, name].tolist()
    types = {name: str(dtype) for name, dtype in filled.dtypes.items()}
    assert types["member"] == "boolean"
    assert types["size"] == "category"
    assert types["visits"] == "Float64"
    assert {type(flag) for flag in filled["flag"]} == {bool}


def test_the_mode_of_a_count_is_whole(fitted: GMMVAEImputer, table: pd.DataFrame) -> None:
    other = pickle.loads(pickle.dumps(fitted)).set_params(statistic="mode")
    with pytest.warns(UserWarning, match="does not fill"):
        assert str(other.transform(table)["visits"].dtype) == "Int64"
    with pytest.raises(GMMVAEError, match="did you mean 'mean'"):
        other.set_params(statistic="meen").transform(table)


def test_draws_differ_by_the_seed(fitted: GMMVAEImputer, table: pd.DataFrame) -> None:
    other = pickle.loads(pickle.dumps(fitted)).set_params(sample_posterior=True)
    complete = table.drop(columns="name").assign(name="x")
    draws = [other.set_params(random_state=seed).transform(complete) for seed in (1, 1, 2)]
    pd.testing.assert_frame_equal(draws[0], draws[1])
    cells = table["height"].isna()
    assert (draws[0]["height"] != draws[2]["height"]).loc[cells].all()
    assert (draws[0]["visits"].astype(float) % 1 == 0).all()  # draws of a count are counts


def test_polars_in_polars_out(
    fitted: GMMVAEImputer, filled: pd.DataFrame, table: pd.DataFrame
) -> None:
    pl = pytest.importorskip("polars")
    columns = {n: [None if pd.isna(cell) else cell for cell in table[n]] for n in table}
    frame = pl.DataFrame(columns, schema_overrides={"size": pl.Categorical})
    with pytest.warns(UserWarning, match="does not fill"):
        found = fitted.transform(frame)
    assert isinstance(found, pl.DataFrame)
    assert found.schema["member"] == pl.Boolean
    assert found.schema["size"] == pl.Categorical
    assert found.schema["visits"] == pl.Float64
    assert found.schema["name"] == pl.String
    for name in ("height", "city", "member", "visits"):
        assert found[name].to_list() == filled[name].tolist()


def test_columns_are_matched_by_name(
    fitted: GMMVAEImputer, filled: pd.DataFrame, table: pd.DataFrame
) -> None:
    """Others are left out, so that the output has the columns of the fit in their order."""
    mixed = table[table.columns[::-1]].assign(further=1)
    with pytest.warns(UserWarning, match="does not fill"):
        pd.testing.assert_frame_equal(fitted.transform(mixed), filled)
    with pytest.raises(GMMVAEError, match="no column 'city'; did you mean 'City'"):
        fitted.transform(table.rename(columns={"city": "City"}))
    with pytest.raises(GMMVAEError, match="names the column 'city' twice"):
        fitted.transform(table.assign(more="x").rename(columns={"more": "city"}))


def test_a_value_that_was_not_seen_stays(fitted: GMMVAEImputer, table: pd.DataFrame) -> None:
    other = table.assign(name="x")
    other.iloc[2, 2] = None
    other.iloc[3, 2] = "Paris"
    with pytest.warns(UserWarning, match="'Paris' not among the training values"):
        found = fitted.transform(other)
    assert found["city"].iloc[3] == "Paris"
    assert found["city"].iloc[2] in ("Lima", "Oslo")


def test_arrays(tmp_path: Path) -> None:
    """Columns of an array are numbers; a constant one is filled, an empty one stays."""
    generator = np.random.default_rng(1)
    z = generator.normal(size=(ROWS, 1))
    x = np.concatenate([z, 10 * z + 3, -z, np.full((ROWS, 1), 7.0), np.full((ROWS, 1), np.nan)], 1)
    x += np.array([0.1, 1, 0.1, 0, 0]) * generator.normal(size=x.shape)
    holes = x.copy()
    holes[::6, 0] = holes[1::6, 1] = holes[2::6, 2] = holes[3::6, 3] = np.nan
    model = GMMVAEImputer(**SMALL)
    with pytest.warns(UserWarning, match="does not fill: 'x4'"):
        found = model.fit_transform(holes)
    there = ~np.isnan(holes)
    assert_array_equal(found[there], holes[there])
    assert (found[:, 3] == 7).all()
    assert np.isnan(found[:, 4]).all()
    errors = (found - x)[:, :3] / np.nanstd(x[:, :3], 0)
    assert np.sqrt((errors[~there[:, :3]] ** 2).mean()) < 0.5
    model.save(tmp_path / "run")
    with pytest.warns(UserWarning, match="does not fill"):
        assert_array_equal(GMMVAEImputer.load(tmp_path / "run").transform(holes), found)
    with pytest.warns(UserWarning, match="does not fill"):
        single = model.transform(pd.DataFrame(holes.astype(np.float32)))
    assert {str(dtype) for dtype in single.dtypes} == {"float32"}
    assert_allclose(single, found, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="5 features"):
        model.transform(holes[:, :4])
    with pytest.raises(GMMVAEError, match="columns gives kinds"):
        GMMVAEImputer(**SMALL, columns={"x0": "real"}).fit(holes)


def test_before_a_classifier(table: pd.DataFrame) -> None:
    x = table[["height", "visits"]].astype(float)
    y = np.arange(ROWS) % 2
    pipeline = make_pipeline(GMMVAEImputer(**SMALL | {"epochs": 20}), LogisticRegression())
    assert pipeline.fit(x, y).score(x, y) > 0.9
    framed = clone(pipeline[0]).set_output(transform="pandas").fit(x.to_numpy())
    assert [*framed.transform(x.to_numpy()).columns] == ["x0", "x1"]
