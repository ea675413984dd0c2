"""Text helpers, style sheets and small widgets of the page."""

from collections.abc import Callable
from html import escape
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import CustomJS, Div, Row, Select, Slider

LINE = 24  # pixels
LINES = f"""
    :host {{ font-size: 12.5px; overflow: hidden; }}
    :host > div {{ width: 100%; }}
    div.line {{ height: {LINE}px; line-height: {LINE}px; overflow: hidden;
      text-overflow: ellipsis; white-space: nowrap; font-variant-numeric: tabular-nums; }}
    div.right {{ text-align: right; color: #444; }}
    div.error {{ color: #b3261e; }}
    """
THIN = f"""
    :host {{ height: {LINE}px; padding: 4px 8px 0; box-sizing: border-box; }}
    .noUi-horizontal {{ height: 6px; margin-top: 5px; }}
    .noUi-horizontal .noUi-handle {{ width: 14px; height: 14px; right: -7px; top: -5px;
      border-radius: 50%; background: #0072B2; border: none; box-shadow: none; cursor: grab; }}
    .noUi-handle:before, .noUi-handle:after {{ display: none; }}
    .noUi-handle:focus {{ outline: 2px solid #56B4E9; outline-offset: 1px; }}
    """
SMALL = """
    select.bk-input { font-size: 12px; padding: 0 24px 0 8px; height: 26px; min-height: 26px; }
    .bk-btn { font-size: 12px; padding: 2px 8px; height: 26px; }
    """


def plain(text: str) -> str:
    """Text that Bokeh does not read as TeX."""
    return text.replace("$$", "$ $")


def markup(text: str) -> str:
    """Text that is read neither as HTML nor as TeX."""
    return escape(plain(text))


def shortened(text: str, letters: int) -> str:
    """The text; the middle of a longer one is left out."""
    if len(text) <= letters:
        return text
    end = (letters - 1) // 2
    return f"{text[: letters - 1 - end]}…{text[-end:]}"


def short_name(name: str) -> str:
    """A name for narrow places: "component_7" becomes "c7"."""
    number = name.removeprefix("component_")
    return f"c{number}" if number != name and number.isdecimal() else name


def html_lines(texts: list[str], right: bool = False) -> str:
    """HTML lines with the height of a slider; the texts are escaped."""
    kind = "line right" if right else "line"
    return "".join(f'<div class="{kind}" title="{markup(t)}">{markup(t)}</div>' for t in texts)


def text_box(text: str = "", **options: Any) -> Div:
    """A box for :func:`html_lines`."""
    return Div(text=text, stylesheets=[LINES], disable_math=True, **options)


def select(options: list[Any], width: int = 220) -> Select:
    """A list to choose from, at most ``width`` pixels wide; the first option is chosen."""
    first = options[0] if isinstance(options[0], str) else options[0][0]
    return Select(
        options=options,
        value=first,
        min_width=90,
        max_width=width,
        sizing_mode="stretch_width",
        stylesheets=[SMALL],
        margin=(2, 8, 4, 0),
    )


def labelled(text: str, widget: Any) -> Row:
    """A widget with a label at its left."""
    return row(label(text), widget, sizing_mode="stretch_width")


def slider(start: float, end: float, step: float, name: str) -> Slider:
    """A thin slider at 0, without a title or a value."""
    return Slider(
        start=start,
        end=end,
        step=step,
        value=0.0,
        title=None,
        show_value=False,
        tooltips=False,
        height=LINE,
        sizing_mode="stretch_width",
        margin=0,
        stylesheets=[THIN],
        name=name,
        tags=["labelled"],
    )


def label(text: str) -> Div:
    """A label at the left of another widget."""
    return text_box(html_lines([text]), width=76, margin=(3, 6, 0, 0))


def slider_table(labels: list[str], sliders: list[Slider], values: Div) -> Row:
    """One line per slider: label, slider, value."""
    text = text_box(html_lines(labels), width=84, margin=(0, 4, 0, 0))
    middle = column(*sliders, spacing=0, sizing_mode="stretch_width", margin=0)
    return row(text, middle, values, sizing_mode="stretch_width", spacing=0)


def on_value(widget: Any, callback: Callable[[Any], None]) -> None:
    """Call with each new value of a widget."""

    def changed(attr: str, old: Any, new: Any) -> None:  # noqa: ARG001 - Bokeh's signature
        callback(new)

    widget.on_change("value", changed)


def name_sliders() -> CustomJS:
    """Give sliders the names that screen readers read; Bokeh's have none."""
    return CustomJS(
        code="""
        for (const view of Bokeh.index.query((view) => view.model.tags?.includes("labelled"))) {
          const handle = view.shadow_el.querySelector(".noUi-handle")
          handle?.setAttribute("aria-label", view.model.name)
        }
        """
    )
