"""Scores of representations whose scores are known."""

import numpy as np
import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import disentanglement, total_correlation
from pyro_gmmvae.evaluation.disentanglement import (
    dci,
    factor_vae_score,
    mutual_information_gap,
    sap,
)

GENERATOR = np.random.default_rng(0)
V = GENERATOR.integers(0, [2, 3, 4], size=(4000, 3))
PERFECT = V + 1e-3 * GENERATOR.normal(size=V.shape)
NOISE = GENERATOR.normal(size=(4000, 3))


def rotated(z: np.ndarray) -> np.ndarray:
    z = (z - z.mean(0)) / z.std(0)
    return z @ np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]


def test_one_entry_for_each_factor_has_the_best_scores() -> None:
    assert mutual_information_gap(PERFECT, V) == pytest.approx(1, abs=0.02)
    found = dci(PERFECT, V)
    assert min(found.values()) > 0.97
    assert factor_vae_score(PERFECT, V) == 1
    # of a factor of two values: accuracy 1 with its own entry, and about 1/2 with another
    assert sap(PERFECT, V[:, :1]) == pytest.approx(0.5, abs=0.05)


def test_noise_has_the_lowest_scores() -> None:
    assert mutual_information_gap(NOISE, V) < 0.01
    found = dci(NOISE, V)
    assert found["disentanglement"] < 0.05
    assert found["informativeness"] == pytest.approx(np.mean([1 / 2, 1 / 3, 1 / 4]), abs=0.04)
    assert factor_vae_score(NOISE, V) == pytest.approx(1 / 3, abs=0.08)
    assert sap(NOISE, V) < 0.05


def test_a_rotation_lowers_the_scores_but_no_information() -> None:
    z = rotated(PERFECT)
    assert mutual_information_gap(z, V) < 0.5
    found, best = dci(z, V), dci(PERFECT, V)
    assert found["disentanglement"] < best["disentanglement"] - 0.2
    assert found["informativeness"] > 0.9


def test_one_entry_for_two_factors_lowers_disentanglement_alone() -> None:
    both = V[:, 0] + 2 * V[:, 1]
    z = np.stack([both, V[:, 2]], -1) + 1e-3 * GENERATOR.normal(size=(len(V), 2))
    found = dci(z, V)
    assert found["completeness"] > 0.97
    # log 2 of log 3 nats are lost in the entry that serves two factors of three
    assert found["disentanglement"] == pytest.approx(1 - np.log(2) / np.log(3) * 2 / 3, abs=0.05)


def test_mig_of_a_factor_in_two_entries_is_zero() -> None:
    z = np.stack([PERFECT[:, 0], -PERFECT[:, 0]], -1)
    assert mutual_information_gap(z, V[:, :1]) == pytest.approx(0, abs=0.01)


def test_total_correlation_is_that_of_a_gaussian() -> None:
    r = 0.8
    z = GENERATOR.multivariate_normal([0, 0, 0], [[1, r, 0], [r, 1, 0], [0, 0, 9]], 100_000)
    assert total_correlation(z) == pytest.approx(-0.5 * np.log(1 - r**2), abs=0.01)
    constant = np.column_stack([z, np.full(len(z), 3.0)])
    assert total_correlation(constant) == pytest.approx(total_correlation(z))
    assert total_correlation(z[:, :1]) == 0
    assert total_correlation(np.column_stack([z, z[:, 0]])) > 10


def test_constant_factors_and_one_entry_have_no_scores() -> None:
    names = {"a": V[:, 0], "b": V[:, 1], "constant": np.zeros(len(V))}
    assert disentanglement(PERFECT, names)["mig"] > 0.6
    assert disentanglement(PERFECT[:, :1], names) == {}
    assert disentanglement(PERFECT, {"constant": names["constant"]}) == {}
    assert factor_vae_score(0.01 * PERFECT, V) == factor_vae_score(PERFECT, V)
    assert factor_vae_score(PERFECT, np.arange(len(V))[:, None]) is None
    with pytest.raises(GMMVAEError, match="4000 rows of z, and 3 of the factor 'a'"):
        disentanglement(PERFECT, {"a": V[:3, 0]})
