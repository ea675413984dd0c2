"""The explorer in a browser: one server and one tab for all tests."""

import http.client
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pyro_gmmvae.cli import main

MODELS = "[...Bokeh.documents[0]._all_models.values()]"
# every part lies within its section, and every section within the window
FITS = """() => {
  const within = (inner, outer) => inner.left >= outer.left - 1 && inner.right <= outer.right + 1
  const body = {left: 0, right: document.documentElement.clientWidth}
  return document.documentElement.scrollWidth <= body.right &&
    [...document.querySelectorAll("section")].every((section) =>
      within(section.getBoundingClientRect(), body) &&
      section.scrollWidth <= section.clientWidth + 1)
}"""
PICTURE = f"() => Array.from({MODELS}.find((m) => m.name == 'decoded').data.image[0])"
WAIT = 15_000  # milliseconds, on a busy machine


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pyro_gmmvae", "explore", *map(str, arguments)]


@pytest.fixture(scope="module")
def address(trained: Path) -> Iterator[str]:
    """The address of a server; on SIGINT it must exit with status 0 and print no error."""
    server = subprocess.Popen(
        command(trained, "--port", 0, "--device", "cpu"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S{40,}", server.stdout.readline())
        assert found is not None, server.communicate(timeout=10)[1]
        yield found[0]
        asked = time.monotonic()
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=10)
        assert time.monotonic() - asked < 8  # below 1 on an idle machine
        assert server.returncode == 0
        assert errors == ""
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="module")
def requested() -> list[str]:
    """Every address that the browser requested."""
    return []


@pytest.fixture(scope="module")
def page(address: str, requested: list[str]) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        errors: list[str] = []
        tab.on("request", lambda request: requested.append(request.url))
        tab.on("websocket", lambda opened: requested.append(opened.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        tab.goto(address)
        tab.locator("[aria-label=z0]").wait_for(state="attached", timeout=2 * WAIT)
        yield tab
        browser.close()
    assert not errors


def changed(page: Any, before: Any) -> list[float]:
    """The picture, once it has changed."""
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


def test_all_weight_on_one_class_can_be_chosen(page: Any) -> None:
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


def test_the_page_fits_into_narrow_windows(page: Any) -> None:
    before = page.viewport_size
    for width in (320, 500, 700, 1000, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_function(FITS, timeout=WAIT)
    page.set_viewport_size(before)


def test_tabs_do_not_share_their_sliders(page: Any, address: str) -> None:
    other = page.context.browser.new_page()
    other.goto(address)
    other.locator("[aria-label=z0]").wait_for(state="attached", timeout=2 * WAIT)
    assert slider(other, "weight of class 0") == 1
    assert slider(other, "z0") == 0
    assert slider(page, "z1") != 0
    other.close()


def test_nothing_is_loaded_from_other_hosts(page: Any, requested: list[str]) -> None:  # noqa: ARG001
    assert len(requested) > 3
    hosts = {urlsplit(url).hostname for url in requested if not url.startswith("data:")}
    assert hosts == {"127.0.0.1"}


def test_another_host_name_is_refused(address: str) -> None:
    port, query = urlsplit(address).port, urlsplit(address).query
    for host, path, status in (
        ("evil.example", f"/?{query}", 403),
        ("evil.example", "/static/js/bokeh.min.js", 403),
        (f"127.0.0.1:{port}", "/autoload.js?bokeh-autoload-element=1", 403),
        (f"localhost:{port}", f"/?{query}", 200),
        (f"localhost:{port}", "/", 403),
        (f"localhost:{port}", f"/?{query[:-1]}", 403),
        (f"localhost:{port}", "/?token=", 403),
        (f"localhost:{port}", "/?token=%ff%00", 403),
        (f"127.0.0.1:{port}", f"/?{query}&bokeh-session-id=mine", 403),
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
    # 127.0.0.0/8 is the loopback network; a server bound to all addresses would answer
    with socket.socket() as other:
        other.settimeout(2)
        assert other.connect_ex(("127.0.0.2", port)) != 0


def test_a_port_in_use_is_one_line(
    address: str,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = urlsplit(address).port
    monkeypatch.setattr(sys, "argv", ["gmmvae", "explore", str(trained), "--port", str(port)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert re.fullmatch(
        rf"gmmvae: port {port} is not available on 127\.0\.0\.1 .*--port 0.*\n",
        capsys.readouterr().err,
    )


def test_a_missing_run_is_one_line_without_torch() -> None:
    code = (
        "import sys; from pyro_gmmvae.cli import main\n"
        "sys.argv = ['gmmvae', 'explore', 'nowhere']\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"
    assert re.fullmatch(r"gmmvae: nowhere is not a run folder.*\n", done.stderr)
