"""Properties of all figures: no pyplot, and names that are drawn literally."""

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import pyro_gmmvae.figures
from pyro_gmmvae.figures.style import plain
from tests.figures.texts import HOSTILE

FILES = sorted(Path(pyro_gmmvae.figures.__file__).parent.glob("*.py"))


def test_no_figure_imports_pyplot() -> None:
    names = [f"pyro_gmmvae.figures.{file.stem}" for file in FILES if file.stem != "__init__"]
    code = f"import sys, {', '.join(names)}; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [*HOSTILE, "$$", "\\", r"\$", "$a$ and $b$"])
def test_a_plain_text_is_drawn_letter_by_letter(name: str) -> None:
    figure = Figure()
    drawn = figure.text(0, 0, plain(name))
    literal = figure.text(0, 0, " ".join(name.split()), parse_math=False)
    figure.draw_without_rendering()
    assert drawn.get_window_extent().width == literal.get_window_extent().width
