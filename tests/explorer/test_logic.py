"""The explorer's arithmetic and its checks of files, without a page."""

import asyncio
import gzip
import io
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from tornado.httputil import HTTPHeaders

from pyro_gmmvae.data import Transform
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.explorer import explore, simplex, upload
from pyro_gmmvae.explorer.guard import Guard
from pyro_gmmvae.explorer.newest import Newest
from pyro_gmmvae.explorer.pictures import Images, Poses, Profiles, pictures_of
from pyro_gmmvae.explorer.plane import ellipse, nearest, plane_of
from pyro_gmmvae.explorer.space import Position, Space
from pyro_gmmvae.explorer.view import View, load_view
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.schema import Schema
from pyro_gmmvae.skeletons import SkeletonFeatures
from pyro_gmmvae.skeletons.layouts import COCO_18


def test_a_moved_weight_renormalizes_the_others() -> None:
    moved = simplex.with_weight(np.array([0.2, 0.3, 0.5]), 0, 0.6)
    np.testing.assert_allclose(moved, [0.6, 0.15, 0.25])
    np.testing.assert_allclose(simplex.with_weight(simplex.vertex(1, 3), 1, 0.5), [0.25, 0.5, 0.25])
    np.testing.assert_allclose(simplex.with_weight(simplex.uniform(4), 3, 1.0), [0, 0, 0, 1])
    np.testing.assert_allclose(simplex.with_weight(np.ones(1), 0, 0.2), [1])
    for value in (-3.0, 7.0, float("nan")):
        weights = simplex.with_weight(simplex.uniform(3), 1, value)
        assert weights.min() >= 0
        assert weights.sum() == pytest.approx(1)


def test_plane_and_back() -> None:
    z = np.random.default_rng(0).normal(size=(50, 6)) * [5, 3, 1, 0.1, 0.1, 0.1] + 2
    plane = plane_of(z)
    points = plane.project(z)
    np.testing.assert_allclose(plane.project(plane.lift(points)), points)
    assert plane.share is not None
    # the plane of most variance: what it leaves out is what the other directions have
    left = np.square(z - plane.lift(points)).sum() / np.square(z - z.mean(0)).sum()
    assert left == pytest.approx(1 - plane.share)
    assert plane.share > 0.9


@pytest.mark.parametrize("d", [1, 2])
def test_a_small_z_is_its_own_plane(d: int) -> None:
    z = np.random.default_rng(0).normal(size=(9, d))
    plane = plane_of(z)
    np.testing.assert_allclose(plane.project(z)[:, :d], z)
    np.testing.assert_allclose(plane.lift(plane.project(z)), z)
    assert plane.share is None


def test_a_single_row_has_a_plane() -> None:
    plane = plane_of(np.ones((1, 5)))
    assert np.isfinite(plane.lift(np.array([1.0, 1.0]))).all()


def test_ellipse_is_one_standard_deviation_away() -> None:
    covariance, center = np.array([[2.0, 0.8], [0.8, 1.0]]), np.array([1.0, -1.0])
    away = ellipse(center, covariance) - center
    np.testing.assert_allclose((away @ np.linalg.inv(covariance) * away).sum(1), 1)
    assert np.isfinite(ellipse(center, np.zeros((2, 2)))).all()


def test_nearest_first() -> None:
    points = np.array([[0.0, 0.0], [3.0, 0.0], [1.0, 1.0], [0.5, 0.0]])
    assert nearest(points, np.array([0.6, 0.0]), 3).tolist() == [3, 0, 2]


@pytest.fixture(scope="module")
def view(trained: Path) -> View:
    return load_view(Run.load(trained, device="cpu"))


def test_sliders_speak_of_the_prior(view: View) -> None:
    space = view.space
    start = space.start()
    place = space.work_out(start)
    s = torch.eye(10)[:1]
    loc, scale = view.run.model.z_prior(s)
    np.testing.assert_allclose(place.z, loc[0].detach(), rtol=1e-5)
    moved = space.work_out(space.moved(start, 2, 1.5))
    expected = loc[0].detach().numpy() + 1.5 * scale[0].detach().numpy() * np.eye(4)[2]
    np.testing.assert_allclose(moved.z, expected, rtol=1e-5)
    np.testing.assert_allclose(moved.along, [0, 0, 1.5, 0], atol=1e-6)
    with torch.no_grad():
        decoded = view.run.model.decode(torch.from_numpy(moved.z[None]).float(), s)
    np.testing.assert_allclose(moved.row, decoded[0], rtol=1e-4, atol=1e-6)
    back = space.at(moved.z, start.weights)
    np.testing.assert_allclose(back.offset, [0, 0, 1.5, 0], atol=1e-6)


def test_another_class_keeps_the_offset(view: View) -> None:
    space = view.space
    offset = np.array([1.0, -1.0, 0.5, 0.0])
    for weights in (simplex.vertex(3, 10), simplex.uniform(10)):
        place = space.work_out(Position(weights, offset))
        loc, covariance = space.prior(weights)
        np.testing.assert_allclose(place.along, offset, atol=1e-6)
        np.testing.assert_allclose(place.z, loc + offset * np.sqrt(np.diag(covariance)))


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_directions_count_in_the_prior_s_own_units(covariance: str) -> None:
    config = {"latent_dim": 14, "hidden": "8", "epochs": 1, "covariance": covariance}
    from pyro_gmmvae.runs.build import build_model
    from pyro_gmmvae.runs.data import load_rows

    settings = default_config("digits", config)
    rows = load_rows(settings)
    model = build_model(settings, rows.schema).eval()
    with torch.no_grad():
        for parameter in model.mixture.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    run = Run(Path(), settings, rows.schema, model, torch.device("cpu"), "last")
    space = Space(run, np.random.default_rng(0).normal(size=(40, 14)))
    assert space.names[0].startswith("PC 1")
    weights = simplex.vertex(4, 10)
    position = space.moved(Position(weights, np.zeros(14)), 1, 2.0)
    place = space.work_out(position)
    np.testing.assert_allclose(place.along, np.eye(8)[1] * 2, atol=1e-5)
    # draws from p(z|s) have unit variance along each direction
    drawn = model.mixture(torch.tensor(weights[None]).float()).rsample((4000,))[:, 0]
    step = (place.z - space.prior(weights)[0]) / 2
    along = drawn.detach().numpy() @ step / (step @ step)
    assert along.std() == pytest.approx(1, abs=0.05)


def test_the_view_knows_its_rows(view: View) -> None:
    points = view.points
    assert len(points.numbers) == len(view.rows.dataset.x) == 1797
    truth = np.array(points.truth)
    assert set(truth) == set("0123456789")
    assert (truth == np.array(points.predicted)).mean() > 0.7
    np.testing.assert_allclose(points.weights.sum(1), 1, rtol=1e-5)
    assert [e.name for e in view.ellipses] == list("0123456789")
    np.testing.assert_allclose(view.part(np.array([5])).max(), 1)


@pytest.mark.parametrize(
    ("model", "sizes"), [("vae", {}), ("ae", {}), ("m1", {}), ("m2", {"": 10})]
)
def test_models_with_less_show_what_they_have(
    model: str, sizes: dict[str, int], tmp_path: Path
) -> None:
    config = {"model": model, "latent_dim": 3, "hidden": "8", "epochs": 1, "engine": "svi"}
    view = load_view(train(default_config("digits", config), tmp_path / "run"))
    assert view.space.sizes == sizes
    place = view.space.work_out(view.space.moved(view.space.start(), 0, 1.0))
    assert place.row.shape == (1, 8, 8)
    assert place.along == pytest.approx([1, 0, 0], abs=1e-6) or model == "ae"
    assert len(view.ellipses) == (0 if model == "ae" else 1)


def test_the_height_of_a_strip_means_nothing(tmp_path: Path) -> None:
    config = {"model": "ae", "latent_dim": 1, "hidden": "8", "epochs": 1, "engine": "svi"}
    view = load_view(train(default_config("digits", config), tmp_path / "run"))
    assert np.ptp(view.points.at[:, 1]) > 0.5
    x = view.points.at[:, 0]
    found = view.near(np.array([x[3], 0.0]), 4)
    assert sorted(np.abs(x - x[3]))[3] == pytest.approx(np.abs(x[found] - x[3]).max())


def test_data_that_moved_is_asked_for(clustered: Run, tmp_path: Path) -> None:
    lost = Run(**vars(clustered))
    lost.config = clustered.config.replace(data=str(tmp_path / "gone.csv"))
    with pytest.raises(GMMVAEError, match=r"does not exist.*--data"):
        load_view(lost)
    assert load_view(lost, clustered.config.data).points.truth[:3] == ("ann", "bob", "cy")


def schema(shape: tuple[int, ...], likelihood: str, **others: object) -> Schema:
    transform = Transform(np.zeros(()), np.full((), 2.0))
    return Schema(shape, (), None, likelihood, transform, "", **others)  # type: ignore[arg-type]


def test_pictures_of_each_kind() -> None:
    rows = np.random.default_rng(0).random((4, 3, 5, 6))
    colors = pictures_of(schema((3, 5, 6), "bernoulli"), rows)
    assert isinstance(colors, Images)
    assert colors(np.ones((1, 3, 5, 6))).tolist() == [[[0xFFFFFFFF] * 6] * 5]
    assert colors(np.zeros((1, 3, 5, 6)))[0, 0, 0] == 0xFF000000
    gray = pictures_of(schema((1, 5, 6), "bernoulli"), rows[:, :1])
    np.testing.assert_allclose(gray(rows[:, :1]), rows[:, 0], rtol=1e-6)
    two = pictures_of(schema((2, 5, 6), "bernoulli"), rows[:, :2])
    assert two(rows[:, :2]).shape == (4, 5, 12)
    series = pictures_of(schema((5, 6), "normal"), rows[:, 0])
    assert series(rows[:, 0]).shape == (4, 6, 5)
    flat = pictures_of(schema((30,), "normal"), rows[:, 0].reshape(4, 30))
    assert isinstance(flat, Profiles)
    np.testing.assert_allclose(flat.in_file_units(np.ones((1, 30))), 2)


def test_poses_keep_frames_and_leave_out_missing_joints() -> None:
    features = SkeletonFeatures(COCO_18, ("joints",), ())
    rows = np.random.default_rng(0).random((3, 7, 18, 2)).astype(np.float32)
    rows[:, 2, COCO_18.edges[0][0]] = np.nan
    poses = pictures_of(schema((7, 18, 2), "normal", features=features, dimensions=2), rows)
    assert isinstance(poses, Poses)
    x, _ = poses.lines(poses(rows)[0])
    assert x.shape == (7, len(COCO_18.edges), 2)
    assert np.isnan(x[2, 0]).all()
    assert np.isfinite(x[3]).all()


def test_only_the_newest_request_is_worked_out() -> None:
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
            newest: Newest[int, int] = Newest(pool, work, shown.append, failed.append)
            newest.ask(0)
            while not begun.is_set():
                await asyncio.sleep(0.001)
            for request in (1, 2, 3):
                newest.ask(request)
            go.set()
            end = time.monotonic() + 5
            while not failed and time.monotonic() < end:
                await asyncio.sleep(0.001)
            newest.ask(4)
            while 4 not in shown and time.monotonic() < end:
                await asyncio.sleep(0.001)

    asyncio.run(ask())
    assert worked == [0, 3, 4]
    assert shown == [0, 4]
    assert [str(error) for error in failed] == ["three"]


def saved(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npy(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x, allow_pickle=True)
    return file.getvalue()


def idx(x: np.ndarray) -> bytes:
    head = (0x803).to_bytes(4, "big") + b"".join(n.to_bytes(4, "big") for n in x.shape)
    return head + x.astype(np.uint8).tobytes()


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy(np.zeros((5000, 64))))
    return file.getvalue()


X = load_digits().data
HOSTILE = {
    "empty": ("rows.npz", b""),
    "pickle.npy": ("pickle.npy", npy(np.array([{"a": 1}], object))),
    "pickle.npz": ("pickle.npz", saved(x=np.array([print], object))),
    "no numpy": ("rows.npy", b"\x80\x04cos\nsystem\n"),
    "no zip": ("rows.npz", b"PK\x03\x04 nothing more"),
    "bomb": ("rows.npz", bomb()),
    "gzip bomb": ("t10k-images-idx3-ubyte.gz", gzip.compress(bytes(3_000_000))),
    "cut gzip": ("images-idx3-ubyte.gz", gzip.compress(idx(np.zeros((9, 8, 8))))[:-12]),
    "cut": ("rows.npz", saved(x=X)[:3000]),
    "lies": ("rows.npy", npy(np.zeros((3, 64))).replace(b"(3, 64), }  ", b"(3000, 64), }")[:700]),
    "binary csv": ("rows.csv", b"a,b\n1,\0\n"),
    "latin csv": ("rows.csv", "a,b\né,1\n".encode("latin-1")),
    "NaN": ("rows.csv", b"a,b\n1,\n"),
    "wide": ("rows.csv", b"a" + b",a" * 200_000 + b"\n"),
    "shape": ("rows.npy", npy(np.zeros((3, 5)))),
    "range": ("rows.npy", npy(np.full((3, 64), 300.0))),
    "kind": ("../../<b>etc</b>/passwd\n.exe", b"MZ"),
    "no x": ("rows.npz", saved(a=X)),
    "large": ("rows.csv", b"1" * (upload.MOST_BYTES + 1)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_one_sentence(
    name: str, view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(upload, "MOST_UNPACKED", 2_000_000)
    with pytest.raises(GMMVAEError) as caught:
        upload.classify(view.run, *HOSTILE[name])
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert "/" not in str(caught.value).split(" ")[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["npz", "npy", "csv", "idx3-ubyte.gz", "idx3-ubyte"])
def test_files_are_classified_and_forgotten(
    kind: str, view: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload.tempfile, "tempdir", str(tmp_path))
    x = X[:40]
    header = ",".join(f"c{n}" for n in range(64))
    content = {
        "npz": lambda: saved(x=x),
        "npy": lambda: npy(x),
        "csv": lambda: "\n".join([header, *(",".join(map(str, row)) for row in x)]).encode(),
        "idx3-ubyte.gz": lambda: gzip.compress(idx(x.reshape(-1, 8, 8))),
        "idx3-ubyte": lambda: idx(x.reshape(-1, 8, 8)),
    }[kind]()
    found = upload.classify(view.run, f"C:\\mine\\digits.{kind}", content)
    assert not list(tmp_path.iterdir())
    file = tmp_path / "same.npz"
    np.savez(file, x=x)
    assert found.table["label"].tolist() == view.run.predict(file)["label"].tolist()
    assert found.z is not None
    np.testing.assert_allclose(view.plane.project(found.z), view.points.at[:40], atol=1e-4)


def test_of_many_rows_the_first_are_classified(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "MOST_ROWS", 7)
    found = upload.classify(view.run, "rows.npy", npy(X[:30]))
    assert (len(found.table), found.total) == (7, 30)


def test_a_failing_reader_is_one_sentence(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("from the depths")

    monkeypatch.setattr(upload, "load_array", broken)
    with pytest.raises(GMMVAEError, match=r"rows\.npy can't be read"):
        upload.classify(view.run, "rows.npy", npy(X[:3]))


ALLOWED = [
    ("GET", "/", {"Host": "127.0.0.1:5006"}),
    ("GET", "/", {"Host": "LOCALHOST:5006", "Sec-Fetch-Dest": "document"}),
    ("GET", "/", {"Host": "127.0.0.1:5006", "Sec-Fetch-Site": "cross-site"}),
    ("GET", "/ws", {"Host": "[::1]:5006", "Origin": "http://[::1]:5006"}),
    ("GET", "/static/js/bokeh.min.js", {"Host": "127.0.0.1:5006", "Sec-Fetch-Site": "same-origin"}),
]
REFUSED = [
    ("GET", "/", {"Host": "evil.example"}),
    ("GET", "/", {"Host": "evil.example:5006"}),
    ("GET", "/", {"Host": "127.0.0.1:5007"}),
    ("GET", "/", {"Host": "127.0.0.1.evil.example:5006"}),
    ("GET", "/", {}),
    ("GET", "/static/js/bokeh.min.js", {"Host": "evil.example"}),
    ("GET", "/", {"Host": "127.0.0.1:5006", "Sec-Fetch-Dest": "iframe"}),
    ("GET", "/", {"Host": "127.0.0.1:5006", "Sec-Fetch-Dest": "script"}),
    ("GET", "/", {"Host": "127.0.0.1:5006", "Origin": "http://evil.example"}),
    ("GET", "/ws", {"Host": "127.0.0.1:5006", "Origin": "http://evil.example"}),
    ("GET", "/ws", {"Host": "127.0.0.1:5006", "Origin": "null"}),
    ("GET", "/ws", {"Host": "127.0.0.1:5006", "Origin": "https://127.0.0.1:5006"}),
    ("GET", "/autoload.js", {"Host": "127.0.0.1:5006"}),
    ("GET", "/?bokeh-session-id=mine", {"Host": "127.0.0.1:5006"}),
    ("GET", "/metadata", {"Host": "127.0.0.1:5006"}),
    ("POST", "/", {"Host": "127.0.0.1:5006"}),
    ("GET", "/static/js/bokeh.min.js", {"Host": "127.0.0.1:5006", "Sec-Fetch-Site": "cross-site"}),
]


def test_the_guard_knows_who_asks() -> None:
    guard = Guard(5006)
    for method, path, headers in ALLOWED:
        assert guard.refusal(method, path, HTTPHeaders(headers)) is None, (path, headers)
    for method, path, headers in REFUSED:
        assert guard.refusal(method, path, HTTPHeaders(headers)), (path, headers)


def test_without_bokeh_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for module in [m for m in sys.modules if m.startswith("pyro_gmmvae.explorer.server")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    monkeypatch.setitem(sys.modules, "bokeh.resources", None)
    with pytest.raises(GMMVAEError, match=r"pip install 'pyro-gmmvae\[explore\]'"):
        explore("nowhere")
