"""The README's Python runs, its numbers are those of the results, and its names exist."""

import re
import sys
from pathlib import Path

import pytest

from pyro_gmmvae.cli import cli
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.objectives import OBJECTIVES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_of_the_readme_runs_and_learns() -> None:
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(code, names)
    assert float(names["accuracy"]) > 0.9  # type: ignore[arg-type]
    model, x, y = names["model"], names["x"], names["y"]
    predicted = model.eval().classify(x[200:]).argmax(-1).numpy()  # type: ignore[attr-defined, index]
    assert (predicted == y[200:]).mean() > 0.65  # type: ignore[index]
    assert names["sevens"].shape == (3, 64)  # type: ignore[attr-defined]


def test_every_command_is_in_the_readme() -> None:
    assert {m for m in re.findall(r"`gmmvae (\w+)", README) if m in cli.commands} == set(
        cli.commands
    )


@pytest.mark.parametrize("table", [MODELS, GUIDES, OBJECTIVES], ids=lambda table: next(iter(table)))
def test_every_name_is_in_the_readme(table: dict[str, object]) -> None:
    assert [name for name in table if f"`{name}`" not in README] == []


def test_files_the_readme_shows_are_there() -> None:
    for file in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("name", ["accuracy", "speed"])
def test_numbers_of_the_readme_are_those_of_the_results(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    monkeypatch.delitem(sys.modules, "made_from_results", raising=False)
    import made_from_results

    def cells(table: str) -> list[list[str]]:
        lines = [line for line in table.splitlines() if not set(line) <= set("|- ")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    (shown,) = re.findall(rf"<!-- {name} -->\n((?:\|.*\n)+)", README)
    assert cells(shown) == cells(made_from_results.MADE[f"{name}_short"]())
