"""Covariates in a run: z and s tell less of them, and they can be set for all rows."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import normalized_mutual_info_score
from sklearn.model_selection import cross_val_score

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data import ColumnTable, Dataset, Split
from pyro_gmmvae.datasets import IN_MEMORY
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures.reconstructions import reconstruct
from pyro_gmmvae.runs import Run, TrainingData, default_config
from pyro_gmmvae.runs.generator import draw_components
from pyro_gmmvae.runs.trainer import fit

N, D, SITES = 450, 6, ("A", "B", "C")
COLUMNS = (
    Column("site", "category", SITES, given=True),
    *(Column(f"m{k}", "real") for k in range(D)),
    Column("age", "real", given=True),
)
RNG = np.random.default_rng(0)
SITE, GROUP = RNG.integers(0, 3, N), RNG.integers(0, 3, N)
SHIFTS = 3 * RNG.normal(size=(3, D))  # of all measurements of a site


def table() -> np.ndarray:
    """Three groups of rows, measured at three sites; ages have no effect."""
    measured = 1.5 * RNG.normal(size=(3, D))[GROUP] + SHIFTS[SITE] + RNG.normal(0, 0.5, (N, D))
    return np.column_stack([SITE, measured, RNG.normal(50, 10, N)]).astype(float)


TABLE = table()


def dataset(x: np.ndarray, columns: tuple[Column, ...]) -> Dataset:
    return Dataset(x, np.full(len(x), -1), (), ColumnTable(columns))


def fitted(columns: tuple[Column, ...]) -> Run:
    places = [COLUMNS.index(column) for column in columns]
    keys = {"components": 3, "latent_dim": 2, "hidden": "32", "labels": 0, "epochs": 30}
    fixed = {"batch_size": 90, "learning_rate": 0.01, "test": 0, "validation": 0}
    config = default_config(IN_MEMORY, keys, fixed)
    rows = np.arange(N)
    split = Split(rows, rows[:0], rows[:0], rows[:0])
    data = TrainingData.from_arrays(config, dataset(TABLE[:, places], columns), split)
    return fit(config, data).run


def rows_of(run: Run) -> torch.Tensor:
    places = [[column.name for column in COLUMNS].index(n) for n in run.schema.kind.columns or ()]
    return torch.from_numpy(run.schema.featurize(TABLE[:, places])).to(run.dtype)


@pytest.fixture(scope="module")
def without() -> Run:
    return fitted(COLUMNS[1:-1])


@pytest.fixture(scope="module")
def run() -> Run:
    return fitted(COLUMNS)


def test_z_and_s_tell_less_of_a_covariate(run: Run, without: Run) -> None:
    """A probe finds the site in z, and clusters follow it, only where it is not given."""
    probes, of_site, of_group = [], [], []
    for one in (without, run):
        x = rows_of(one)
        log_probs = one.log_probs(x)
        assert log_probs is not None
        cluster = log_probs.argmax(1)
        probe = LogisticRegression(max_iter=1000)
        probes.append(cross_val_score(probe, one.embed(x), SITE, cv=3).mean())
        of_site.append(normalized_mutual_info_score(SITE, cluster))
        of_group.append(normalized_mutual_info_score(GROUP, cluster))
    assert probes[0] > 0.9  # 1/3 by chance
    assert probes[1] < 0.55
    assert of_site[0] > 0.4
    assert of_site[1] < 0.2
    assert of_group[1] > of_group[0] + 0.2


def test_draws_of_a_site_are_shifted_as_the_site_is(run: Run) -> None:
    means = {site: run.generate(50, given={"site": site, "age": 60}) for site in SITES}
    for number, site in enumerate(SITES):
        assert means[site].shape == (3, 50, D + 2)
        assert (means[site][..., 0] == number).all()
        np.testing.assert_allclose(means[site][..., -1], 60, rtol=1e-5)
    found = (means["B"] - means["A"])[..., 1:-1].mean((0, 1))
    np.testing.assert_allclose(found, SHIFTS[1] - SHIFTS[0], atol=0.6)


def test_draws_have_covariates_of_the_training_rows(run: Run) -> None:
    drawn = run.generate(300, seed=1)
    shares = [(drawn[..., 0] == number).mean() for number in range(3)]
    np.testing.assert_allclose(shares, np.bincount(SITE) / N, atol=0.06)
    ages = drawn[..., -1]
    assert ages.min() >= TABLE[:, -1].min() - 0.01
    assert ages.mean() == pytest.approx(TABLE[:, -1].mean(), abs=1.5)
    assert ages.std() == pytest.approx(TABLE[:, -1].std(), abs=1.5)


def test_rows_of_another_site_are_less_likely(run: Run) -> None:
    """The counterfactual: a row of site A, had it been measured at site B."""
    own = run.schema.rows_for_model(dataset(TABLE, COLUMNS), "x")
    as_b = run.schema.rows_for_model(dataset(TABLE, COLUMNS), "x", {"site": "B"})
    assert (as_b[:, 0] == 1).all()
    np.testing.assert_array_equal(as_b[:, 1:], own[:, 1:])
    elbos = [run.elbo(torch.from_numpy(x)) for x in (own, as_b)]
    np.testing.assert_allclose(elbos[1][SITE == 1], elbos[0][SITE == 1], atol=3)
    assert (elbos[1] - elbos[0])[SITE != 1].mean() < -5


def test_reconstructions_and_measured_draws_keep_the_covariates(run: Run) -> None:
    x = rows_of(run)[:60]
    x[0, 0] = math.nan  # a missing covariate is drawn, or stays missing
    np.testing.assert_array_equal(reconstruct(run, x)[:, [0, -1]], x[:, [0, -1]].numpy())
    components = np.arange(60) % 3
    made = draw_components(run, components, 60, given=x)
    assert made.isfinite().all()
    assert torch.equal(made[1:, [0, -1]], x[1:, [0, -1]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sites": "A"}, "unknown covariate 'sites'; did you mean 'site'"),
        ({"m0": 1}, "unknown covariate 'm0'; choose from: age, site"),
        ({"site": "a"}, "unknown value of site 'a'; did you mean 'A'"),
        ({"age": "old"}, "age=old: the column is real; give a number"),
        ({"age": "nan"}, "age=nan: the column is real"),
    ],
)
def test_unknown_covariates_and_values_are_refused(
    run: Run, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(GMMVAEError, match=message):
        run.generate(2, given=given)
    with pytest.raises(GMMVAEError, match=message):
        run.schema.rows_for_model(dataset(TABLE, COLUMNS), "x", given)


def test_a_run_without_covariates_names_the_option(without: Run) -> None:
    with pytest.raises(GMMVAEError, match="no covariates; train one with --covariates site"):
        without.generate(2, given={"site": "A"})


def test_covariates_are_columns_of_a_table_beside_the_label() -> None:
    keys = {"covariates": "site,age", "epochs": 1}
    with pytest.raises(GMMVAEError, match="covariates site, age: they are columns of a table"):
        TrainingData.from_config(default_config("digits", keys))
    with pytest.raises(GMMVAEError, match="covariates age: it is the label column"):
        TrainingData.from_config(default_config("digits", keys, {"label_column": "age"}))
