"""What the estimators promise beyond scikit-learn's checks."""

import copy
import doctest
import os
import signal
import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from pyro_gmmvae.datasets import load_data
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators import (
    GMMVAEClassifier,
    GMMVAECluster,
    GMMVAEImputer,
    GMMVAETransformer,
)
from pyro_gmmvae.estimators.inputs import encoded
from pyro_gmmvae.evaluation import log_weights
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import GMMVAE, MODELS
from pyro_gmmvae.runs import default_config, train
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.row_scores import bounds_of_rows
from tests.estimators.conftest import SMALL, Digits
from tests.models.test_contract import OF_IMAGES

QUICK: dict[str, Any] = SMALL | {"epochs": 2}


@pytest.fixture(scope="module")
def blobs() -> Digits:
    """Three classes of 60 rows in 4 dimensions, a third of them labelled."""
    x, y = make_blobs(60, 4, centers=3, cluster_std=0.8, random_state=1)
    shown = y.copy()
    shown[np.arange(60) % 3 > 0] = -1
    return x, shown


# -- the same as the library's other ways ------------------------------------------------------


def test_the_weights_are_those_of_a_run_on_the_same_rows(tmp_path: Any) -> None:
    """Rows in memory, 16 dividing the pixels, are what 'gmmvae train' fits: to the bit."""
    keys = {"epochs": 1, "hidden": "16", "latent_dim": 3, "labels": 50, "engine": "svi"}
    config = default_config("digits", keys)
    run = train(config, tmp_path / "run")
    rows = TrainingData.from_config(config)
    x, y = rows.dataset.x.reshape(-1, 64), rows.dataset.y
    shown = np.where(np.isin(np.arange(len(y)), rows.split.labelled), y, -1)
    fitted = GMMVAEClassifier(
        **SMALL, epochs=1, image_shape=(8, 8), x_range=(0, 16), preset="digits/best"
    ).fit(x[rows.split.train], shown[rows.split.train])
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, fitted.model_.state_dict()[name]), name
    test = rows.split.test
    assert fitted.score(x[test], y[test]) == pytest.approx(
        run.evaluate(samples=2, nll_rows=2)["accuracy"]
    )


def test_it_learns_from_rows_without_labels_as_self_training_does(blobs: Digits) -> None:
    x, shown = blobs
    y = make_blobs(60, 4, centers=3, cluster_std=0.8, random_state=1)[1]
    fitted = GMMVAEClassifier(**SMALL, epochs=40, learning_rate=0.01).fit(x, shown)
    other = SelfTrainingClassifier(GaussianNB()).fit(x, shown)
    hidden = shown == -1
    assert fitted.score(x[hidden], y[hidden]) >= other.score(x[hidden], y[hidden]) - 0.05


def test_a_pipeline_and_a_search(blobs: Digits) -> None:
    x, shown = blobs
    pipeline = make_pipeline(StandardScaler(), GMMVAEClassifier(**QUICK))
    search = GridSearchCV(pipeline, {"gmmvaeclassifier__latent_dim": [2, 3]}, cv=2)
    search.fit(x, shown)
    assert search.best_estimator_[-1].transform(x).shape == (
        60,
        search.best_params_["gmmvaeclassifier__latent_dim"],
    )
    scores = cross_val_score(GMMVAETransformer(**QUICK), x, cv=2)
    assert np.isfinite(scores).all()


def test_rows_without_a_label_are_not_scored(classifier: GMMVAEClassifier, digits: Digits) -> None:
    x, shown = digits
    known = shown != -1
    assert classifier.score(x, shown) == classifier.score(x[known], shown[known])
    with pytest.raises(GMMVAEError, match="nothing to score"):
        classifier.score(x[~known], shown[~known])


# -- fitting leaves the process, and an earlier fit, as they were ------------------------------


def test_a_fit_leaves_torch_as_it_was(blobs: Digits) -> None:
    before = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    numpy_before = np.random.get_state()[1].copy()
    GMMVAEClassifier(**QUICK).fit(*blobs).score_samples(blobs[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.get_default_dtype()) == before[1:]
    assert_array_equal(np.random.get_state()[1], numpy_before)


def test_without_a_seed_fits_differ_and_with_one_they_do_not(blobs: Digits) -> None:
    x, shown = blobs
    one, other = (GMMVAEClassifier(**QUICK | {"random_state": None}).fit(x, shown) for _ in "ab")
    assert not np.array_equal(one.transform(x), other.transform(x))
    fitted = GMMVAEClassifier(**QUICK)
    again = clone(fitted).fit(x, shown).transform(x)
    assert_array_equal(fitted.fit(x, shown).transform(x), again)


def test_an_interrupted_refit_raises_and_keeps_the_earlier_fit(blobs: Digits) -> None:
    x, shown = blobs
    fitted = GMMVAEClassifier(**QUICK).fit(x, shown)
    before = fitted.predict_proba(x)
    fitted.set_params(epochs=100_000)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(x[:, :3], shown)
    timer.join()
    assert fitted.n_features_in_ == 4
    assert fitted.n_iter_ == 2
    assert_array_equal(fitted.predict_proba(x), before)


def test_a_refused_first_fit_leaves_it_unfitted(blobs: Digits) -> None:
    model = GMMVAEClassifier(**QUICK, guide="prodct")
    with pytest.raises(GMMVAEError, match="did you mean 'product'"):
        model.fit(*blobs)
    with pytest.raises(NotFittedError):
        model.predict(blobs[0])
    assert not hasattr(model, "n_features_in_")


# -- pass by pass ------------------------------------------------------------------------------


def test_passes_go_on_with_adam_and_keep_the_first_units(blobs: Digits) -> None:
    x, shown = blobs
    model = GMMVAEClassifier(**SMALL, learning_rate=0.01)
    model.partial_fit(x[:30], shown[:30], classes=[0, 1, 2])
    scale, loss = model._fitted.run.schema.transform.scale, model.history_["loss"][0]
    moments = copy.deepcopy(model._fitted.optimizer)
    before = model._fitted
    for _ in range(40):
        model.partial_fit(10 * x[30:], shown[30:])
    assert_array_equal(model._fitted.run.schema.transform.scale, scale)
    assert model.n_iter_ == 41
    assert model.history_["step"].is_monotonic_increasing
    steps = [state["step"].item() for state in model._fitted.optimizer["state"].values()]
    assert set(steps) == {41.0}
    # what it went on from is as it was
    for one, other in zip(
        moments["state"].values(), before.optimizer["state"].values(), strict=True
    ):
        assert torch.equal(one["exp_avg"], other["exp_avg"])
    assert model.history_["loss"].iloc[-1] < model.history_["loss"][1]
    assert np.isfinite(loss)
    known = shown != -1
    assert model.score(10 * x[30:][known[30:]], shown[30:][known[30:]]) > 0.8


def test_passes_after_a_fit_begin_at_its_weights(transformer: Any, digits: Digits) -> None:
    x = digits[0]
    other = clone(transformer).set_params(learning_rate=1e-12).fit(x)
    z = other.transform(x)
    other.partial_fit(x)
    assert_allclose(other.transform(x), z, atol=1e-5)
    assert other.n_iter_ == 3
    with pytest.raises(GMMVAEError, match="arguments changed"):
        other.set_params(latent_dim=7).partial_fit(x)
    assert_allclose(other.transform(x), z, atol=1e-5)


def test_passes_that_cannot_be_made(blobs: Digits) -> None:
    x, shown = blobs
    model = GMMVAEClassifier(**SMALL)
    for classes, match in (
        (None, "needs classes"),
        ([-1, 0, 1], "hold -1"),
        ([0, 1], "holds 2"),
        ([[0, 1, 2]], "a list of labels"),
    ):
        with pytest.raises(GMMVAEError, match=match):
            model.partial_fit(x, shown, classes=classes)
        assert not hasattr(model, "classes_")
    model.partial_fit(x, shown, classes=[0, 1, 2])
    with pytest.raises(GMMVAEError, match="since the first call"):
        model.partial_fit(x, shown, classes=[0, 1])


# -- what is given and what comes back ---------------------------------------------------------


def test_labels_of_text_come_back(blobs: Digits) -> None:
    x, shown = blobs
    names = np.array(["ann", "bob", "cy"], object)
    text = np.where(shown == -1, -1, names[shown])
    fitted = GMMVAEClassifier(**QUICK).fit(x, text)
    numbers = GMMVAEClassifier(**QUICK).fit(x, shown)
    assert fitted.classes_.tolist() == ["ann", "bob", "cy"]
    assert_array_equal(fitted.predict(x), names[numbers.predict(x)])
    assert_allclose(fitted.predict_proba(x).sum(1), 1, rtol=1e-12)
    assert_array_equal(fitted.predict_proba(x), numbers.predict_proba(x))
    all_known = pd.Series(text[shown != -1], dtype="str")
    assert GMMVAEClassifier(**QUICK).fit(x[shown != -1], all_known).classes_.tolist() == [*names]


def test_frames_under_one_likelihood_are_arrays(blobs: Digits) -> None:
    polars = pytest.importorskip("polars")
    x, shown = blobs
    columns = [*"abcd"]
    plain = GMMVAEClassifier(**QUICK, likelihood="normal").fit(x, shown)
    for frame, series in (
        (pd.DataFrame(x, columns=columns), pd.Series(shown)),
        (polars.DataFrame(x, schema=columns), polars.Series(shown)),
    ):
        fitted = GMMVAEClassifier(**QUICK, likelihood="normal").fit(frame, series)
        assert fitted.feature_names_in_.tolist() == columns
        assert_array_equal(fitted.predict_proba(frame), plain.predict_proba(x))
        kind = type(frame).__module__.split(".")[0]
        z = fitted.set_output(transform=kind).transform(frame)
        assert isinstance(z, type(frame))
        assert [*z.columns] == [*fitted.get_feature_names_out()]
        assert_array_equal(z.to_numpy(), plain.transform(x))
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(pd.DataFrame(x, columns=[*"abce"]))


def test_bytes_are_pixels(digits: Digits) -> None:
    """As in files; others are plain numbers in a table."""
    x, shown = digits
    whole = (x * 255).astype(np.uint8)
    images = GMMVAEClassifier(**QUICK, image_shape=(8, 8)).fit(whole, shown)
    asked = GMMVAEClassifier(**QUICK, image_shape=(8, 8), x_range=(0, 255))
    assert_array_equal(
        images.predict_proba(whole), asked.fit(whole.astype(float), shown).predict_proba(whole)
    )
    kinds = {"bernoulli": whole, "normal": (x * 16).astype(np.uint8)}
    for likelihood, rows in (*kinds.items(), ("bernoulli", x > 0.5)):
        table = GMMVAEClassifier(**QUICK).fit(rows, shown)
        assert str(table._fitted.run.schema.likelihood) == likelihood
    with pytest.raises(GMMVAEError, match="give x_range=0,255 or x_range=0,16"):
        GMMVAEClassifier(**QUICK, image_shape=(8, 8)).fit(kinds["normal"], shown)


# -- densities ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_rows_score_does_not_depend_on_the_others(name: str) -> None:
    """And the bound is that of independent noise, but for the noise."""
    shape = (1, 2, 3) if name in OF_IMAGES else (6,)
    options: dict[str, Any] = {"x_shape": shape, "components": 3, "latent_dim": 2}
    options |= {"factors": {"view": 2}, "auxiliary_dim": 2, "likelihood": "normal"}
    wanted = MODELS[name].__init__.__annotations__
    model: Any = MODELS[name](**{k: v for k, v in options.items() if k in wanted}).eval()
    x = torch.randn(50, *shape)
    y = torch.arange(50) % 3 if model.given_class else None
    scores = bounds_of_rows(model, x, 200, y).iwae
    order = torch.randperm(50)[:7]
    alone = bounds_of_rows(model, x[order], 200, None if y is None else y[order])
    assert torch.equal(alone.iwae, scores[order])
    others = log_weights(model.model, model.guide, x, 200, y=y).iwae
    assert (scores - others).mean().abs() < 5 * (scores - others).std() / 50**0.5 + 0.3


@pytest.mark.parametrize("name", GUIDES)
def test_scores_under_every_guide(name: str) -> None:
    model = GMMVAE((6,), 3, 2, likelihood="normal", guide=GUIDES[name]).eval()
    x = torch.randn(5, 6)
    assert torch.equal(
        bounds_of_rows(model, x, 20).elbo[2:3], bounds_of_rows(model, x[2:3], 20).elbo
    )


def test_scores_are_densities_in_the_units_of_x(blobs: Digits) -> None:
    """Ten times the unit is a tenth of the density, in each of four dimensions."""
    x = blobs[0]
    one, ten = (GMMVAETransformer(**QUICK).fit(scale * x) for scale in (1, 10))
    differences = one.score_samples(x) - ten.score_samples(10 * x)
    assert_allclose(differences, 4 * np.log(10), atol=1e-3)


def test_more_samples_give_a_higher_bound(transformer: GMMVAETransformer, digits: Digits) -> None:
    few, many = (transformer.score_samples(digits[0][:50], samples=n).mean() for n in (1, 200))
    assert few < many


# -- draws -------------------------------------------------------------------------------------


def test_draws_of_a_class_are_of_that_class(blobs: Digits) -> None:
    x, shown = blobs
    fitted = GMMVAEClassifier(**SMALL, epochs=120, learning_rate=0.02).fit(x, shown)
    for label in fitted.classes_:
        rows, labels = fitted.sample(40, label=label)
        assert (labels == label).all()
        assert (fitted.predict(rows) == label).mean() > 0.7
        # in the units of X
        assert np.abs(rows.mean(0) - x[fitted.predict(x) == label].mean(0)).max() < 3
    rows, labels = fitted.sample(50)
    assert rows.shape == (50, 4)
    assert len(np.unique(labels)) == 3
    assert_array_equal(rows, fitted.sample(50)[0])  # the seed is that of the estimator
    means = fitted.sample(50, mean=True)[0]
    assert means.std() < rows.std()
    with pytest.raises(GMMVAEError, match="unknown class '7'"):
        fitted.sample(1, label=7)
    with pytest.raises(GMMVAEError, match="n_samples"):
        fitted.sample(0)


def test_what_z_decodes_to(transformer: GMMVAETransformer, digits: Digits) -> None:
    x = digits[0]
    vae = GMMVAETransformer(**SMALL | {"epochs": 60, "learning_rate": 0.01}).fit(x)
    back = vae.inverse_transform(vae.transform(x))
    assert np.square(back - x).mean() < np.square(x.mean(0) - x).mean()
    assert transformer.inverse_transform(transformer.transform(x[:3])).shape == (3, 64)
    assert vae.sample(4).shape == (4, 64)
    with pytest.raises(GMMVAEError, match="X has 2 columns, and z has 3"):
        vae.inverse_transform(np.zeros((1, 2)))
    with pytest.raises(GMMVAEError, match="single precision"):
        vae.inverse_transform(np.full((1, 3), 1e300))
    other = GMMVAETransformer("m2", **QUICK).fit(x)
    with pytest.raises(GMMVAEError, match="decodes from z and a class"):
        other.inverse_transform(other.transform(x[:2]))
    without_latents = GMMVAETransformer("ae", **QUICK).fit(x)
    with pytest.raises(GMMVAEError, match="no latents"):
        without_latents.score_samples(x)
    with pytest.raises(GMMVAEError, match="no prior"):
        without_latents.sample(2)


def test_labels_are_what_is_predicted(cluster: GMMVAECluster, digits: Digits) -> None:
    assert_array_equal(cluster.labels_, cluster.predict(digits[0]))
    assert_array_equal(cluster.labels_, cluster.predict_proba(digits[0]).argmax(1))


def test_draws_of_a_component(cluster: GMMVAECluster) -> None:
    rows, components = cluster.sample(8, label=2)
    assert set(np.unique(rows)) <= {0.0, 1.0}  # a Bernoulli's draws
    assert (components == 2).all()
    for label in (4, -1, 1.0):
        with pytest.raises(GMMVAEError, match=f"no component {label}"):
            cluster.sample(1, label=label)
    with pytest.raises(GMMVAEError, match="n_clusters"):
        GMMVAECluster(None).fit(rows)


# -- what can't be used ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"settings": {"kl_w": 1}}, "did you mean"),
        ({"settings": {"epochs": 3}}, "argument of its own, epochs"),
        ({"settings": {"seed": 3}}, "argument of its own, random_state"),
        ({"settings": {"labels": 3}}, "rows come with fit"),
        ({"settings": ["alpha"]}, "must be a dict"),
        ({"model": "gmvae"}, "unknown model"),
        ({"model": "vae"}, "GMMVAETransformer takes it"),
        ({"components": 2}, "at least one per class"),
        ({"components": 100}, "only 60 training rows"),
        ({"image_shape": (2, 3)}, "of 6 pixels, and X has 4 features"),
        ({"image_shape": 4}, "image_shape must be"),
        ({"x_range": (1, 0)}, "x_range: give the lowest and the highest"),
        ({"x_range": (0, 1)}, "and X goes from"),
        ({"settings": {"log": ("tensorboard",)}}, "for runs of files"),
        ({"likelihood": "bernoulli"}, "give the range of all values"),
        ({"preset": "digits/bets"}, "did you mean 'digits/best'"),
        ({"latent_dim": 0}, "latent_dim"),
        ({"epochs": 0}, "epochs"),
        ({"random_state": "seed"}, "seed"),
        ({"device": "cuda:77"}, "CUDA devices"),
    ],
)
def test_arguments_that_cannot_be_used(
    arguments: dict[str, Any], match: str, blobs: Digits
) -> None:
    with pytest.raises(ValueError, match=match):
        GMMVAEClassifier(**QUICK | arguments).fit(*blobs)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.full(60, -1), "no label"),
        (np.ones(60, int), "1 class"),
        (np.where(np.arange(60) % 2, -1, 1), "write two classes -1/[+]1 as 0/1"),
        (np.where(np.arange(60) % 2, "a", "-1"), "1 class, 'a' besides -1"),
        (np.where(np.arange(60) % 2, "1", "-1"), "write two classes -1/[+]1 as 0/1"),
        (np.where(np.arange(60) % 2, "a", None), "NaN or None: rows without a label are -1"),
        (np.array(["a", 1] * 30, object), "several types"),
        (np.linspace(0, 1, 60), "continuous"),
        (np.zeros(59, int), "inconsistent"),
    ],
)
def test_labels_that_cannot_be_used(y: Any, match: str, blobs: Digits) -> None:
    with pytest.raises(ValueError, match=match):
        GMMVAEClassifier(**QUICK).fit(blobs[0], y)


def test_text_for_no_label_is_no_class(blobs: Digits) -> None:
    x, shown = blobs
    text = np.where(shown < 0, "-1", np.array([*"abc"])[shown])
    labels: list[Any] = [
        *(text, text.astype(object), pd.Series(text), pd.Series(text, dtype="string")),
        np.where(shown < 0, " ", text),
        np.where(shown < 0, -1, text.astype(object)),
    ]
    for y in labels:
        model = GMMVAEClassifier(**QUICK).fit(x, y)
        assert model.classes_.tolist() == [*"abc"]
        assert_array_equal(encoded(np.asarray(y))[0], shown)
        assert model.score(x, y) == model.score(x[shown >= 0], text[shown >= 0])


def test_rows_that_cannot_be_used(blobs: Digits, classifier: GMMVAEClassifier) -> None:
    x, shown = blobs
    model = GMMVAEClassifier(**QUICK)
    with pytest.raises(ValueError, match="infinity"):
        model.fit(np.where(x > 2, np.inf, x), shown)
    with pytest.raises(GMMVAEError, match="missing='refuse'"):
        GMMVAEClassifier(**QUICK, settings={"missing": "refuse"}).fit(
            np.where(x > 2, np.nan, x), shown
        )
    with pytest.raises(GMMVAEError, match="too large"):
        model.fit(x * 1e300, shown)
    model.fit(x, shown)
    with pytest.raises(ValueError, match="3 features"):
        model.predict(x[:, :3])
    with pytest.raises(GMMVAEError, match="single precision"):
        model.predict(x * 1e300)
    with pytest.raises(GMMVAEError, match="no row of the fit had one"):
        model.predict(np.where(x > 2, np.nan, x))
    with pytest.raises(GMMVAEError, match="bernoulli"):
        classifier.predict(np.full((1, 64), 16.0))
    with pytest.raises(ValueError, match="inconsistent"):
        classifier.score(np.zeros((3, 64)), [0, 1])
    with pytest.raises(ValueError, match="inconsistent"):
        classifier.score(np.zeros((2, 64)), [0, 1], sample_weight=[1])
    with pytest.raises(GMMVAEError, match="unknown class"):
        classifier.sample(2, label=[1, 2])
    with pytest.warns(DataConversionWarning):
        model.fit(x, shown[:, None])


def test_a_named_set_is_not_in_memory() -> None:
    with pytest.raises(GMMVAEError, match="fitted in memory"):
        load_data("(memory)")


def test_patience_watches_rows_that_are_not_fitted(digits: Digits) -> None:
    settings = {"patience": 1, "labelled_per_batch": 20}
    model = GMMVAEClassifier(**SMALL, epochs=60, learning_rate=0.05, settings=settings)
    model.fit(*digits)
    assert model.n_iter_ == len(model.history_) < 60
    assert "val_accuracy" in model.history_
    best = model.history_["val_accuracy"].idxmax() + 1
    assert model._fitted.metrics["best_epoch"] == best < model.n_iter_


def test_verbose_speaks(blobs: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    GMMVAEClassifier(**QUICK, verbose=1).fit(*blobs)
    assert "epoch 2" in capsys.readouterr().out
    GMMVAEClassifier(**QUICK).fit(*blobs)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "estimator", [GMMVAEClassifier, GMMVAECluster, GMMVAEImputer, GMMVAETransformer]
)
def test_the_examples_hold(estimator: type) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    examples = finder.find(estimator, globs={})
    results = [doctest.DocTestRunner().run(one) for one in examples]
    assert sum(result.attempted for result in results) > 4
    assert not any(result.failed for result in results)
