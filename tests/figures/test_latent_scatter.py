"""Rows and ellipses in the plane, against known covariances."""

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import Ellipse

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures.latent_scatter import (
    Gaussians,
    color_of,
    latent_scatter,
    marker_of,
    project,
)
from tests.figures.texts import HOSTILE, texts


def made(d: int, K: int = 3, rows: int = 200) -> tuple[Any, Any, Gaussians]:
    """Rows of K groups in d dimensions, and their Gaussians."""
    generator = np.random.default_rng(0)
    loc = generator.normal(size=(K, d)) * 5
    factor = generator.normal(size=(K, d, d))
    covariance = factor @ factor.transpose(0, 2, 1) + 0.1 * np.eye(d)
    y = np.arange(rows) % K
    z = loc[y] + generator.normal(size=(rows, d))
    return z, y, Gaussians([f"class {k}" for k in range(K)], loc, covariance, np.arange(K))


def ellipses(figure: Any) -> list[Ellipse]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Ellipse)]


def outline(ellipse: Ellipse) -> np.ndarray[Any, Any]:
    """Points of an ellipse in the data's units."""
    return ellipse.get_patch_transform().transform(ellipse.get_path().vertices)


def test_an_ellipse_is_all_points_at_its_mahalanobis_distance() -> None:
    covariance = np.array([[[2.0, 0.9], [0.9, 0.5]]])
    loc = np.array([[1.0, -2.0]])
    z = np.random.default_rng(0).normal(size=(50, 2))
    figure = latent_scatter(
        z, np.zeros(50, int), ["a"], Gaussians(["a"], loc, covariance, np.array([0]))
    )
    inverse = np.linalg.inv(covariance[0])
    for ellipse, deviations in zip(ellipses(figure), (1, 2), strict=True):
        apart = outline(ellipse) - loc[0]
        distance = np.sqrt(np.einsum("ni,ij,nj->n", apart, inverse, apart))
        # matplotlib's circle is of Bezier curves, whose control points lie outside
        on_it = distance[::3]
        assert np.allclose(on_it, deviations, rtol=1e-3)


def test_projected_moments_are_those_of_projected_draws() -> None:
    generator = np.random.default_rng(0)
    _, _, gaussians = made(5, K=1)
    axes, origin = generator.normal(size=(2, 5)), generator.normal(size=5)
    loc, covariance = project(gaussians.loc, gaussians.covariance, axes, origin)
    draws = generator.multivariate_normal(gaussians.loc[0], gaussians.covariance[0], 200_000)
    flat = (draws - origin) @ axes.T
    assert np.allclose(flat.mean(0), loc[0], atol=0.1)
    assert np.allclose(np.cov(flat.T), covariance[0], rtol=0.05, atol=0.1)


def test_rows_and_means_are_under_one_map() -> None:
    """A row at a component's mean is drawn at the cross of that mean, whatever d is."""
    for d in (2, 3, 7):
        z, y, gaussians = made(d)
        z[:3] = gaussians.loc
        figure = latent_scatter(z, y, gaussians.names, gaussians)
        axis = figure.axes[0]
        crosses = np.array(axis.lines[0].get_xydata())
        for k in range(3):
            first = axis.collections[k].get_offsets()[0]
            assert np.allclose(first, crosses[k], atol=1e-6)


def test_the_first_axis_is_that_of_the_largest_spread() -> None:
    z = np.random.default_rng(0).normal(size=(300, 4)) * [1, 9, 3, 1]
    figure = latent_scatter(z, np.full(300, -1), [])
    axis = figure.axes[0]
    share = float(axis.get_xlabel().split("(")[1].split("%")[0]) / 100
    assert share == pytest.approx(81 / 92, abs=0.03)
    flat = axis.collections[0].get_offsets()
    assert abs(np.corrcoef(flat[:, 0], z[:, 1])[0, 1]) > 0.99


def test_the_title_names_what_is_drawn() -> None:
    z, y, gaussians = made(4)
    y[0] = -1
    found = texts(latent_scatter(z, y, gaussians.names, gaussians))
    title = next(text for text in found if "Posterior means" in text)
    assert "200 rows, colored by class" in title
    assert "p(z|s) at 1 and 2 standard deviations" in title
    assert found.count("class 1") == 2  # at its mean, and in the legend
    assert "not known" in found


def test_one_dimension_is_a_histogram() -> None:
    z, y, gaussians = made(1)
    figure = latent_scatter(z, y, gaussians.names, gaussians)
    counted = sum(patch.get_height() for patch in figure.axes[0].patches)
    assert counted > 0
    assert any("d = 1: 200 rows" in text for text in texts(figure))
    curve = figure.axes[0].lines[0]
    peak = curve.get_xdata()[np.argmax(curve.get_ydata())]
    assert peak == pytest.approx(gaussians.loc[0, 0], abs=0.2)


@pytest.mark.parametrize("classes", [2, 10, 27, 100])
def test_many_classes(classes: int) -> None:
    z, y, gaussians = made(3, K=classes, rows=5 * classes)
    figure = latent_scatter(z, y, gaussians.names, gaussians)
    assert all(points.get_rasterized() for points in figure.axes[0].collections)
    assert max(figure.get_size_inches()) < 10
    assert len(ellipses(figure)) == classes * (2 if classes <= 30 else 1)
    assert ("names that would cover" in figure.axes[0].get_title("left")) == (classes > 30)


def test_colors_and_markers_distinguish_84_groups() -> None:
    assert len({(color_of(group), marker_of(group)) for group in range(84)}) == 84


def test_thousands_of_rows_are_thinned() -> None:
    figure = latent_scatter(np.zeros((9000, 2)), np.zeros(9000, int), ["a"])
    assert len(figure.axes[0].collections[0].get_offsets()) == 4000
    assert "4000 of 9000 rows" in figure.axes[0].get_title("left")


def test_rows_that_are_not_finite_are_counted() -> None:
    z, y, gaussians = made(3)
    z[5], z[6, 0] = np.nan, np.inf
    figure = latent_scatter(z, y, gaussians.names, gaussians)
    assert "198 of 200 rows (2 without finite z left out)" in figure.axes[0].get_title("left")


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_hardly_any_rows(d: int, rows: int) -> None:
    _, _, gaussians = made(d)
    texts(latent_scatter(np.zeros((rows, d)), np.zeros(rows, int), gaussians.names, gaussians))
    texts(latent_scatter(np.zeros((rows, d)), np.full(rows, -1), []))


def test_names_are_drawn_literally() -> None:
    z, y, _ = made(3, K=len(HOSTILE))
    found = texts(latent_scatter(z, y, HOSTILE))
    assert {"$x_1^2$", "_hidden", "a$b", "two lines"} <= set(found)


def test_an_unknown_projection() -> None:
    with pytest.raises(GMMVAEError, match="unknown projection 'umpa'; did you mean 'umap'"):
        latent_scatter(np.zeros((4, 3)), np.zeros(4, int), ["a"], projection="umpa")


def test_umap_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(GMMVAEError, match=r"--projection umap needs umap-learn: pip install"):
        latent_scatter(np.eye(5), np.zeros(5, int), ["a"], projection="umap")


def test_umap_has_crosses_and_no_ellipses(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stub, so that the package is not needed."""

    class Doubled:
        def __init__(self, **settings: object) -> None:
            assert settings["random_state"] == 0

        def fit_transform(self, z: Any) -> Any:
            return 2 * z[:, :2]

        transform = fit_transform

    module = ModuleType("umap")
    module.UMAP = Doubled  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", module)
    z, y, gaussians = made(4)
    figure = latent_scatter(z, y, gaussians.names, gaussians, projection="umap")
    assert not ellipses(figure)
    assert np.allclose(figure.axes[0].lines[0].get_xydata(), 2 * gaussians.loc[:, :2])
    assert "no ellipses" in figure.axes[0].get_title("left")


def test_the_real_umap_is_repeatable() -> None:
    pytest.importorskip("umap")
    z, y, gaussians = made(5, rows=60)
    first, second = (
        latent_scatter(z, y, gaussians.names, gaussians, projection="umap") for _ in range(2)
    )
    places = [f.axes[0].collections[0].get_offsets() for f in (first, second)]
    assert np.array_equal(*places)
