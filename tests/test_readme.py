"""The README's Python runs, and its claims about names hold."""

import re
from pathlib import Path

from pyro_gmmvae.cli import cli

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_of_the_readme_runs_and_learns() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    found: dict[str, object] = {}
    exec(code, found)
    assert float(found["accuracy"]) > 0.65  # type: ignore[arg-type]
    assert found["sevens"].shape == (3, 64)  # type: ignore[attr-defined]


def test_every_command_is_in_the_readme() -> None:
    assert {m for m in re.findall(r"`gmmvae (\w+)", README) if m in cli.commands} == set(
        cli.commands
    )


def test_files_the_readme_shows_are_there() -> None:
    for file in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (Path(__file__).parents[1] / file).exists(), file
