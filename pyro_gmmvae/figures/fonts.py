"""Letters that the font of the figures lacks: drawn with another installed font, or as boxes."""

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager, get_font
from matplotlib.text import Text

# files whose names hold these are tried first: they have most letters, and look alike
LIKELY = ("sanscjk", "sans-cjk", "notosans", "sourcehan", "gothic", "yahei", "pingfang", "unifont")
# has a box for every letter
NO_LETTERS = "lastresort"


@contextmanager
def all_letters(figure: Figure) -> Iterator[None]:
    """Draw the texts of a figure within, each in fonts that have its letters.

    Letters that no installed font has are boxes, without warnings.
    """
    for text in figure.findobj(Text):
        if families := fonts_for(text.get_text()):
            text.set_fontfamily([*text.get_fontfamily(), *families])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        yield


def fonts_for(text: str) -> tuple[str, ...]:
    """Names of fonts that have, together, the letters of a text that the usual font lacks."""
    lacking = {ord(letter) for letter in text if letter.isprintable()} - _letters(_usual())
    return _families(frozenset(lacking)) if lacking else ()


@functools.cache
def _families(lacking: frozenset[int]) -> tuple[str, ...]:
    """Fonts for these letters, as few as a search in order finds; () where there are none."""
    found, left = [], set(lacking)
    for file in _files():
        if here := left & _letters(file):
            left -= here
            if file not in {font.fname for font in fontManager.ttflist}:
                fontManager.addfont(file)  # installed after matplotlib's list was made
            found.append(get_font(file).family_name)
        if not left:
            break
    return tuple(found)


def _usual() -> str:
    return str(fontManager.findfont(FontProperties()))


@functools.cache
def _files() -> list[str]:
    """All installed fonts, the likely ones first."""
    files = {str(file): Path(file).name.lower() for file in findSystemFonts()}

    def order(file: str) -> tuple[bool, bool, str]:
        name = files[file]
        is_likely = any(part in name for part in LIKELY)
        return not is_likely, "regular" not in name and "-" in name, file

    return sorted((file for file, name in files.items() if NO_LETTERS not in name), key=order)


@functools.cache
def _letters(file: str) -> frozenset[int]:
    """The letters of a font; none where it can't be read."""
    try:
        return frozenset(get_font(file).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
