"""Letters that the usual font lacks are drawn with another installed font."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.image import imread

from pyro_gmmvae.figures import fonts
from pyro_gmmvae.figures.saving import figure_bytes

LETTER, OTHER = "甲", "乙"


def make_font(folder: Path, name: str, letters: str) -> str:
    """A font in which each letter is a black square."""
    builder = FontBuilder(1000)
    glyphs = [".notdef", *(f"g{ord(letter)}" for letter in letters)]
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap({ord(letter): f"g{ord(letter)}" for letter in letters})
    drawn = {}
    for glyph in glyphs:
        pen = TTGlyphPen(None)
        if glyph != ".notdef":
            pen.moveTo((0, 0))
            for corner in ((0, 900), (900, 900), (900, 0)):
                pen.lineTo(corner)
            pen.closePath()
        drawn[glyph] = pen.glyph()
    builder.setupGlyf(drawn)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    file = folder / f"{name}.ttf"
    builder.save(file)
    return str(file)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fonts that were installed after matplotlib made its list, and a file that is no font."""
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    files = [str(tmp_path / "broken.ttf")]
    files += [make_font(tmp_path, "Squares", LETTER), make_font(tmp_path, "LastResort", OTHER)]
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: files)
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    for cached in (fonts._files, fonts._families, fonts._letters):
        cached.cache_clear()
    yield
    for cached in (fonts._files, fonts._families, fonts._letters):
        cached.cache_clear()


def ink(text: str) -> int:
    """The number of black pixels of a picture of a text."""
    figure = Figure((2, 1))
    figure.text(0.1, 0.3, text, fontsize=40)
    pixels = imread(io.BytesIO(figure_bytes(figure)))[..., :3]
    return int((pixels < 0.5).all(-1).sum())


@pytest.mark.usefixtures("installed")
def test_an_installed_font_is_found() -> None:
    assert fonts.fonts_for("ann é") == ()
    assert fonts.fonts_for(f"a {LETTER}") == ("Squares",)
    assert fonts.fonts_for(OTHER) == ()  # a font of boxes for everything is none
    # 40 points are 83 pixels, of which a square has 90 % along each side
    assert ink(LETTER) == pytest.approx((0.9 * 83) ** 2, rel=0.1)
    assert 0 < ink(OTHER) < 0.6 * ink(LETTER)  # a box


@pytest.mark.parametrize("ending", ["svg", "pdf"])
@pytest.mark.usefixtures("installed")
def test_files_of_other_formats_have_the_letter(ending: str) -> None:
    figure = Figure((2, 1))
    figure.text(0.1, 0.3, f"a{LETTER}")
    assert len(figure_bytes(figure, ending)) > 500
