"""Pictures of test rows: classification, reliability, latent space, reconstructions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.patches import Ellipse

from pyro_gmmvae.evaluation import accuracy, wilson_interval
from pyro_gmmvae.figures import NotApplicable, RunView
from pyro_gmmvae.figures.cell_sheet import Sheet
from pyro_gmmvae.figures.classification import draw_confusion, draw_reliability
from pyro_gmmvae.figures.latent_scatter import draw_latent
from pyro_gmmvae.figures.nearest_rows import draw_nearest
from pyro_gmmvae.figures.reconstructions import draw_reconstructions, reconstruct
from pyro_gmmvae.runs import Run, default_config, train
from tests.figures.texts import texts

TINY: dict[str, Any] = {"epochs": 1, "hidden": "8", "latent_dim": 2, "engine": "svi"}


@pytest.fixture(scope="module")
def digits(trained: Path) -> RunView:
    return RunView(Run.load(trained))


@pytest.fixture(scope="module")
def clusters(clustered: Run) -> RunView:
    return RunView(clustered)


@pytest.fixture(scope="module", params=["m2", "vae", "ae", "gmmvae-factors", "full"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunView:
    of_model = {"covariance": "full"} if request.param == "full" else {"model": request.param}
    folder = tmp_path_factory.mktemp(request.param) / "run"
    return RunView(train(default_config("digits", TINY | of_model), folder))


def test_the_title_has_the_accuracy_of_evaluate(digits: RunView) -> None:
    share = accuracy(digits.log_probs, digits.y)
    assert share is not None
    low, high = wilson_interval(share, len(digits.y))
    wanted = f"accuracy {share:.3f}, 95 % Wilson interval {low:.3f} to {high:.3f}"
    figure = draw_confusion(digits)
    assert any(text.endswith(wanted) for text in texts(figure))
    diagonal = np.trace(figure.axes[0].images[0].get_array())
    assert diagonal == pytest.approx(
        sum((digits.log_probs.argmax(1) == digits.y)[digits.y == k].mean() for k in range(10))
    )


def test_components_are_in_the_order_of_their_classes(clusters: RunView) -> None:
    figure = draw_confusion(clusters)
    axes = figure.axes[0]
    frames = sorted(patch.get_xy() for patch in axes.patches)
    assert frames == [(k - 0.5, k - 0.5) for k in range(3)]
    numbers = clusters.run.evaluate(samples=2)
    wanted = f"accuracy {numbers['cluster_accuracy']:.3f}, "
    assert any(wanted in text for text in texts(figure))


def test_reliability_needs_labels(digits: RunView, clusters: RunView) -> None:
    numbers = digits.run.evaluate(samples=2)
    found = texts(draw_reliability(digits))
    assert any(f"error {numbers['ece']:.4f}" in text for text in found)
    with pytest.raises(NotApplicable, match="the fit saw no labels"):
        draw_reliability(clusters)


def test_components_are_ellipses_of_their_covariances(tiny: RunView) -> None:
    figure = draw_latent(tiny)
    ellipses = [p for p in figure.axes[0].patches if isinstance(p, Ellipse)]
    model = tiny.model
    if tiny.run.config.model == "ae":
        assert not ellipses
        return
    mixture = model.mixture_priors.get("")
    if mixture is None:
        assert [e.width for e in ellipses] == pytest.approx([2, 4])
        assert "p(z) at 1 and 2" in figure.axes[0].get_title("left")
        return
    assert len(ellipses) == 20
    with torch.no_grad():
        product = mixture(torch.eye(10))
    for k in range(10):
        inner = ellipses[2 * k]
        assert inner.center == pytest.approx(product.mean[k].tolist(), abs=1e-5)
        area = np.pi * inner.width * inner.height / 4
        exact = np.pi * float(torch.linalg.det(product.covariance_matrix[k])) ** 0.5
        assert area == pytest.approx(exact, rel=1e-4)


def test_models_without_classes_are_skipped_with_a_reason(tiny: RunView) -> None:
    if tiny.model.components:
        texts(draw_confusion(tiny))
        return
    for draw in (draw_confusion, draw_reliability):
        with pytest.raises(NotApplicable, match="has no classes"):
            draw(tiny)


def test_reconstructions_are_decoded_row_by_row(tiny: RunView) -> None:
    x = tiny.x[:7]
    made = reconstruct(tiny.run, x)
    assert made.shape == tuple(x.shape)
    with torch.no_grad():
        alone = reconstruct(tiny.run, x[3:4])
    assert np.allclose(made[3], alone[0], atol=1e-5)
    assert np.isfinite(made).all()
    assert draw_reconstructions(tiny).axes


def test_the_worst_rows_come_first(digits: RunView) -> None:
    figure = draw_reconstructions(digits)
    found = [text.split("\n") for text in texts(figure) if text.startswith("row ") and "\n" in text]
    elbo = [float(number) for _, number in found]
    # a bound is of random draws, and these are from the same seed
    whole = np.sort(digits.run.elbo(digits.x))
    assert np.allclose(elbo[:6], whole[:6], atol=0.06)
    assert np.allclose(elbo[-6:], whole[::-1][:6], atol=0.06)


def test_draws_that_copy_stand_at_distance_zero(
    digits: RunView, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = digits.rows.tensors(digits.rows.split.train)
    monkeypatch.setattr(digits.model, "generate", lambda n, k, **_: x[y == k][:n])
    placed: list[tuple[Any, Any]] = []
    draw = Sheet.draw

    def recorded(sheet: Sheet, rows: Any, corners: Any) -> Any:
        placed.append((rows, corners))
        return draw(sheet, rows, corners)

    monkeypatch.setattr(Sheet, "draw", recorded)
    figure = draw_nearest(digits)
    ((drawn, _),) = placed
    real, draws, nearest = np.split(drawn, 3)
    assert (draws == nearest).all()
    assert not (real == draws).all((1, 2, 3)).any()
    captions = np.reshape([text.get_text() for text in figure.axes[0].texts], (10, 15))
    assert (captions[:, :5].astype(float) > 0.1).all()
    assert (captions[:, 5::2].astype(float) < 1e-3).all()
    assert (captions[:, 6::2] == "").all()


def test_clusters_keep_the_colors_of_true_classes(clusters: RunView) -> None:
    found = texts(draw_latent(clusters))
    assert {"ann", "bob", "cy"} <= set(found)
    assert any(text.startswith("component_") for text in found)


def test_a_table_is_drawn_as_profiles(clusters: RunView) -> None:
    assert any("each feature's range" in text for text in texts(draw_reconstructions(clusters)))


def test_no_known_class_leaves_components(clusters: RunView) -> None:
    view = RunView(clusters.run)
    object.__setattr__(view, "_part", (clusters.x, torch.full((len(clusters.x),), -1)))
    assert any("most probable component" in text for text in texts(draw_latent(view)))
    with pytest.raises(NotApplicable, match="no test row has a known class"):
        draw_confusion(view)
