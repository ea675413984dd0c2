"""Sliders of the class weights s and of z."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import Button, Column, Div, Slider

from pyro_gmmvae.explorer.space import Decoded, LatentPoint, with_weight
from pyro_gmmvae.explorer.view import ExplorerView
from pyro_gmmvae.explorer.widgets import (
    SMALL,
    html_lines,
    label,
    labelled,
    markup,
    on_value,
    plain,
    select,
    short_name,
    slider,
    slider_table,
    text_box,
)

Array = np.ndarray[Any, Any]
MAX_CLASSES = 12  # with a slider each; more classes share one slider and a list
SPAN = 4.0  # standard deviations
AS_SET, UNIFORM, UNDECIDED = "(as below)", "uniform", "undecided"


class Controls:
    """The sliders. Each passes the new latent point and itself to ``go``.

    Args:
        view: the run and its data.
        go: called with each new point and the control that was moved.

    Attributes:
        point: the last point that was requested, drawn or not.
        weights, latent: the parts of the page.
    """

    def __init__(self, view: ExplorerView, go: Callable[[LatentPoint, object], None]) -> None:
        self.view, self.space, self._go = view, view.space, go
        self._silent = False  # while sliders are set by the program
        self.point = view.space.start()
        self._generator = np.random.default_rng(0)
        self._error = text_box(visible=False)
        self.weights = self._weights_part()
        self.latent = self._latent_part()

    def show(self, decoded: Decoded, mover: object, settled: bool) -> None:
        """Show the values of a decoded point.

        Args:
            decoded: the point.
            mover: the control that the user moved; it is not set again.
            settled: no newer point was requested; only then the other controls follow.
        """
        self._error.visible = False
        _set_text(self._values, self._value_lines(decoded))
        if self.space.factors:
            weights = self.space.weights_of(decoded.point, "")
            _set_text(self._shares, self._share_lines(weights))
            if self._largest.visible:
                _set_text(self._largest, self._largest_line(weights))
        if not settled:
            return
        self._silent = True
        try:
            for control, value in self._slider_values(decoded):
                if control is not mover and abs(control.value - value) > 1e-9:
                    control.value = value
            if self.space.factors and mover is not self._vertex:
                self._vertex.value = AS_SET
        finally:
            self._silent = False

    def show_error(self, error: Exception) -> None:
        """Report that a point could not be decoded."""
        self._error.visible = True
        self._error.text = f'<div class="error">{markup(f"Not decoded: {error}")}</div>'

    @property
    def _classes(self) -> int:
        return self.space.factors.get("", 0)

    @property
    def _chosen(self) -> int:
        """The class of the shared slider."""
        return int(self._class.value.partition(":")[0])

    # -- parts ---------------------------------------------------------------------------------

    def _weights_part(self) -> Column:
        self._weight_sliders: list[Slider] = []
        if not self.space.factors:
            return column(name="weights")
        value_names, K = self.view.value_names(), self._classes
        names = value_names.pop("")
        classes = [f"{k}: {plain(name)}" for k, name in enumerate(names)]
        self._vertex = select([AS_SET, UNIFORM, *classes])
        self._vertex.value = classes[0]
        on_value(self._vertex, self._to_vertex)
        top: list[Any] = [labelled("set all to", self._vertex)]
        for factor, of_factor in value_names.items():
            choice = select([UNDECIDED, *map(plain, of_factor)])
            on_value(choice, partial(self._to_factor, factor, [plain(name) for name in of_factor]))
            top.append(labelled(factor, choice))
        labels = names
        if K > MAX_CLASSES:
            self._class = select(classes)
            on_value(self._class, self._update)
            top.append(labelled("one class", self._class))
            labels = ["its weight"]
        for k in range(len(labels)):
            control = slider(0, 1, 0.01, f"weight of class {names[k]}")
            on_value(control, partial(self._to_weight, control, k))
            self._weight_sliders.append(control)
        self._shares = text_box(width=52 if K <= MAX_CLASSES else 120, margin=0)
        self._largest = text_box(margin=0, visible=K > MAX_CLASSES)
        return column(
            *top,
            slider_table(labels, self._weight_sliders, self._shares),
            self._largest,
            name="weights",
            sizing_mode="stretch_width",
        )

    def _latent_part(self) -> Column:
        names = self.space.names
        self._sliders = [slider(-SPAN, SPAN, 0.05, name) for name in names]
        for direction, control in enumerate(self._sliders):
            on_value(control, partial(self._to_along, control, direction))
        self._values = text_box(width=124, margin=0)
        labels, sliders = list(names), list(self._sliders)
        parts: list[Any] = []
        self._entry_slider: Slider | None = None
        if not self.space.by_entry:
            self._entry = select([(str(e), f"z{e}") for e in range(self.space.size)], width=90)
            on_value(self._entry, self._update)
            self._entry_slider = slider(-SPAN, SPAN, 0.05, "single entry of z")
            on_value(self._entry_slider, self._to_entry)
            parts = [label("single entry"), self._entry]
            labels, sliders = [*labels, "this entry"], [*sliders, self._entry_slider]
        mean = _button("mean", self._to_mean)
        draw = _button("draw", self._to_draw)
        draw.visible = self.space.has_prior
        return column(
            row(mean, draw, *parts, styles={"flex-wrap": "wrap"}),
            slider_table(labels, sliders, self._values),
            self._error,
            name="latent",
            sizing_mode="stretch_width",
        )

    # -- values --------------------------------------------------------------------------------

    def _slider_values(self, decoded: Decoded) -> list[tuple[Slider, float]]:
        """The value of each slider at a point."""
        pairs: list[tuple[Slider, float]] = []
        if self.space.factors:
            weights = self.space.weights_of(decoded.point, "")
            shown = weights if self._classes <= MAX_CLASSES else weights[[self._chosen]]
            pairs += zip(self._weight_sliders, shown, strict=True)
        pairs += zip(self._sliders, decoded.along.clip(-SPAN, SPAN), strict=True)
        if self._entry_slider is not None:
            offset = decoded.point.offset[int(self._entry.value)]
            pairs.append((self._entry_slider, np.clip(offset, -SPAN, SPAN)))
        return [(control, float(value)) for control, value in pairs]

    def _value_lines(self, decoded: Decoded) -> str:
        pairs = list(zip(decoded.along, decoded.values, strict=True))
        if self._entry_slider is not None:
            entry = int(self._entry.value)
            pairs.append((decoded.point.offset[entry], decoded.z[entry]))
        return html_lines([f"{along:+.2f} s.d. = {z:.2f}" for along, z in pairs], right=True)

    def _share_lines(self, weights: Array) -> str:
        if self._classes <= MAX_CLASSES:
            return html_lines([f"{share:.2f}" for share in weights], right=True)
        return html_lines([f"{weights[self._chosen]:.2f} of 1"], right=True)

    def _largest_line(self, weights: Array) -> str:
        names = self.view.value_names()[""]
        order = np.argsort(-weights, kind="stable")[:4]
        largest = [f"{short_name(names[k])} {weights[k]:.2f}" for k in order if weights[k] >= 0.005]
        return html_lines([f"largest: {', '.join(largest)}"])

    # -- callbacks -----------------------------------------------------------------------------

    def _to_weight(self, control: Slider, k: int, new: float) -> None:
        if not self._silent:
            k = k if self._classes <= MAX_CLASSES else self._chosen
            weights = with_weight(self.space.weights_of(self.point, ""), k, new)
            self._set_weights("", weights, control)

    def _to_vertex(self, new: str) -> None:
        if not self._silent and new != AS_SET:
            k = None if new == UNIFORM else int(new.partition(":")[0])
            self._set_weights("", _weights(k, self._classes), self._vertex)

    def _to_factor(self, factor: str, names: list[str], new: str) -> None:
        k = None if new == UNDECIDED else names.index(new)
        self._set_weights(factor, _weights(k, len(names)), None)

    def _set_weights(self, factor: str, weights: Array, mover: object) -> None:
        self._go(self.space.with_weights(self.point, factor, weights), mover)

    def _to_along(self, control: Slider, direction: int, new: float) -> None:
        if not self._silent:
            self._go(self.space.shifted(self.point, direction, float(new)), control)

    def _to_entry(self, new: float) -> None:
        if not self._silent:
            offset = self.point.offset.copy()
            offset[int(self._entry.value)] = new
            self._go(LatentPoint(self.point.weights, offset), self._entry_slider)

    def _to_mean(self) -> None:
        self._go(LatentPoint(self.point.weights, np.zeros(self.space.size)), None)

    def _to_draw(self) -> None:
        noise = self._generator.standard_normal(self.space.size)
        self._go(self.space.sample(self.point.weights, noise), None)

    def _update(self, _new: str) -> None:
        """Set the slider of another class or entry."""
        self._go(self.point, None)


def _weights(k: int | None, K: int) -> Array:
    """(K,) all weight on class k; None: uniform."""
    return np.full(K, 1 / K) if k is None else np.eye(K)[k]


def _button(text: str, callback: Callable[[], None]) -> Button:
    button = Button(label=text, width=60, stylesheets=[SMALL], margin=(2, 6, 4, 0))
    button.on_click(callback)
    return button


def _set_text(box: Div, text: str) -> None:
    if box.text != text:
        box.text = text
