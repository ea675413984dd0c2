"""Ranges that are read from values, and rows that are in another unit than those of training."""

import numpy as np
import pytest

from pyro_gmmvae.data import Shards, Table, Transform
from pyro_gmmvae.data.dataset import Dataset
from pyro_gmmvae.data.kinds import Image
from pyro_gmmvae.data.value_range import extremes, likelihood_and_range
from pyro_gmmvae.errors import GMMVAEError, GMMVAEWarning
from pyro_gmmvae.runs.schema import Schema

GENERATOR = np.random.default_rng(0)
BYTES = GENERATOR.integers(0, 256, (20, 6), np.uint8)


@pytest.mark.parametrize(
    ("x", "image", "likelihood", "wanted"),
    [
        (BYTES, True, None, ("bernoulli", (0, 255))),
        (BYTES, False, None, ("bernoulli", (0, 255))),
        (BYTES, False, "normal", ("normal", (0, 255))),
        (BYTES > 9, False, None, ("bernoulli", (0, 1))),
        ((BYTES > 9).astype(np.uint8), False, None, ("bernoulli", (0, 1))),
        (BYTES // 9, False, None, ("normal", None)),
        (BYTES / 255, True, None, ("bernoulli", (0, 1))),
        (BYTES / 255, False, None, ("normal", None)),
        (BYTES / 255, False, "bernoulli", ("bernoulli", (0, 1))),
        (BYTES / 255, True, "normal", ("normal", None)),
        (np.where(BYTES < 9, np.nan, BYTES / 255), True, None, ("bernoulli", (0, 1))),
        (BYTES / 2, True, None, ("normal", None)),
        (BYTES, False, "binomial", ("binomial(255)", (0, 255))),
        (BYTES, False, "categorical(300)", ("categorical(300)", (0, 299))),
    ],
)
def test_the_range_follows_from_values(x, image, likelihood, wanted) -> None:  # type: ignore[no-untyped-def]
    for rows in (x, Shards([x[:7], x[7:]])):
        spec, found = likelihood_and_range(rows, image=image, likelihood=likelihood)
        assert (str(spec), found) == wanted


def test_a_given_range_must_hold_all_values() -> None:
    with pytest.raises(GMMVAEError, match="x_range is 0,9, and X goes from 0 to"):
        likelihood_and_range(BYTES / 2, x_range=(0, 9))
    spec, found = likelihood_and_range(BYTES / 2, x_range=(0, 9), likelihood="normal")
    assert (str(spec), found) == ("normal", (0, 9))


def test_extremes_are_of_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_gmmvae.data.shards.ROWS_AT_ONCE", 4)
    x = np.where(BYTES > 200, np.nan, BYTES)
    x[4:8] = np.nan
    assert extremes(x) == extremes(Shards([x[:9], x[9:]])) == (np.nanmin(x), np.nanmax(x))
    assert extremes(np.full((3, 2), np.nan)) == (0, 0)


PLAIN = GENERATOR.normal(30, 2, (200, 4))
STANDARD = Schema(Table((4,)), (), Transform.standardizing(PLAIN), "")
PIXELS = Schema(Image((1, 2, 3), "bernoulli"), (), Transform.of_range(0, 255), "")
COUNTS = Schema(Table((6,), "binomial(255)"), (), Transform.of_range(0, 255), "")


def rows(x: np.ndarray) -> Dataset:
    return Dataset.of_arrays(x, np.empty(0, np.int64), ())


@pytest.mark.parametrize(
    ("schema", "x", "match"),
    [
        (STANDARD, PLAIN * 1000, "most cells are more than 20 standard deviations"),
        (STANDARD, PLAIN[:1] * 1000, "most cells are more than 20 standard deviations"),
        (STANDARD, PLAIN / 1000, "in most columns they differ by less than 0.02"),
        (PIXELS, (BYTES / 255).reshape(20, 1, 2, 3), "go up to 0.9725, and the range is 0 to 255"),
    ],
)
def test_another_unit_is_noticed(schema: Schema, x: np.ndarray, match: str) -> None:
    with pytest.warns(GMMVAEWarning, match=f"f.npy may be in another unit .*{match}"):
        schema.rows_for_model(rows(x), "f.npy")


@pytest.mark.parametrize(
    ("schema", "x"),
    [
        (STANDARD, PLAIN + 5),
        (STANDARD, PLAIN[:1]),
        (STANDARD, np.repeat(PLAIN[:1], 20, 0)),
        (STANDARD, np.where(np.arange(4) < 3, 30, PLAIN)),  # columns that are often constant
        (PIXELS, (BYTES // 3).reshape(20, 1, 2, 3)),
        (PIXELS, np.zeros((20, 1, 2, 3))),
        (COUNTS, np.full((3, 6), 2)),
    ],
)
def test_rows_in_the_same_unit_are_not_warned_of(schema: Schema, x: np.ndarray) -> None:
    assert schema.rows_for_model(rows(x), "f.npy").shape == (len(x), *schema.kind.x_shape)
