"""Soft labels, weights of rows, and the class of each fitted row."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_iris

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators import GMMVAEClassifier, GMMVAECluster, GMMVAETransformer

SMALL: dict[str, Any] = {"hidden": (16,), "latent_dim": 2, "engine": "svi", "random_state": 0}
X, Y = load_iris(return_X_y=True)
Rows = NDArray[Any]


def small(epochs: int = 12, **more: Any) -> GMMVAEClassifier:
    return GMMVAEClassifier(**SMALL, epochs=epochs, learning_rate=0.03, **more)


@pytest.fixture(scope="module")
def votes() -> Rows:
    """Of five annotators, one in five errs; every second row was shown to none."""
    generator = np.random.default_rng(0)
    given = np.where(
        generator.random((150, 5)) < 0.2, generator.integers(0, 3, (150, 5)), Y[:, None]
    )
    p = np.stack([(given == k).mean(1) for k in range(3)], 1)
    p[::2] = np.nan
    return p


@pytest.fixture(scope="module")
def of_votes(votes: Rows) -> GMMVAEClassifier:
    names = ["p_setosa", "p_versicolor", "p_virginica"]
    return small().fit(X, pd.DataFrame(votes, columns=names))


def test_soft_labels_of_a_frame_are_named_by_its_columns(
    of_votes: GMMVAEClassifier, votes: Rows
) -> None:
    assert of_votes.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    truth = of_votes.classes_[Y]
    assert of_votes.score(X, truth) > 0.85
    known = ~np.isnan(votes).all(1)
    expected = (of_votes.predict(X[known]) == of_votes.classes_[votes[known].argmax(1)]).mean()
    assert of_votes.score(X, votes) == pytest.approx(expected)


def test_soft_labels_leave_probabilities_softer_than_labels(of_votes: GMMVAEClassifier) -> None:
    hard = small().fit(X, Y)
    soft = of_votes.predict_proba(X).max(1).mean()
    assert soft < hard.predict_proba(X).max(1).mean() - 0.02


def test_frames_take_soft_labels_and_weights(votes: Rows) -> None:
    frame = pd.DataFrame(X, columns=list("abcd")).assign(site=np.where(Y > 0, "north", "south"))
    y = pd.DataFrame(votes, columns=["p_x", "p_y", "p_z"])
    model = small(1, settings={"members": 1}).fit(frame, y, sample_weight=np.arange(150))
    assert model.transduction_.shape == (150,)
    assert set(model.predict(frame)) <= {"x", "y", "z"}


def test_transduction_is_the_label_or_the_most_probable_class(of_votes: GMMVAEClassifier) -> None:
    shown = np.where(np.arange(150) % 5 == 0, (Y + 1) % 3, -1)  # wrong ones, so that they differ
    model = small(2).fit(X, shown)
    known = shown >= 0
    assert np.array_equal(model.transduction_[known], shown[known])
    assert np.array_equal(model.transduction_[~known], model.predict(X[~known]))
    # one vote out of five for another class: what the model makes of it
    assert of_votes.transduction_.shape == (150,)
    assert set(of_votes.transduction_) <= set(of_votes.classes_)


def test_a_later_pass_over_other_rows_has_no_transduction() -> None:
    model = small(1).fit(X, Y)
    assert not hasattr(model.partial_fit(X[:50], Y[:50]), "transduction_")


@pytest.mark.parametrize(
    ("row", "message"),
    [([0.5, 0.6, 0.0], "row 3 has prob.*sum to 1"), ([1.2, -0.2, 0.0], "row 3 has a negative")],
)
def test_rows_that_are_no_probabilities_are_refused(row: list[float], message: str) -> None:
    p = np.eye(3)[Y]
    p[3] = row
    with pytest.raises(GMMVAEError, match=message):
        small().fit(X, p)


def test_soft_labels_without_any_label_are_refused() -> None:
    with pytest.raises(GMMVAEError, match="no label"):
        small().fit(X, np.full((150, 3), np.nan))


def test_models_of_given_classes_refuse_soft_labels(votes: Rows) -> None:
    with pytest.raises(GMMVAEError, match="gmmvae or m2"):
        small(1, model="m1").fit(X, votes)


def test_rows_of_weight_zero_change_nothing() -> None:
    """The same weights of the network as without these rows, whatever their label."""
    weight = np.ones(150)
    weight[::3] = 0
    kept = weight > 0
    one = small(3).fit(X, np.where(kept, Y, 2), sample_weight=weight)
    other = small(3).fit(X[kept], Y[kept])
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))


def test_equal_weights_change_nothing() -> None:
    one, other = small(2).fit(X, Y, np.full(150, 3.0)), small(2).fit(X, Y)
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))


def test_weights_move_a_fit_to_the_heavy_rows() -> None:
    """Of two contradicting copies of the table the heavier one decides."""
    twice, labels = np.concatenate([X, X]), np.concatenate([Y, (Y + 1) % 3])
    weight = np.repeat([10.0, 1.0], 150)
    assert small(6).fit(twice, labels, sample_weight=weight).score(X, Y) > 0.85


@pytest.mark.parametrize("kind", [GMMVAECluster, GMMVAETransformer])
def test_estimators_without_labels_take_weights(kind: Any) -> None:
    weight = np.ones(150)
    weight[:50] = 0
    options = {"settings": {"init": "random"}} if kind is GMMVAECluster else {}
    one = kind(**SMALL, epochs=2, **options).fit(X, sample_weight=weight)
    other = kind(**SMALL, epochs=2, **options).fit(X[50:])
    assert np.array_equal(one.transform(X), other.transform(X))


@pytest.mark.parametrize(("value", "message"), [(-1, "row 7 has -1"), (np.nan, "row 7 has nan")])
def test_weights_that_no_draw_can_follow_are_refused(value: float, message: str) -> None:
    weight = np.ones(150)
    weight[7] = value
    with pytest.raises(GMMVAEError, match=message):
        small().fit(X, Y, sample_weight=weight)
    with pytest.raises(GMMVAEError, match="all zero"):
        small().fit(X, Y, sample_weight=np.zeros(150))
