"""Sliders of s and z."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import Button, Column, CustomJS, Div, Row, Select, Slider

from pyro_gmmvae.explorer import simplex
from pyro_gmmvae.explorer.space import Place, Position
from pyro_gmmvae.explorer.texts import markup, plain, short_name
from pyro_gmmvae.explorer.view import View

Array = np.ndarray[Any, Any]
MOST_CLASSES = 12  # with a slider each; beyond, one slider and a choice
SPAN = 4.0  # standard deviations
LINE = 24  # pixels
AS_SET, UNIFORM, UNDECIDED = "(as below)", "uniform", "undecided"

LINES = f"""
    :host {{ font-size: 12.5px; overflow: hidden; }}
    :host > div {{ width: 100%; }}
    div.line {{ height: {LINE}px; line-height: {LINE}px; overflow: hidden;
      text-overflow: ellipsis; white-space: nowrap; font-variant-numeric: tabular-nums; }}
    div.right {{ text-align: right; color: #444; }}
    div.refused {{ color: #b3261e; }}
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


def lines_of(texts: list[str], right: bool = False) -> str:
    """Lines of HTML as high as a slider; the texts are no markup."""
    kind = "line right" if right else "line"
    return "".join(f'<div class="{kind}" title="{markup(t)}">{markup(t)}</div>' for t in texts)


class Controls:
    """The sliders; each calls ``go`` with the position that it asks for, and itself.

    ``position`` is the last one that was asked for, whether it is drawn yet or not.

    Args:
        view: the run and its data.
        go: hears of positions.
    """

    def __init__(self, view: View, go: Callable[[Position, object], None]) -> None:
        self.view, self.space, self._go = view, view.space, go
        self._quiet = False
        self.position = view.space.start()
        self._generator = np.random.default_rng(0)
        self._complaint = Div(stylesheets=[LINES], disable_math=True, visible=False)
        self.weights = self._weights_part()
        self.latent = self._latent_part()

    def show(self, place: Place, mover: object, settled: bool) -> None:
        """Say where the position is; sliders follow, unless they are moved or move on."""
        position = place.position
        self._complaint.visible = False
        self._say(self._values, self._value_lines(place))
        if self.space.sizes:
            self._say(self._shares, self._share_lines(position.weights))
            if self._largest.visible:
                self._say(self._largest, self._largest_line(position.weights))
        if not settled:
            return
        self._quiet = True
        try:
            for slider, value in self._targets(place):
                if slider is not mover and abs(slider.value - value) > 1e-9:
                    slider.value = value
            if self.space.sizes and mover is not self._vertex:
                self._vertex.value = AS_SET
        finally:
            self._quiet = False

    def complain(self, error: Exception) -> None:
        """Say that a position could not be decoded."""
        message = markup(f"Not decoded: {error}")
        self._complaint.visible = True
        self._complaint.text = f'<div class="refused">{message}</div>'

    def _targets(self, place: Place) -> list[tuple[Slider, float]]:
        """What each slider should stand at."""
        weights = place.position.weights[: self._classes]
        if len(self._weight_sliders) == self._classes:
            found = list(zip(self._weight_sliders, weights, strict=True))
        else:
            found = [(slider, weights[self._chosen]) for slider in self._weight_sliders]
        found += zip(self._sliders, place.along.clip(-SPAN, SPAN), strict=True)
        if self._entry_slider is not None:
            offset = place.position.offset[int(self._entry.value)]
            found.append((self._entry_slider, np.clip(offset, -SPAN, SPAN)))
        return [(slider, float(value)) for slider, value in found]

    @property
    def _classes(self) -> int:
        return self.space.sizes.get("", 0)

    def _weights_part(self) -> Column:
        self._weight_sliders: list[Slider] = []
        if not self.space.sizes:
            return column(name="weights")
        names, K = self.view.names()[""], self._classes
        options = [AS_SET, UNIFORM, *(f"{k}: {plain(name)}" for k, name in enumerate(names))]
        self._vertex = Select(
            options=options, value=options[2], width=220, stylesheets=[SMALL], margin=(2, 8, 4, 0)
        )
        _listen(self._vertex, self._to_vertex)
        top: list[Any] = [row(_label("set all to"), self._vertex)]
        for factor, of_factor in self.view.names().items():
            if factor:
                choice = Select(
                    options=[UNDECIDED, *map(plain, of_factor)],
                    value=UNDECIDED,
                    width=220,
                    stylesheets=[SMALL],
                    margin=(2, 8, 4, 0),
                )
                _listen(choice, partial(self._to_factor, factor, of_factor))
                top.append(row(_label(factor), choice))
        labels = names
        if K > MOST_CLASSES:
            self._class = Select(
                options=options[2:],
                value=options[2],
                width=220,
                stylesheets=[SMALL],
                margin=(2, 8, 4, 0),
            )
            _listen(self._class, self._again)
            top.append(row(_label("one class"), self._class))
            labels = ["its weight"]
        for k in range(len(labels)):
            slider = _slider(0, 1, 0.01, 0.0, f"weight of class {names[k]}")
            _listen(slider, partial(self._to_weight, slider, k))
            self._weight_sliders.append(slider)
        self._shares = Div(
            width=52 if K <= MOST_CLASSES else 120, stylesheets=[LINES], disable_math=True, margin=0
        )
        self._largest = Div(stylesheets=[LINES], disable_math=True, margin=0)
        self._largest.visible = K > MOST_CLASSES
        return column(
            *top,
            _table(labels, self._weight_sliders, self._shares),
            self._largest,
            name="weights",
            sizing_mode="stretch_width",
        )

    def _latent_part(self) -> Column:
        names = self.space.names
        self._sliders = []
        for direction, name in enumerate(names):
            slider = _slider(-SPAN, SPAN, 0.05, 0.0, name)
            _listen(slider, partial(self._to_along, slider, direction))
            self._sliders.append(slider)
        self._values = Div(width=124, stylesheets=[LINES], disable_math=True, margin=0)
        labels, sliders = list(names), list(self._sliders)
        parts: list[Any] = []
        self._entry_slider = None
        if not self.space.by_entry:
            self._entry = Select(
                options=[(str(e), f"z{e}") for e in range(self.space.size)],
                value="0",
                width=90,
                stylesheets=[SMALL],
                margin=(2, 8, 4, 0),
            )
            _listen(self._entry, self._again)
            self._entry_slider = _slider(-SPAN, SPAN, 0.05, 0.0, "single entry of z")
            _listen(self._entry_slider, self._to_entry)
            parts += [_label("single entry"), self._entry]
            labels, sliders = [*labels, "this entry"], [*sliders, self._entry_slider]
        mean = Button(label="mean", width=60, stylesheets=[SMALL], margin=(2, 6, 4, 0))
        mean.on_click(self._to_mean)
        draw = Button(label="draw", width=60, stylesheets=[SMALL], margin=(2, 6, 4, 0))
        draw.on_click(self._to_draw)
        if not self.space.has_prior:
            draw.visible = False
        return column(
            row(mean, draw, *parts),
            _table(labels, sliders, self._values),
            self._complaint,
            name="latent",
            sizing_mode="stretch_width",
        )

    def _value_lines(self, place: Place) -> str:
        pairs = list(zip(place.along, place.values, strict=True))
        if self._entry_slider is not None:
            entry = int(self._entry.value)
            pairs.append((place.position.offset[entry], place.z[entry]))
        return lines_of([f"{along:+.2f} s.d. = {z:.2f}" for along, z in pairs], right=True)

    def _share_lines(self, weights: Array) -> str:
        of_class = weights[: self._classes]
        if self._classes <= MOST_CLASSES:
            return lines_of([f"{share:.2f}" for share in of_class], right=True)
        return lines_of([f"{of_class[self._chosen]:.2f} of 1"], right=True)

    def _largest_line(self, weights: Array) -> str:
        names, of_class = self.view.names()[""], weights[: self._classes]
        order = np.argsort(-of_class, kind="stable")[:4]
        told = ", ".join(
            f"{short_name(names[k])} {of_class[k]:.2f}" for k in order if of_class[k] >= 0.005
        )
        return lines_of([f"largest: {told}"])

    @property
    def _chosen(self) -> int:
        """The class that one slider is of, where there are many."""
        return int(self._class.value.partition(":")[0])

    def _to_weight(self, slider: Slider, k: int, new: float) -> None:
        if self._quiet:
            return
        k = k if self._classes <= MOST_CLASSES else self._chosen
        self._set_class(simplex.with_weight(self.position.weights[: self._classes], k, new), slider)

    def _to_vertex(self, new: str) -> None:
        if self._quiet or new == AS_SET:
            return
        K = self._classes
        flat = new == UNIFORM
        weights = simplex.uniform(K) if flat else simplex.vertex(int(new.partition(":")[0]), K)
        self._set_class(weights, self._vertex)

    def _set_class(self, weights: Array, mover: object) -> None:
        others = self.position.weights[self._classes :]
        self._go(Position(np.concatenate([weights, others]), self.position.offset), mover)

    def _to_factor(self, factor: str, names: list[str], new: str) -> None:
        sizes = list(self.space.sizes)
        begin = sum(self.space.sizes[name] for name in sizes[: sizes.index(factor)])
        K = len(names)
        weights = self.position.weights.copy()
        known = [plain(name) for name in names]
        weights[begin : begin + K] = (
            simplex.uniform(K) if new == UNDECIDED else simplex.vertex(known.index(new), K)
        )
        self._go(Position(weights, self.position.offset), None)

    def _to_along(self, slider: Slider, direction: int, new: float) -> None:
        if not self._quiet:
            self._go(self.space.moved(self.position, direction, float(new)), slider)

    def _to_entry(self, new: float) -> None:
        if not self._quiet:
            offset = self.position.offset.copy()
            offset[int(self._entry.value)] = new
            self._go(Position(self.position.weights, offset), self._entry_slider)

    def _to_mean(self) -> None:
        self._go(Position(self.position.weights, np.zeros(self.space.size)), None)

    def _to_draw(self) -> None:
        noise = self._generator.standard_normal(self.space.size)
        self._go(self.space.drawn(self.position.weights, noise), None)

    def _again(self, _new: str) -> None:
        """Another class or entry is looked at: its slider follows."""
        self._go(self.position, None)

    @staticmethod
    def _say(div: Div, text: str) -> None:
        if div.text != text:
            div.text = text


def _listen(widget: Any, hear: Callable[[Any], None]) -> None:
    """Call with each new value."""

    def changed(attr: str, old: Any, new: Any) -> None:  # noqa: ARG001 - Bokeh's signature
        hear(new)

    widget.on_change("value", changed)


def _slider(start: float, end: float, step: float, value: float, name: str) -> Slider:
    return Slider(
        start=start,
        end=end,
        step=step,
        value=value,
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


def _label(text: str) -> Div:
    return Div(
        text=lines_of([text]), width=76, stylesheets=[LINES], disable_math=True, margin=(3, 6, 0, 0)
    )


def _table(labels: list[str], sliders: list[Slider], values: Div) -> Row:
    """A line per slider: its label, itself, its value."""
    text = Div(
        text=lines_of(labels), width=84, stylesheets=[LINES], disable_math=True, margin=(0, 4, 0, 0)
    )
    middle = column(*sliders, spacing=0, sizing_mode="stretch_width", margin=0)
    return row(text, middle, values, sizing_mode="stretch_width", spacing=0)


def label_sliders() -> CustomJS:
    """Tells screen readers what each slider is of; Bokeh's own have no name."""
    return CustomJS(
        code="""
        for (const view of Bokeh.index.query((view) => view.model.tags?.includes("labelled"))) {
          const handle = view.shadow_el.querySelector(".noUi-handle")
          handle?.setAttribute("aria-label", view.model.name)
        }
        """
    )
