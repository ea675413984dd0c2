"""The report: one file that needs no other, with all facts of a run and without scripts."""

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pyro_gmmvae.figures import PICTURES, RunView, draw_all
from pyro_gmmvae.figures.report import content_policy, report, template_text
from pyro_gmmvae.runs import Run

CHROMIUM = Path("/usr/bin/chromium")
DRAWN = ("samples", "interpolation", "manifold", "confusion")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Page(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def run(digits: RunView, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Digits whose folder, names and records hold markup that must be escaped."""
    folder = tmp_path_factory.mktemp("reports") / "<b>run & co"
    shutil.copytree(digits.run.path, folder)
    numbers = {"accuracy": 0.5, HOSTILE: HOSTILE, "elbo": -1.0, "confusion": [[1]], "ece": None}
    numbers |= {"precision": 0.125, "precision_sampled": 0.375, "precision_reference": 0.75}
    numbers |= {"recall": 0.0625, "spread": None, "kl_units": [0.25, 3.0]}
    content = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(content | {"test": numbers}))
    told = json.loads((folder / "environment.json").read_text())
    told |= {"command": f"gmmvae train {HOSTILE}", "device": HOSTILE, "packages": {HOSTILE: "1"}}
    (folder / "environment.json").write_text(json.dumps(told))
    return Run.load(folder)


@pytest.fixture(scope="module")
def text(run: Run) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyro_gmmvae.figures.latent_space.STEPS", 3)
        patch.setattr("pyro_gmmvae.figures.report.draw_all", lambda view: draw_all(view, DRAWN))
        return report(RunView(run), {"accuracy": "share <of> rows"})


def test_it_holds_the_facts_of_the_run(text: str) -> None:
    page = Page(text)
    for told in ("0.5000", "share <of> rows", "-1.0000", "gmmvae train", "latent_dim", "engine"):
        assert told in page.text
    assert "z has 4 entries, and a manifold needs 2" in page.text
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == len(DRAWN) - 1 + 1  # no plane, and a film
    assert all(len(str(image["alt"])) > 30 for image in images)
    assert len(text) < 3_000_000


def test_generation_stands_beside_real_rows(text: str) -> None:
    """Also the precision, which has the name of a configuration key."""
    section = text[text.index('id="generation"') : text.index('id="pictures"')]
    lines = [re.sub(r"<[^>]+>", " ", line).split() for line in section.split("<tr>")[2:]]
    assert lines[0] == ["precision", "0.1250", "0.3750", "0.7500"]
    assert lines[1][:2] == ["recall", "0.0625"]
    assert "largest first: 3.00, 0.25" in section
    assert "spread" not in section
    assert "precision" not in text[text.index('id="numbers"') : text.index('id="generation"')]


def test_keys_that_differ_from_the_defaults_come_first(text: str) -> None:
    changed = text.index("Keys that differ from the defaults")
    assert changed < text.index(">latent_dim<") < text.index("keys with default values")
    assert text.index(">batch_size<") > text.index("keys with default values")


def test_text_of_a_run_stays_text(text: str) -> None:
    page = Page(text)
    assert HOSTILE in page.text
    assert not {"script", "iframe", "object", "link", "form", "b-"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "data", "action"):
            value = attributes.get(name)
            assert value is None or re.match(r"data:image/(png|gif);base64,|#", value), value
    assert "<b>run" not in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as tools:
        started = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def test_a_browser_shows_it_without_any_request(browser: Any, text: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(text)
    page = browser.new_page(viewport={"width": 390, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    wide = "[...document.images].every(i => i.complete && i.naturalWidth > 100)"
    assert page.evaluate(wide)
    assert page.evaluate("document.images.length") == len(DRAWN)
    assert page.evaluate("getComputedStyle(document.body).maxWidth") != "none"  # styled
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_its_policy_blocks_requests_and_scripts(browser: Any, tmp_path: Path) -> None:
    intruder = '<img src="https://example.invalid/x.png"><script>document.title="ran"</script>'
    policy = content_policy(template_text())
    file = tmp_path / "report.html"
    file.write_text(
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>quiet</title><body>{intruder}"
    )
    page = browser.new_page()
    failures: list[str] = []
    page.on("requestfailed", lambda request: failures.append(request.failure))
    page.goto(file.as_uri())
    assert failures == ["csp"]
    assert page.title() == "quiet"
    page.close()


def test_missing_records_are_a_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro_gmmvae.figures.report.draw_all", lambda _: iter(()))
    content = (run.path / "environment.json").read_text()
    (run.path / "environment.json").write_text("{")
    text = report(RunView(run), {})
    (run.path / "environment.json").write_text(content)
    assert "can't be read as JSON" in Page(text).text


def test_numbers_are_measured_where_there_are_none(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyro_gmmvae.figures.report.draw_all", lambda _: iter(()))
    run = Run.load(copied)
    content = json.loads((copied / "metrics.json").read_text())
    content.pop("test", None)
    (copied / "metrics.json").write_text(json.dumps(content))
    text = Page(report(RunView(run), {})).text
    found = json.loads((copied / "metrics.json").read_text())["test"]
    assert f"{found['accuracy']:.4f}" in text


def test_animations_that_do_not_fit_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    view = RunView(run)
    film = PICTURES["interpolation"].draw(view)
    monkeypatch.setattr(
        "pyro_gmmvae.figures.report.draw_all", lambda _: iter([("interpolation", film)])
    )
    monkeypatch.setattr("pyro_gmmvae.figures.report.MAX_BYTES", 1000)
    text = report(view, {})
    assert "image/gif" not in text
    assert "too large for this page" in Page(text).text
