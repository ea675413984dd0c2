"""The explorer without a page: latent space, view, pictures, worker and host check."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tornado.httputil import HTTPHeaders

from pyro_gmmvae.data import Image, RowKind, Table, Transform
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.explorer import explore
from pyro_gmmvae.explorer.drawing import ImagePlot, ProfilePlot, SkeletonPlot, row_plot
from pyro_gmmvae.explorer.page import LatestOnly
from pyro_gmmvae.explorer.server import HostCheck
from pyro_gmmvae.explorer.space import (
    LatentPoint,
    LatentSpace,
    ellipse,
    fit_projection,
    nearest,
    with_weight,
)
from pyro_gmmvae.explorer.view import ExplorerView, load_view
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.schema import Schema
from pyro_gmmvae.skeletons import PoseWindow
from pyro_gmmvae.skeletons.layouts import COCO_18


def test_setting_a_weight_renormalizes_the_others() -> None:
    changed = with_weight(np.array([0.2, 0.3, 0.5]), 0, 0.6)
    np.testing.assert_allclose(changed, [0.6, 0.15, 0.25])
    np.testing.assert_allclose(with_weight(np.eye(3)[1], 1, 0.5), [0.25, 0.5, 0.25])
    np.testing.assert_allclose(with_weight(np.full(4, 0.25), 3, 1.0), [0, 0, 0, 1])
    np.testing.assert_allclose(with_weight(np.ones(1), 0, 0.2), [1])
    for value in (-3.0, 7.0, float("nan")):
        weights = with_weight(np.full(3, 1 / 3), 1, value)
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1)


def test_projection_and_its_inverse() -> None:
    z = np.random.default_rng(0).normal(size=(50, 6)) * [5, 3, 1, 0.1, 0.1, 0.1] + 2
    plane = fit_projection(z)
    points = plane.transform(z)
    np.testing.assert_allclose(plane.transform(plane.inverse_transform(points)), points)
    assert plane.share is not None
    # the residual is the variance of the other directions
    left = np.square(z - plane.inverse_transform(points)).sum() / np.square(z - z.mean(0)).sum()
    assert left == pytest.approx(1 - plane.share)
    assert plane.share > 0.9


@pytest.mark.parametrize("d", [1, 2])
def test_a_z_of_at_most_two_entries_is_not_projected(d: int) -> None:
    z = np.random.default_rng(0).normal(size=(9, d))
    plane = fit_projection(z)
    np.testing.assert_allclose(plane.transform(z)[:, :d], z)
    np.testing.assert_allclose(plane.inverse_transform(plane.transform(z)), z)
    assert plane.share is None


@pytest.mark.parametrize("rows", [1, 4])
def test_rows_without_variance_have_a_projection(rows: int) -> None:
    plane = fit_projection(np.ones((rows, 5)))
    assert np.isfinite(plane.inverse_transform(np.array([1.0, 1.0]))).all()
    assert plane.share == 0


def test_ellipse_is_one_standard_deviation_away() -> None:
    covariance, center = np.array([[2.0, 0.8], [0.8, 1.0]]), np.array([1.0, -1.0])
    away = ellipse(center, covariance) - center
    np.testing.assert_allclose((away @ np.linalg.inv(covariance) * away).sum(1), 1)
    assert np.isfinite(ellipse(center, np.zeros((2, 2)))).all()


def test_nearest_first() -> None:
    points = np.array([[0.0, 0.0], [3.0, 0.0], [1.0, 1.0], [0.5, 0.0]])
    assert nearest(points, np.array([0.6, 0.0]), 3).tolist() == [3, 0, 2]


@pytest.fixture(scope="module")
def view(trained: Path) -> ExplorerView:
    return load_view(Run.load(trained, device="cpu"))


def test_sliders_are_relative_to_the_prior(view: ExplorerView) -> None:
    space = view.space
    start = space.start()
    decoded = space.decode(start)
    s = torch.eye(10)[:1]
    prior = view.run.model.prior_of_z(s)
    loc, scale = prior.mean, prior.stddev
    np.testing.assert_allclose(decoded.z, loc[0].detach(), rtol=1e-5)
    shifted = space.decode(space.shifted(start, 2, 1.5))
    expected = loc[0].detach().numpy() + 1.5 * scale[0].detach().numpy() * np.eye(4)[2]
    np.testing.assert_allclose(shifted.z, expected, rtol=1e-5)
    np.testing.assert_allclose(shifted.along, [0, 0, 1.5, 0], atol=1e-6)
    with torch.no_grad():
        row = view.run.model.decode(torch.from_numpy(shifted.z[None]).float(), s)[0]
    np.testing.assert_allclose(shifted.row, row, rtol=1e-4, atol=1e-6)
    back = space.at(shifted.z, start.weights)
    np.testing.assert_allclose(back.offset, [0, 0, 1.5, 0], atol=1e-6)


def test_another_class_keeps_the_offset(view: ExplorerView) -> None:
    space = view.space
    offset = np.array([1.0, -1.0, 0.5, 0.0])
    for weights in (np.eye(10)[3], np.full(10, 0.1)):
        decoded = space.decode(LatentPoint(weights, offset))
        loc, covariance = space.prior(weights)
        np.testing.assert_allclose(decoded.along, offset, atol=1e-6)
        np.testing.assert_allclose(decoded.z, loc + offset * np.sqrt(np.diag(covariance)))


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_directions_are_in_standard_deviations_of_the_prior(covariance: str) -> None:
    config = {"latent_dim": 14, "hidden": "8", "epochs": 1, "covariance": covariance}
    from pyro_gmmvae.runs.build import build_model
    from pyro_gmmvae.runs.data import TrainingData

    settings = default_config("digits", config)
    rows = TrainingData.from_config(settings)
    model = build_model(settings, rows.schema).eval()
    with torch.no_grad():
        for parameter in model.mixture.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    space = LatentSpace(model, np.random.default_rng(0).normal(size=(40, 14)))
    assert space.names[0].startswith("PC 1")
    weights = np.eye(10)[4]
    point = space.shifted(LatentPoint(weights, np.zeros(14)), 1, 2.0)
    decoded = space.decode(point)
    np.testing.assert_allclose(decoded.along, np.eye(8)[1] * 2, atol=1e-5)
    # draws from p(z|s) have unit variance along each direction
    drawn = model.mixture(torch.tensor(weights[None]).float()).rsample((4000,))[:, 0]
    step = (decoded.z - space.prior(weights)[0]) / 2
    along = drawn.detach().numpy() @ step / (step @ step)
    assert along.std() == pytest.approx(1, abs=0.05)


def test_the_view_labels_its_rows(view: ExplorerView) -> None:
    points = view.points
    assert len(points.numbers) == len(view.data.dataset.x) == 1797
    truth = np.array(points.truth)
    assert set(truth) == set("0123456789")
    assert (truth == np.array(points.predicted)).mean() > 0.7
    np.testing.assert_allclose(points.weights.sum(1), 1, rtol=1e-5)
    assert [component.name for component in view.components] == list("0123456789")
    np.testing.assert_allclose(view.rows_of(np.array([5])).max(), 1)


@pytest.mark.parametrize(
    ("model", "factors"), [("vae", {}), ("ae", {}), ("m1", {}), ("m2", {"": 10})]
)
def test_models_without_a_class_or_a_prior(
    model: str, factors: dict[str, int], tmp_path: Path
) -> None:
    config = {"model": model, "latent_dim": 3, "hidden": "8", "epochs": 1, "engine": "svi"}
    view = load_view(train(default_config("digits", config), tmp_path / "run"))
    assert view.space.factors == factors
    decoded = view.space.decode(view.space.shifted(view.space.start(), 0, 1.0))
    assert decoded.row.shape == (1, 8, 8)
    assert decoded.along == pytest.approx([1, 0, 0], abs=1e-6) or model == "ae"
    assert len(view.components) == (0 if model == "ae" else 1)


def test_nearest_points_of_a_strip_ignore_the_height(tmp_path: Path) -> None:
    config = {"model": "ae", "latent_dim": 1, "hidden": "8", "epochs": 1, "engine": "svi"}
    view = load_view(train(default_config("digits", config), tmp_path / "run"))
    assert np.ptp(view.points.at[:, 1]) > 0.5
    x = view.points.at[:, 0]
    nearest_four = view.nearest_points(np.array([x[3], 0.0]), 4)
    assert sorted(np.abs(x - x[3]))[3] == pytest.approx(np.abs(x[nearest_four] - x[3]).max())


def test_data_that_was_moved_is_given_with_an_option(clustered: Run, tmp_path: Path) -> None:
    lost = Run(**vars(clustered))
    lost.config = clustered.config.replace(data=str(tmp_path / "gone.csv"))
    with pytest.raises(GMMVAEError, match=r"does not exist.*--data"):
        load_view(lost)
    assert load_view(lost, clustered.config.data).points.truth[:3] == ("ann", "bob", "cy")


def schema(kind: RowKind) -> Schema:
    return Schema(kind, (), Transform(np.zeros(()), np.full((), 2.0)), "")


def test_plots_of_each_kind() -> None:
    rows = np.random.default_rng(0).random((4, 3, 5, 6))
    colors = row_plot(schema(Image((3, 5, 6), "bernoulli")), rows)
    assert isinstance(colors, ImagePlot)
    assert colors.cells(np.ones((1, 3, 5, 6))).tolist() == [[[0xFFFFFFFF] * 6] * 5]
    assert colors.cells(np.zeros((1, 3, 5, 6)))[0, 0, 0] == 0xFF000000
    gray = row_plot(schema(Image((1, 5, 6), "bernoulli")), rows[:, :1])
    np.testing.assert_allclose(gray.cells(rows[:, :1]), rows[:, 0], rtol=1e-6)
    two = row_plot(schema(Image((2, 5, 6), "bernoulli")), rows[:, :2])
    assert two.cells(rows[:, :2]).shape == (4, 5, 12)
    series = row_plot(schema(Table((5, 6))), rows[:, 0])
    assert series.cells(rows[:, 0]).shape == (4, 6, 5)
    flat = row_plot(schema(Table((30,))), rows[:, 0].reshape(4, 30))
    assert isinstance(flat, ProfilePlot)
    np.testing.assert_allclose(flat.in_file_units(np.ones((1, 30))), 2)
    for likelihood, unit in (
        ("normal", "s.d."),
        ("bernoulli", "in probability"),
        ("binomial(2)", "in share of the largest value"),
        ("continuous-bernoulli", "in share of the largest value"),
    ):
        profile = row_plot(schema(Table((30,), likelihood)), 0.1 * rows[:, 0].reshape(4, 30))
        assert unit in profile.help
        ends = (profile.model.y_range.start, profile.model.y_range.end)
        assert (ends == (0, 1)) == (likelihood != "normal")


def test_skeletons_keep_frames_and_leave_out_missing_joints() -> None:
    kind = PoseWindow(COCO_18, 7, 2, features=("joints",), statistics=())
    rows = np.random.default_rng(0).random((3, 7, 18, 2)).astype(np.float32)
    rows[:, 2, COCO_18.edges[0][0]] = np.nan
    plot = row_plot(schema(kind), rows)
    assert isinstance(plot, SkeletonPlot)
    x = plot.cells(rows)[0, ..., 0]
    assert x.shape == (7, len(COCO_18.edges), 2)
    assert np.isnan(x[2, 0]).all()
    assert np.isfinite(x[3]).all()


@pytest.mark.parametrize(
    "kind",
    [
        Image((1, 5, 6), "bernoulli"),
        Table((30,)),
        PoseWindow(COCO_18, 3, 2, features=("joints",), statistics=()),
    ],
)
def test_small_rows_stay_in_their_cells(kind: RowKind) -> None:
    rows = np.random.default_rng(0).random((3, *kind.x_shape))
    data = row_plot(schema(kind), rows).small_data(rows)
    if isinstance(kind, Image):
        lines = [[x, x + dw] for x, dw in zip(data["x"], data["dw"], strict=True)]
    else:
        lines = list(data["xs"])
    per_row = len(lines) // len(rows)
    for n, line in enumerate(lines):
        assert n // per_row <= min(line) <= max(line) <= n // per_row + 1


def test_only_the_latest_request_is_computed() -> None:
    begun, go = threading.Event(), threading.Event()
    worked: list[int] = []
    shown: list[int] = []
    failed: list[Exception] = []

    def work(request: int) -> int:
        worked.append(request)
        begun.set()
        go.wait(5)
        if request == 3:
            raise ValueError("three")
        return request

    async def ask() -> None:
        with ThreadPoolExecutor(1) as pool:
            worker: LatestOnly[int, int] = LatestOnly(pool, work, shown.append, failed.append)
            worker.submit(0)
            while not begun.is_set():
                await asyncio.sleep(0.001)
            for request in (1, 2, 3):
                worker.submit(request)
            go.set()
            end = time.monotonic() + 5
            while not failed and time.monotonic() < end:
                await asyncio.sleep(0.001)
            worker.submit(4)
            while 4 not in shown and time.monotonic() < end:
                await asyncio.sleep(0.001)

    asyncio.run(ask())
    assert worked == [0, 3, 4]
    assert shown == [0, 4]
    assert [str(error) for error in failed] == ["three"]


PAGE = "/?token=secret"
ALLOWED = [
    ("GET", PAGE, {"Host": "127.0.0.1:5006"}),
    ("GET", PAGE, {"Host": "LOCALHOST:5006", "Sec-Fetch-Dest": "document"}),
    ("GET", PAGE, {"Host": "127.0.0.1:5006", "Sec-Fetch-Site": "cross-site"}),
    ("GET", "/ws", {"Host": "[::1]:5006", "Origin": "http://[::1]:5006"}),
    ("GET", "/static/js/bokeh.min.js", {"Host": "127.0.0.1:5006", "Sec-Fetch-Site": "same-origin"}),
]
REFUSED = [
    ("GET", "/", {"Host": "127.0.0.1:5006"}),
    ("GET", "/?token=", {"Host": "127.0.0.1:5006"}),
    ("GET", "/?token=secre", {"Host": "127.0.0.1:5006"}),
    ("GET", "/?token=%ff", {"Host": "127.0.0.1:5006"}),
    ("GET", PAGE, {"Host": "evil.example"}),
    ("GET", PAGE, {"Host": "evil.example:5006"}),
    ("GET", PAGE, {"Host": "127.0.0.1:5007"}),
    ("GET", PAGE, {"Host": "127.0.0.1.evil.example:5006"}),
    ("GET", PAGE, {}),
    ("GET", "/static/js/bokeh.min.js", {"Host": "evil.example"}),
    ("GET", PAGE, {"Host": "127.0.0.1:5006", "Sec-Fetch-Dest": "iframe"}),
    ("GET", PAGE, {"Host": "127.0.0.1:5006", "Sec-Fetch-Dest": "script"}),
    ("GET", PAGE, {"Host": "127.0.0.1:5006", "Origin": "http://evil.example"}),
    ("GET", "/ws", {"Host": "127.0.0.1:5006", "Origin": "http://evil.example"}),
    ("GET", "/ws", {"Host": "127.0.0.1:5006", "Origin": "null"}),
    ("GET", "/ws", {"Host": "127.0.0.1:5006", "Origin": "https://127.0.0.1:5006"}),
    ("GET", "/autoload.js", {"Host": "127.0.0.1:5006"}),
    ("GET", f"{PAGE}&bokeh-session-id=mine", {"Host": "127.0.0.1:5006"}),
    ("GET", "/metadata", {"Host": "127.0.0.1:5006"}),
    ("POST", PAGE, {"Host": "127.0.0.1:5006"}),
    ("GET", "/static/js/bokeh.min.js", {"Host": "127.0.0.1:5006", "Sec-Fetch-Site": "cross-site"}),
]


def test_foreign_requests_are_refused() -> None:
    check = HostCheck(5006, "secret")
    for method, path, headers in ALLOWED:
        assert check.refusal(method, path, HTTPHeaders(headers)) is None, (path, headers)
    for method, path, headers in REFUSED:
        assert check.refusal(method, path, HTTPHeaders(headers)), (path, headers)


def test_without_bokeh_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for module in [m for m in sys.modules if m.startswith("pyro_gmmvae.explorer.server")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    monkeypatch.setitem(sys.modules, "bokeh.resources", None)
    with pytest.raises(GMMVAEError, match=r"pip install 'pyro-gmmvae\[explore\]'"):
        explore("nowhere")
