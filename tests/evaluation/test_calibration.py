"""The temperature of class probabilities, against distributions that it is known for."""

import numpy as np
import pytest
from scipy.special import log_softmax

from pyro_gmmvae.evaluation import fit_temperature, log_loss, tempered


def drawn(n: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels from softmax(logits), and the log-probabilities of a model that is too sharp."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, 4)) * 2
    y = np.array([generator.choice(4, p=p) for p in np.exp(log_softmax(logits, axis=1))])
    return log_softmax(sharpness * logits, axis=1), y


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_a_known_sharpness(sharpness: float) -> None:
    log_probs, y = drawn(4000, sharpness)
    assert fit_temperature(log_probs, y) == pytest.approx(sharpness, rel=0.08)


def test_it_lowers_the_log_loss_of_other_rows_and_keeps_the_classes() -> None:
    temperature = fit_temperature(*drawn(60, 4.0, seed=1))
    log_probs, y = drawn(2000, 4.0, seed=2)
    better = tempered(log_probs, temperature)
    before, after = log_loss(log_probs, y), log_loss(better, y)
    assert before is not None
    assert after is not None
    assert after < 0.7 * before
    np.testing.assert_array_equal(better.argmax(1), log_probs.argmax(1))
    np.testing.assert_allclose(np.exp(better).sum(1), 1)


@pytest.mark.parametrize("n", [8, 98])
def test_rows_without_an_error_give_the_rule_of_succession(n: int) -> None:
    y = np.arange(n) % 2
    log_probs = log_softmax(10.0 * np.eye(2)[y], axis=1)
    p = np.exp(tempered(log_probs, fit_temperature(log_probs, y)))
    np.testing.assert_allclose(p[np.arange(n), y], (n + 1) / (n + 2), rtol=1e-3)


def test_a_class_that_a_row_excludes_costs_a_finite_loss() -> None:
    log_probs = np.array([[0.0, -np.inf], np.log([0.9, 0.1])])
    temperature = fit_temperature(log_probs, np.array([1, 0]))
    assert 1 < temperature <= 20.001


def test_one_class_or_no_labels_change_nothing() -> None:
    log_probs, _ = drawn(5, 1.0)
    assert fit_temperature(log_probs, np.full(5, -1)) == 1
    assert fit_temperature(np.zeros((5, 1)), np.zeros(5, np.int64)) == 1
