"""Colors, text sizes and helpers that all figures share."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe, Ito 2008: distinguishable with most color vision deficiencies
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, VERMILION = COLORS[0], COLORS[1]
STYLES = ("-", "--", ":")
MARKERS = "osD^vPX<>*hd"
GRAY, FAINT = "#555555", "#bbbbbb"

TITLE, TEXT, SMALL = 10, 8, 7  # points
INCHES_PER_LETTER = 0.075  # of TEXT
DPI = 150


def new_figure(width: float, height: float, *, constrained: bool = True) -> Figure:
    """A figure of a size in inches that has no window and no global state (not pyplot's)."""
    return Figure(figsize=(width, height), layout="constrained" if constrained else None)


def tidy(axes: Axes) -> None:
    """A faint grid behind the data, small letters, no frame above and at the right."""
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL, color=FAINT)
    for side, spine in axes.spines.items():
        spine.set_color(FAINT)
        spine.set_visible(side in ("left", "bottom"))
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontsize(TEXT)


def cut(text: str, letters: int) -> str:
    """The text, or its beginning and an ellipsis if it is longer."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def plain(text: object) -> str:
    """The text for matplotlib to draw letter by letter: dollars do not start a formula.

    Line breaks and runs of blanks become one blank. Texts with ``parse_math=False`` do not need
    it.
    """
    # an escaped dollar is drawn as a dollar
    return " ".join(str(text).split()).replace("$", r"\$")
