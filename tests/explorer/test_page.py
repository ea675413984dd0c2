"""The explorer in a browser: one server and one tab for all tests."""

import http.client
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pyro_gmmvae.cli import main

MODELS = "[...Bokeh.documents[0]._all_models.values()]"
PICTURE = f"() => Array.from({MODELS}.find((m) => m.name == 'decoded').data.image[0])"
WAIT = 15_000  # milliseconds, on a busy machine


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pyro_gmmvae", "explore", *map(str, arguments)]


@pytest.fixture(scope="module")
def address(trained: Path) -> Iterator[str]:
    """Where a server listens; it must end by itself on SIGINT, with nothing said."""
    server = subprocess.Popen(
        command(trained, "--port", 0, "--device", "cpu"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
        assert found is not None, server.communicate(timeout=10)[1]
        yield found[0]
        server.send_signal(signal.SIGINT)
        _, complaints = server.communicate(timeout=10)
        assert server.returncode == 0
        assert complaints == ""
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """Every address that the browser asked for."""
    return []


@pytest.fixture(scope="module")
def page(address: str, asked: list[str]) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("there is no Chromium here")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        wrong: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("websocket", lambda opened: asked.append(opened.url))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        tab.goto(address)
        tab.locator("[aria-label=z0]").wait_for(state="attached", timeout=2 * WAIT)
        yield tab
        browser.close()
    assert not wrong


def changed(page: Any, before: Any) -> list[float]:
    """The picture once it is another one."""
    page.wait_for_function(
        f"(before) => ({PICTURE})().some((value, n) => Math.abs(value - before[n]) > 1e-4)",
        arg=before,
        timeout=WAIT,
    )
    return list(page.evaluate(PICTURE))


def slider(page: Any, name: str) -> float:
    return float(page.evaluate(f"(name) => {MODELS}.find((m) => m.name == name).value", name))


def test_a_slider_of_z_moves_the_picture(page: Any) -> None:
    before = page.evaluate(PICTURE)
    page.locator("[aria-label=z0]").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    after = changed(page, before)
    assert len(after) == 64
    assert 0 <= min(after) <= max(after) <= 1
    page.get_by_text(re.compile(r"\+0\.50 s\.d\. = ")).wait_for(timeout=WAIT)


def test_class_weights_stay_on_the_simplex(page: Any) -> None:
    before = page.evaluate(PICTURE)
    page.locator('[aria-label="weight of class 3"]').focus()
    for _ in range(5):
        page.keyboard.press("PageUp")
    changed(page, before)
    names = [f"weight of class {k}" for k in range(10)]
    page.wait_for_function(
        f"(name) => {MODELS}.find((m) => m.name == name).value < 0.9", arg=names[0], timeout=WAIT
    )
    page.wait_for_timeout(200)
    weights = [slider(page, name) for name in names]
    assert weights[3] > 0
    assert weights[0] == pytest.approx(1 - weights[3], abs=0.02)
    assert sum(weights) == pytest.approx(1, abs=0.02)


def test_a_vertex_can_be_chosen(page: Any) -> None:
    before = page.evaluate(PICTURE)
    page.locator("select").first.select_option(label="7: 7")
    changed(page, before)
    page.wait_for_function(
        f"() => {MODELS}.find((m) => m.name == 'weight of class 7').value == 1", timeout=WAIT
    )


def test_a_click_decodes_the_point_and_shows_rows(page: Any) -> None:
    before = page.evaluate(PICTURE)
    place = page.evaluate(
        f"""() => {{
          const view = Bokeh.index.find_one({MODELS}.find((m) => m.name == "scatter"))
          const frame = view.frame.bbox
          const box = view.el.getBoundingClientRect()
          return [box.x + frame.left + 0.3 * frame.width, box.y + frame.top + 0.4 * frame.height]
        }}"""
    )
    page.mouse.click(*place)
    changed(page, before)
    page.get_by_text("Nearest to the click").wait_for(timeout=WAIT)


def test_a_file_is_classified(page: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x=load_digits().data[:12])
    page.locator("input[type=file]").set_input_files(tmp_path / "mine.npz")
    page.get_by_text("mine.npz: 12 rows").wait_for(timeout=WAIT)
    assert page.locator("table tr").count() == 13
    page.get_by_text("First rows of mine.npz").wait_for(timeout=WAIT)


def test_a_hostile_file_is_refused_and_the_page_goes_on(page: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "<img src=x>.npy", np.array([{}], object), allow_pickle=True)
    page.locator("input[type=file]").set_input_files(tmp_path / "<img src=x>.npy")
    page.get_by_text("<img src=x>.npy holds pickled Python objects").wait_for(timeout=WAIT)
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(20_000_001)
    page.locator("input[type=file]").set_input_files(tmp_path / "large.csv")
    page.get_by_text("large.csv has 20.0 MB; this page takes up to 20 MB").wait_for(timeout=WAIT)
    before = page.evaluate(PICTURE)
    page.locator("[aria-label=z1]").focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    changed(page, before)


def test_tabs_do_not_share_their_sliders(page: Any, address: str) -> None:
    other = page.context.browser.new_page()
    other.goto(address)
    other.locator("[aria-label=z0]").wait_for(state="attached", timeout=2 * WAIT)
    assert slider(other, "weight of class 0") == 1
    assert slider(other, "z0") == 0
    assert slider(page, "z1") != 0
    other.close()


def test_nothing_is_loaded_from_elsewhere(page: Any, asked: list[str]) -> None:  # noqa: ARG001
    assert len(asked) > 3
    assert {urlsplit(url).hostname for url in asked if not url.startswith("data:")} == {"127.0.0.1"}


def test_another_host_name_is_refused(address: str) -> None:
    port = urlsplit(address).port
    for host, path, status in (
        ("evil.example", "/", 403),
        ("evil.example", "/static/js/bokeh.min.js", 403),
        (f"127.0.0.1:{port}", "/autoload.js?bokeh-autoload-element=1", 403),
        (f"localhost:{port}", "/", 200),
        (f"127.0.0.1:{port}", "/?bokeh-session-id=mine", 403),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", path, headers={"Host": host})
        assert connection.getresponse().status == status, (host, path)
        connection.close()


def test_another_site_gets_no_socket(address: str) -> None:
    port = urlsplit(address).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "bokeh, token",
    }
    connection.request("GET", "/ws", headers=headers | {"Origin": "http://evil.example"})
    assert connection.getresponse().status == 403
    connection.close()


def test_only_loopback_is_bound(address: str) -> None:
    port = urlsplit(address).port
    # all of 127.0.0.0/8 is this machine; a server bound to every address would answer here
    with socket.socket() as other:
        other.settimeout(2)
        assert other.connect_ex(("127.0.0.2", port)) != 0


def test_a_port_in_use_is_one_line(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = urlsplit(address).port
    monkeypatch.setattr(sys, "argv", ["gmmvae", "explore", "a-run", "--port", str(port)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert re.fullmatch(rf"gmmvae: port {port} .*--port 0.*\n", capsys.readouterr().err)
