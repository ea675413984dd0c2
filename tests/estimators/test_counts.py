"""Estimators of counts, and of other bounded rows: units, draws, scores, errors."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators import GMMVAEClassifier, GMMVAECluster, GMMVAETransformer
from tests.estimators.conftest import SMALL, Digits

QUICK: dict[str, Any] = SMALL | {"epochs": 2}


@pytest.fixture(scope="module")
def counts(digits: Digits) -> Digits:
    """Pixels 0..16 and labels."""
    return digits[0] * 16, digits[1]


@pytest.mark.parametrize(
    "arguments",
    [
        {"preset": "digits/permutation-invariant"},
        {"preset": "digits/permutation-invariant", "x_range": (0, 16)},
        {"likelihood": "binomial(16)"},
        {"likelihood": "binomial", "x_range": (0, 16)},
        {"likelihood": "categorical(17)"},
        {"likelihood": "categorical", "x_range": (0, 16)},
    ],
)
def test_counts_are_taken_as_they_are(counts: Digits, arguments: dict[str, Any]) -> None:
    x, y = counts
    fitted = GMMVAEClassifier(**QUICK | arguments).fit(x, y)
    schema = fitted._fitted.run.schema
    assert schema.likelihood.largest == 16
    assert_allclose(schema.transform(x[:5]), x[:5] / 16)
    assert fitted.predict_proba(x[:5]).shape == (5, 10)
    assert np.isfinite(fitted.score_samples(x[:5])).all()
    rows, _ = fitted.sample(40)
    assert_array_equal(rows, rows.round())
    assert rows.min() >= 0
    assert 1 < rows.max() <= 16
    means, _ = fitted.sample(40, mean=True)
    assert not np.array_equal(means, means.round())


def test_counts_from_another_lowest_value(counts: Digits) -> None:
    """x_range=(3, 19): the counts are X - 3, and draws are in the units of X."""
    x, y = counts
    fitted = GMMVAEClassifier(**QUICK, likelihood="binomial", x_range=(3, 19)).fit(x + 3, y)
    plain = GMMVAEClassifier(**QUICK, likelihood="binomial(16)").fit(x, y)
    assert_allclose(fitted.score_samples(x[:5] + 3), plain.score_samples(x[:5]))
    assert_array_equal(fitted.sample(5)[0], plain.sample(5)[0] + 3)
    with pytest.raises(GMMVAEError, match=r"holds 2, .* whole numbers from 3 to 19"):
        fitted.predict(np.full((1, 64), 2.0))


@pytest.mark.parametrize("estimator", [GMMVAECluster, GMMVAETransformer])
def test_other_estimators_take_counts(counts: Digits, estimator: Any) -> None:
    settings = {"init": "random"} if estimator is GMMVAECluster else None
    fitted = estimator(**QUICK, likelihood="binomial(16)", settings=settings).fit(counts[0])
    rows = fitted.sample(9)
    rows = rows if isinstance(rows, np.ndarray) else rows[0]
    assert_array_equal(rows, rows.round())
    assert rows.max() <= 16


@pytest.mark.parametrize(
    ("factor", "arguments", "match"),
    [
        (1 / 16, {"preset": "digits/best", "image_shape": (8, 8)}, r"X holds 0\.\d+, .*x_range"),
        (1, {"preset": "digits/best"}, "augment=affine .*give image_shape="),
        (1 / 16, {"likelihood": "binomial(16)"}, r"X holds 0\.\d+, .*x_range"),
        (2, {"likelihood": "binomial(16)"}, "X holds 32, .*from 0 to 16"),
        (-1, {"likelihood": "binomial(16)"}, "X holds -16, .*from 0 to 16"),
        (1, {"likelihood": "binomial"}, "largest value of X is not known"),
        (1, {"likelihood": "binomial(16)", "x_range": (0, 255)}, "give x_range=0,16, or"),
        (1, {"likelihood": "binomial", "x_range": (0, 16.5)}, "largest value of X is not known"),
        (1, {"likelihood": "continuous-bernoulli"}, "give the range of all values"),
        (1, {"likelihood": "binomail"}, "did you mean 'binomial'"),
        (
            1,
            {"likelihood": "binomial(16)", "settings": {"binarize": "dynamic"}},
            "binarize=dynamic is for likelihood=bernoulli",
        ),
    ],
)
def test_rows_that_are_no_counts(
    counts: Digits, factor: float, arguments: dict[str, Any], match: str
) -> None:
    x, y = counts
    with pytest.raises(GMMVAEError, match=match) as refusal:
        GMMVAEClassifier(**QUICK | arguments).fit(x * factor, y)
    assert "\n" not in str(refusal.value)


def test_other_counts_at_predict(counts: Digits) -> None:
    x, y = counts
    fitted = GMMVAEClassifier(**QUICK, likelihood="binomial(16)").fit(x, y)
    for rows in (x / 16, x * 16):
        with pytest.raises(GMMVAEError, match=r"X holds .*x_range"):
            fitted.predict(rows)
    with pytest.raises(GMMVAEError, match="X holds"):
        fitted.partial_fit(x / 16, y)


def test_densities_are_in_the_units_of_x(digits: Digits) -> None:
    """Ten times as wide rows have densities a tenth as high in each entry; probabilities keep."""
    x, y = digits[0][:, 20:24], digits[1]
    for likelihood, wanted in (("continuous-bernoulli", 4 * np.log(10)), ("bernoulli", 0.0)):
        one, ten = (
            GMMVAEClassifier(**QUICK, likelihood=likelihood, x_range=(0, top)).fit(top * x, y)
            for top in (1, 10)
        )
        differences = one.score_samples(x) - ten.score_samples(10 * x)
        assert_allclose(differences, wanted, atol=1e-3)


def test_binary_rows(digits: Digits) -> None:
    """A threshold is part of the units; rows and probabilities are those of binary rows."""
    x, y = digits
    settings = {"binarize": "threshold"}
    fitted = GMMVAEClassifier(
        **QUICK, likelihood="bernoulli", x_range=(0, 1), settings=settings
    ).fit(x, y)
    binary = (x >= 0.5).astype(float)
    assert_array_equal(fitted.predict_proba(x), fitted.predict_proba(binary))
    assert_array_equal(fitted.score_samples(x), fitted.score_samples(binary))
    with pytest.raises(GMMVAEError, match=r"needs rows in \[0, 1\]"):
        fitted.predict(x * 16)
