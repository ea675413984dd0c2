"""The map: a scatter of the data's z, with the components and the current point."""

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
)
from bokeh.plotting import figure

from pyro_gmmvae.explorer.view import ExplorerView
from pyro_gmmvae.explorer.widgets import on_value, plain, select, short_name, shortened
from pyro_gmmvae.figures.skeleton_animation import COLORS

Array = np.ndarray[Any, Any]
MARKERS = ("circle", "triangle", "square", "diamond", "inverted_triangle", "star", "hex", "plus")
UNKNOWN = "unknown"
MAX_LEGEND = 20
GRAY = "#9a9a9a"
TRUE, PREDICTED = "true label", "predicted class"


def class_styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A color and a marker for each name; further names repeat the colors with other markers."""
    styles = {
        name: (COLORS[n % len(COLORS)], MARKERS[n // len(COLORS) % len(MARKERS)])
        for n, name in enumerate(names)
    }
    return styles | {UNKNOWN: (GRAY, "circle")}


class LatentMap:
    """The scatter of z, which can be clicked.

    Args:
        view: the run and its data.
        clicked: called with the point (2,) of a click, and whether to take the class weights of
            the nearest row.
    """

    def __init__(self, view: ExplorerView, clicked: Callable[[Array, bool], None]) -> None:
        self.view, self._clicked = view, clicked
        points = view.points
        choices = [TRUE] * any(points.truth) + [PREDICTED] * bool(points.predicted)
        if view.run.config.labels == 0:  # the fit saw no labels
            choices.reverse()
        self._color_by = select(choices or [UNKNOWN], width=130)
        self._color_by.visible = len(choices) > 1
        on_value(self._color_by, self._recolor)
        self._weights = RadioGroup(
            labels=["weights of the nearest row", "as the sliders"],
            active=0,
            inline=True,
            stylesheets=[":host { font-size: 12px; } .bk-input-group { flex-wrap: wrap; }"],
            visible=bool(view.space.factors),
            margin=(6, 0, 0, 0),
        )
        self._styles = class_styles(self._classes())
        self._source = ColumnDataSource(self._columns())
        self._position = ColumnDataSource({"x": [], "y": []}, name="position")
        plot = self._figure()
        self._dots = self._scatter(plot)
        self._components(plot)
        for width, color in ((5, "white"), (2.5, "black")):
            plot.scatter(
                "x",
                "y",
                size=15,
                fill_color=None,
                line_color=color,
                line_width=width,
                level="overlay",
                source=self._position,
            )
        self._legend = _legend()
        self._legend.items = self._legend_items()
        plot.add_layout(self._legend, "right")
        self.model: Column = column(
            plot,
            row(self._color_by, self._weights, styles={"flex-wrap": "wrap"}),
            name="map",
            sizing_mode="stretch_width",
        )

    def _figure(self) -> Any:
        names = self.view.projection.names
        plot = figure(
            name="scatter",
            height=404,
            sizing_mode="stretch_width",
            tools="pan,wheel_zoom,box_zoom,reset",
            active_scroll=None,
            toolbar_location="above",
            # fixed ranges, so that moving the ring does not read all points
            x_range=Range1d(*self._limits(0)),
            y_range=Range1d(*self._limits(1)) if names[1] else Range1d(-1, 1),
            x_axis_label=names[0],
            y_axis_label=names[1] or None,
        )
        plot.toolbar.logo = None
        plot.yaxis.visible = bool(names[1])
        plot.outline_line_color = "#dde1e4"
        plot.grid.grid_line_color = "#eeeeee"
        plot.on_event(Tap, self._tapped)
        return plot

    def _limits(self, axis: int) -> tuple[float, float]:
        """The range of the points and ellipses, with a margin."""
        outlines = [component.outline for component in self.view.components]
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

    def show_position(self, at: Array) -> None:
        """Move the ring to a point (2,)."""
        y = at[1] if self.view.projection.names[1] else 0.0
        self._position.data = {"x": [at[0]], "y": [y]}

    def _classes(self) -> list[str]:
        """All names that color a point, in the order of the classes."""
        points = self.view.points
        present = {*points.truth, *points.predicted}
        components = self.view.run.class_names() if points.predicted else []
        order = dict.fromkeys([*self.view.run.schema.classes, *components])
        return [name for name in order if name in present]

    def _point_names(self) -> list[str]:
        """The name that colors each point."""
        points = self.view.points
        names = points.predicted if self._color_by.value == PREDICTED else points.truth
        return [name or UNKNOWN for name in names]

    def _legend_items(self) -> list[LegendItem]:
        """An item per name, in the order of the classes; too many names have no legend."""
        names = self._point_names()
        present = [name for name in self._styles if name in set(names)]
        if not 1 < len(present) <= MAX_LEGEND:
            return []
        return [
            LegendItem(
                label=value(shortened(plain(name), 14)),
                renderers=[self._dots],
                index=names.index(name),
            )
            for name in present
        ]

    def _columns(self) -> dict[str, Any]:
        points, names = self.view.points, self._point_names()
        styles = [self._styles[name] for name in names]
        return {
            "x": points.at[:, 0],
            "y": points.at[:, 1],
            "color": [color for color, _ in styles],
            "marker": [marker for _, marker in styles],
            "caption": list(points.captions),
            "truth": [name or "-" for name in points.truth],
            "predicted": list(points.predicted or ["-"] * len(names)),
        }

    def _components(self, plot: Any) -> None:
        components = self.view.components
        if not components:
            return
        plot.multi_line(
            [component.outline[:, 0] for component in components],
            [component.outline[:, 1] for component in components],
            color=[self._styles.get(c.name, ("#444444", ""))[0] for c in components],
            line_width=1.6,
        )
        plot.text(
            [component.center[0] for component in components],
            [component.center[1] for component in components],
            text=[shortened(plain(short_name(c.name)), 14) for c in components],
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

    def _recolor(self, _new: str) -> None:
        self._source.data = self._columns()
        self._legend.items = self._legend_items()

    def _tapped(self, event: Tap) -> None:
        if event.x is not None and event.y is not None:
            y = event.y if self.view.projection.names[1] else 0.0
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
