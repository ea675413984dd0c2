"""Texts of a figure, as they are drawn."""

from matplotlib.figure import Figure
from matplotlib.text import Text

# what matplotlib would read as formulas: of an even number of dollars, and of broken ones
HOSTILE = ("$x_1^2$", "_hidden", "a$b", "100% {sure}", r"\frac{", "$\\frac{$", "two\nlines", "")
LARGEST = 26  # inches


def texts(figure: Figure) -> list[str]:
    """All texts of a figure after drawing it once, with dollars as they are seen."""
    figure.draw_without_rendering()
    assert max(figure.get_size_inches()) <= LARGEST
    found = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    for text in found:
        # an unescaped pair would be a formula
        raw = text.get_text()
        unescaped = raw.count("$") - raw.count(r"\$")
        assert not (text.get_parse_math() and unescaped > 0 and "mathdefault" not in raw), raw
    return [text.get_text().replace(r"\$", "$") for text in found]
