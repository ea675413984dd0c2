"""Metrics of class probabilities, compared with scikit-learn, SciPy and counts by hand."""

import numpy as np
import pytest

from pyro_gmmvae.evaluation import (
    clustering_scores,
    confusion,
    expected_calibration_error,
    log_loss,
    probe_accuracy,
    reliability,
    wilson_interval,
)


def log_probs_of(confidence: float, labels: np.ndarray, K: int) -> np.ndarray:
    probs = np.full((len(labels), K), (1 - confidence) / (K - 1))
    probs[np.arange(len(labels)), labels] = confidence
    return np.log(probs)


def test_wilson_interval_of_the_textbook() -> None:
    """8 of 10: Wilson 1927 gives (0.4902, 0.9433)."""
    assert wilson_interval(0.8, 10) == pytest.approx((0.49016, 0.94331), abs=1e-4)


def test_wilson_interval_stays_in_range_at_the_ends() -> None:
    assert wilson_interval(1.0, 20)[1] == pytest.approx(1.0)
    assert wilson_interval(0.0, 20)[0] == pytest.approx(0.0)


def test_confusion_counts_true_by_predicted_classes() -> None:
    y = np.array([0, 0, 1, 2, -1])
    predicted = np.array([0, 1, 1, 2, 0])
    counts = confusion(log_probs_of(0.9, predicted, 4), y)
    expected = np.zeros((4, 4), int)
    expected[0, 0] = expected[0, 1] = expected[1, 1] = expected[2, 2] = 1
    assert (counts == expected).all()


def test_calibrated_probabilities_have_no_error() -> None:
    """Confidence 0.75, correct three times in four."""
    y = np.zeros(400, np.int64)
    predicted = np.where(np.arange(400) % 4 == 0, 1, 0)
    table = reliability(log_probs_of(0.75, predicted, 3), y)
    assert expected_calibration_error(table) == pytest.approx(0.0, abs=1e-9)


def test_overconfidence_is_the_calibration_error() -> None:
    y = np.zeros(100, np.int64)
    predicted = np.where(np.arange(100) < 60, 0, 1)
    table = reliability(log_probs_of(0.95, predicted, 3), y)
    assert expected_calibration_error(table) == pytest.approx(0.35)
    assert table["rows"].sum() == 100


def test_a_probability_of_one_has_a_bin() -> None:
    log_probs = np.array([[0.0, -np.inf], [0.0, -np.inf]])
    assert reliability(log_probs, np.array([0, 0]))["accuracy"].tolist() == [1.0]


def test_clusters_are_matched_with_classes() -> None:
    y = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, -1])
    clusters = np.array([5, 5, 5, 3, 3, 5, 4, 4, 4, 4])
    scores = clustering_scores(clusters, y)
    assert scores["cluster_accuracy"] == pytest.approx(8 / 9)
    assert 0 < scores["ari"] < 1


def test_only_one_of_two_clusters_of_a_class_counts() -> None:
    y = np.array([0] * 4 + [1] * 4)
    clusters = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    assert clustering_scores(clusters, y)["cluster_accuracy"] == pytest.approx(6 / 8)


def test_a_single_cluster_has_no_information() -> None:
    scores = clustering_scores(np.zeros(10), np.arange(10) % 2)
    assert scores["nmi"] == pytest.approx(0)
    assert scores["ari"] == pytest.approx(0)


def test_the_probe_finds_classes_that_z_separates() -> None:
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    z = generator.normal(size=(60, 2)) * 0.1 + 5 * np.eye(3)[y][:, :2]
    assert probe_accuracy(z[:30], y[:30], z[30:], y[30:]) == 1.0


def test_log_loss_equals_that_of_scikit_learn() -> None:
    from sklearn.metrics import log_loss as reference

    generator = np.random.default_rng(0)
    probs, y = generator.dirichlet(np.ones(4), 30), np.arange(30) % 4
    assert log_loss(np.log(probs), y) == pytest.approx(reference(y, probs))
    half = np.where(np.arange(30) < 15, y, -1)
    assert log_loss(np.log(probs), half) == pytest.approx(reference(y[:15], probs[:15]))
    assert log_loss(np.log(probs), np.full(30, -1)) is None
