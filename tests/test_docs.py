"""The pages build without a warning, their code runs, and their commands print the shown lines.

The blocks of a page are one script: Python blocks share a namespace, commands run in between, all
in a new folder. A block that can't run here gives a reason: ``python notest (needs a GPU)``; its
commands are still checked against the command line.
"""

import doctest
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import click
import pytest

from pyro_gmmvae.cli import cli, main
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.objectives import OBJECTIVES
from pyro_gmmvae.runs.keys import all_keys

ROOT = Path(__file__).parents[1]
DOCS, PACKAGE = ROOT / "docs", ROOT / "pyro_gmmvae"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
FENCE = re.compile(r"^```(python|console)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REASON = re.compile(r" notest \(\w.+\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, whether it is run, its text and first line."""

    language: str
    is_run: bool
    text: str
    line: int


def blocks_of(page: str) -> Iterator[Block]:
    for match in FENCE.finditer(page):
        language, info, text = match.groups()
        assert not info or REASON.fullmatch(info), f"{info!r} gives no reason"
        yield Block(language, not info, text, page[: match.start()].count("\n") + 1)


def commands_of(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Each command of a console block, as arguments, with the lines shown after it."""
    for part in re.split(r"^\$ ", text.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        line, *shown = part.splitlines()
        yield shlex.split(line, comments=True), [s for s in shown if s.strip() not in ("", "...")]


def shape_of(line: str) -> str:
    """A line of output without its numbers, which differ between machines."""
    return re.sub(r"-?\d[\d.,:]*(e[+-]?\d+)?", "#", " ".join(line.split()))


def check_command(arguments: list[str]) -> None:
    """Parse arguments of gmmvae without running the command."""
    command, rest = cli, list(arguments)
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]  # type: ignore[assignment]
    command.make_context("gmmvae", rest)


@dataclass
class Page:
    """Runs the blocks of a page in the current folder."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def run(self, text: str, source: str) -> None:
        names: dict[str, object] = {"__name__": "page"}
        for block in blocks_of(text):
            if block.language == "python":
                code = compile("\n" * block.line + block.text, source, "exec")
                if block.is_run:
                    exec(code, names)
                continue
            for (program, *arguments), shown in commands_of(block.text):
                if program == "gmmvae" and block.is_run:
                    self._compare(arguments, shown)
                elif program == "gmmvae":
                    check_command(arguments)

    def _compare(self, arguments: list[str], shown: list[str]) -> None:
        printed = {shape_of(line) for line in self._output(arguments).splitlines()}
        for line in shown:
            assert shape_of(line) in printed, f"{shlex.join(arguments)} does not print {line!r}"

    def _output(self, arguments: list[str]) -> str:
        self.monkeypatch.setattr(sys, "argv", ["gmmvae", *arguments])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        output = self.capsys.readouterr()
        assert not caught.value.code, f"gmmvae {shlex.join(arguments)}: {output.err}"
        return output.out + output.err


@pytest.fixture
def page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Page]:
    """A page in a new folder; models and guides that it registers are removed afterwards."""
    monkeypatch.chdir(tmp_path)
    with patch.dict(MODELS), patch.dict(GUIDES):
        yield Page(monkeypatch, capsys)


@pytest.mark.parametrize(
    "file", [p for p in PAGES if FENCE.search(p.read_text())], ids=lambda p: p.stem
)
def test_a_page_shows_the_actual_output(file: Path, page: Page) -> None:
    page.run(file.read_text(), str(file))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("```python\nassert False\n```", AssertionError),
        ("```python notest (slow)\ndef\n```", SyntaxError),
        ("```python notest\npass\n```", AssertionError),
        ("```console\n$ gmmvae list guides\nguides  product, other\n```", AssertionError),
        ("```console\n$ gmmvae list nothing\n```", AssertionError),
        ("```console notest (slow)\n$ gmmvae train --lables 3\n```", click.NoSuchOption),
        ("```console notest (slow)\n$ gmmvae learn\n```", KeyError),
    ],
)
def test_a_wrong_page_is_found(wrong: str, error: type[Exception], page: Page) -> None:
    with pytest.raises(error):
        page.run(f"# Wrong\n\n{wrong}\n", "wrong.md")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built as by scripts/docs: warnings are errors."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html"]
    command += ["-d", str(folder / "trees"), str(DOCS), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_every_page_is_built_and_loads_nothing_from_the_network(built: Path) -> None:
    for page in PAGES:
        text = (built / page.relative_to(DOCS).with_suffix(".html")).read_text()
        fetched = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"(http[^\"]+)", text)
        fetched += re.findall(r"<link\b[^>]*\bhref=\"(http[^\"]+)", text)
        assert not fetched, f"{page}: {fetched}"
        assert "made from code:" not in text, f"{page}: a table was not made"


def test_tables_are_made_from_the_code(built: Path) -> None:
    reference = built / "reference"
    keys = (reference / "keys.html").read_text()
    assert [key for key in all_keys() if f">{key}<" not in keys] == []
    tables = (reference / "names.html").read_text()
    known = [*MODELS, *GUIDES, *OBJECTIVES]
    assert [name for name in known if f">{name}<" not in tables] == []
    commands = (reference / "commands.html").read_text()
    assert [name for name in cli.commands if f"gmmvae {name}" not in commands] == []


def test_every_public_module_has_a_reference_page() -> None:
    hidden = {"cli", "__main__", "__init__", "param_store", "files", "lazy"}
    modules = {
        p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    pages = {p.stem for p in (DOCS / "reference" / "python").glob("*.md")}
    assert pages - {"index"} == modules - hidden


@pytest.mark.parametrize(
    "file",
    sorted(p for p in PACKAGE.rglob("*.py") if re.search(r"^ +>>> ", p.read_text(), re.MULTILINE)),
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_examples_in_docstrings_run(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    results = doctest.testmod(importlib.import_module(name), report=True)
    assert results.attempted, f"{name} shows examples that doctest does not find"
    assert not results.failed, f"{results.failed} examples of {name} fail; see the output"
