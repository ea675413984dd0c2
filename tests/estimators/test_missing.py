"""Estimators of rows with missing entries."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators import GMMVAEClassifier, GMMVAECluster, GMMVAETransformer
from tests.estimators.conftest import SMALL, Digits

Array = NDArray[Any]
FEW: dict[str, Any] = SMALL | {"epochs": 1, "image_shape": (8, 8)}


@pytest.fixture(scope="module")
def holes(digits: Digits) -> Array:
    """A tenth of the pixels hidden, and all pixels of the first row."""
    x = np.where(np.random.default_rng(0).random(digits[0].shape) < 0.1, np.nan, digits[0])
    x[0] = np.nan
    return x


@pytest.fixture(scope="module")
def fitted(holes: Array, digits: Digits) -> GMMVAEClassifier:
    return GMMVAEClassifier(**FEW | {"epochs": 6}, learning_rate=0.01).fit(holes, digits[1])


def test_missing_pixels_are_fitted_and_scored(
    fitted: GMMVAEClassifier, holes: Array, digits: Digits
) -> None:
    assert fitted._fitted.run.schema.kind.missing
    assert fitted.score(holes, digits[1]) > 0.6
    assert np.isfinite(fitted.predict_proba(holes)).all()
    assert np.isfinite(fitted.transform(holes)).all()
    assert np.isfinite(fitted.sample(5)[0]).all()
    scores = fitted.score_samples(holes, 20)
    assert np.isfinite(scores).all()
    # nothing is observed of the first row: the bound on log p() is 0 but for the error of weights
    assert abs(scores[0]) < 1
    assert scores[1:].max() < -1


def test_an_entry_that_is_missing_is_not_read(fitted: GMMVAEClassifier, holes: Array) -> None:
    """Hiding an entry changes the score by that entry's part, and no entry by its number."""
    row = holes[5:6].copy()
    seen = np.flatnonzero(~np.isnan(row[0]))
    fewer = row.copy()
    fewer[:, seen[:30]] = np.nan
    assert fitted.score_samples(fewer)[0] > fitted.score_samples(row)[0] + 1


def test_a_density_of_missing_entries_is_in_the_units_of_x() -> None:
    """A standardized entry that is missing has no share in the change of units."""
    x = 100 * np.random.default_rng(0).normal(size=(80, 3))
    x[:40, 1] = np.nan
    small = SMALL | {"epochs": 30, "learning_rate": 0.01}
    model = GMMVAETransformer("vae", **small).fit(x)
    of_units = -np.log(100) - 0.5 * np.log(2 * np.pi) - 0.5  # mean log density of an entry
    scores = model.score_samples(x, 20)
    assert_allclose(scores[:40].mean(), 2 * of_units, atol=1)
    assert_allclose(scores[40:].mean(), 3 * of_units, atol=1.5)


def test_further_rows_may_miss_entries_where_the_first_did(holes: Array, digits: Digits) -> None:
    cluster = GMMVAETransformer(**FEW)
    cluster.partial_fit(holes).partial_fit(digits[0])
    assert cluster._fitted.run.schema.kind.missing
    with pytest.raises(GMMVAEError, match="no row of the fit had one"):
        GMMVAETransformer(**FEW).partial_fit(digits[0]).partial_fit(holes)


@pytest.mark.parametrize("init", ["kmeans", "ae-gmm"])
def test_clusters_start_from_rows_with_missing_entries(
    init: str, holes: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyro_gmmvae.runs.initialize.AUTOENCODER_STEPS", 3)
    monkeypatch.setattr("pyro_gmmvae.runs.initialize.WARM_UP_STEPS", 3)
    cluster = GMMVAECluster(4, **FEW, settings={"init": init}).fit(holes)
    assert np.isfinite(cluster.predict_proba(holes)).all()
