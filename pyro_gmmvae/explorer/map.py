"""The map: where the data's z are, the components, and where the sliders stand."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from bokeh.core.properties import value
from bokeh.events import Tap
from bokeh.layouts import column, row
from bokeh.models import (
    Column,
    ColumnDataSource,
    HoverTool,
    Legend,
    LegendItem,
    RadioGroup,
    Range1d,
    Select,
)
from bokeh.plotting import figure

from pyro_gmmvae.explorer.controls import SMALL
from pyro_gmmvae.explorer.texts import plain, short_name, shortened
from pyro_gmmvae.explorer.view import View
from pyro_gmmvae.figures.skeleton import COLORS

Array = np.ndarray[Any, Any]
MARKERS = ("circle", "triangle", "square", "diamond", "inverted_triangle", "star", "hex", "plus")
UNKNOWN = "unknown"
MOST_LISTED = 20
GRAY = "#9a9a9a"
TRUE, PREDICTED = "true label", "predicted class"


def look_of(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A color and a marker for each name; colors come again with another marker."""
    found = {}
    for n, name in enumerate(names):
        found[name] = COLORS[n % len(COLORS)], MARKERS[n // len(COLORS) % len(MARKERS)]
    return found | {UNKNOWN: (GRAY, "circle")}


class Map:
    """The scatter, and what a click into it does.

    Args:
        view: the run and its data.
        clicked: hears of a point (2,), and whether the class weights are to be those of the row
            nearest to it.
    """

    def __init__(self, view: View, clicked: Callable[[Array, bool], None]) -> None:
        self.view, self._clicked = view, clicked
        points = view.points
        choices = [TRUE] * any(points.truth) + [PREDICTED] * bool(points.predicted)
        if view.run.config.labels == 0:  # components are what such a fit found
            choices.reverse()
        self._by = Select(
            options=choices or [UNKNOWN],
            value=(choices or [UNKNOWN])[0],
            width=130,
            stylesheets=[SMALL],
            margin=(4, 10, 0, 0),
            visible=len(choices) > 1,
        )
        self._by.on_change("value", self._recolor)
        self._weights = RadioGroup(
            labels=["weights of the nearest row", "as the sliders"],
            active=0,
            inline=True,
            stylesheets=[":host { font-size: 12px; }"],
            visible=bool(view.space.sizes),
            margin=(6, 0, 0, 0),
        )
        self._look = look_of(self._classes())
        self._source = ColumnDataSource(self._columns())
        self._marked = ColumnDataSource({"x": [], "y": []})
        self._here = ColumnDataSource({"x": [], "y": []}, name="here")
        plot = self._figure()
        self._dots = self._scatter(plot)
        self._components(plot)
        plot.scatter("x", "y", marker="x", size=8, line_width=2, color="black", source=self._marked)
        for width, color in ((5, "white"), (2.5, "black")):
            plot.scatter(
                "x",
                "y",
                size=15,
                fill_color=None,
                line_color=color,
                line_width=width,
                level="overlay",
                source=self._here,
            )
        self._legend = _legend()
        self._legend.items = self._listed()
        plot.add_layout(self._legend, "right")
        self.model: Column = column(
            plot, row(self._by, self._weights), name="map", sizing_mode="stretch_width"
        )

    def _figure(self) -> Any:
        names = self.view.plane.names
        plot = figure(
            name="scatter",
            height=404,
            sizing_mode="stretch_width",
            tools="pan,wheel_zoom,box_zoom,reset",
            active_scroll=None,
            toolbar_location="above",
            # fixed, so that the ring moves without a look at all points
            x_range=Range1d(*self._ends(0)),
            y_range=Range1d(*self._ends(1)) if names[1] else Range1d(-1, 1),
            x_axis_label=names[0],
            y_axis_label=names[1] or None,
        )
        plot.toolbar.logo = None
        plot.yaxis.visible = bool(names[1])
        plot.outline_line_color = "#dde1e4"
        plot.grid.grid_line_color = "#eeeeee"
        plot.on_event(Tap, self._tapped)
        return plot

    def _ends(self, axis: int) -> tuple[float, float]:
        """Where the points and ellipses begin and end."""
        outlines = [ellipse.outline for ellipse in self.view.ellipses]
        values = np.concatenate([self.view.points.at, *outlines])[:, axis]
        margin = 0.05 * float(np.ptp(values)) or 1.0
        return float(values.min()) - margin, float(values.max()) + margin

    def _scatter(self, plot: Any) -> Any:
        dots = plot.scatter(
            "x",
            "y",
            size=5,
            color="color",
            marker="marker",
            alpha=0.65,
            line_color=None,
            source=self._source,
        )
        tips = [("", "@caption"), ("label", "@truth")]
        tips += [("predicted", "@predicted")] if self.view.points.predicted else []
        plot.add_tools(HoverTool(renderers=[dots], tooltips=tips, limit=1))
        return dots

    def stand(self, point: Array) -> None:
        """Show where the sliders stand."""
        y = point[1] if self.view.plane.names[1] else 0.0
        self._here.data = {"x": [point[0]], "y": [y]}

    def mark(self, points: Array) -> None:
        """Show the rows of a file, (n, 2)."""
        self._marked.data = {"x": points[:, 0], "y": points[:, 1]}

    def _classes(self) -> list[str]:
        """All names that a point can be colored by, in the order of the classes."""
        points = self.view.points
        found = set(points.truth) | set(points.predicted)
        named = self.view.run.class_names() if points.predicted else []
        order = [*self.view.run.schema.classes, *named]
        return [name for name in dict.fromkeys(order) if name in found]

    def _named(self) -> list[str]:
        """What each point is colored by."""
        points = self.view.points
        names = points.predicted if self._by.value == PREDICTED else points.truth
        return [name or UNKNOWN for name in names]

    def _listed(self) -> list[LegendItem]:
        """Lines of the legend in the order of the classes; none where they are too many."""
        names = self._named()
        found = [name for name in self._look if name in set(names)]
        if not 1 < len(found) <= MOST_LISTED:
            return []
        return [
            LegendItem(
                label=value(shortened(plain(name), 14)),
                renderers=[self._dots],
                index=names.index(name),
            )
            for name in found
        ]

    def _columns(self) -> dict[str, Any]:
        points, names = self.view.points, self._named()
        looks = [self._look[name] for name in names]
        return {
            "x": points.at[:, 0],
            "y": points.at[:, 1],
            "color": [color for color, _ in looks],
            "marker": [marker for _, marker in looks],
            "caption": list(points.captions),
            "truth": [name or "-" for name in points.truth],
            "predicted": list(points.predicted or ["-"] * len(names)),
        }

    def _components(self, plot: Any) -> None:
        ellipses = self.view.ellipses
        if not ellipses:
            return
        plot.multi_line(
            [e.outline[:, 0] for e in ellipses],
            [e.outline[:, 1] for e in ellipses],
            color=[self._look.get(e.name, ("#444444", ""))[0] for e in ellipses],
            line_width=1.6,
        )
        plot.text(
            [e.center[0] for e in ellipses],
            [e.center[1] for e in ellipses],
            text=[shortened(plain(short_name(e.name)), 14) for e in ellipses],
            text_align="center",
            text_baseline="middle",
            text_font_size="12px",
            text_font_style="bold",
            text_color="black",
            background_fill_color="white",
            background_fill_alpha=0.75,
            padding=2,
            border_radius=3,
        )

    def _recolor(self, attr: str, old: str, new: str) -> None:  # noqa: ARG002
        self._source.data = self._columns()
        self._legend.items = self._listed()

    def _tapped(self, event: Tap) -> None:
        if event.x is not None and event.y is not None:
            y = event.y if self.view.plane.names[1] else 0.0
            self._clicked(np.array([event.x, y]), self._weights.active == 0)


def _legend() -> Legend:
    return Legend(
        label_text_font_size="11px",
        spacing=0,
        padding=4,
        margin=4,
        border_line_color=None,
        glyph_height=16,
        label_height=14,
    )
