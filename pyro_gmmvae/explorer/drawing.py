"""Bokeh plots of rows by kind: one large row, and several small ones side by side.

The geometry of a cell (pixels, lines, bones) comes from the renderers of
:mod:`pyro_gmmvae.figures.cell_renderer`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from bokeh.layouts import column
from bokeh.models import (
    Column,
    ColumnDataSource,
    CustomJS,
    Div,
    HoverTool,
    LinearColorMapper,
    Range1d,
    Toggle,
)
from bokeh.palettes import Greys256, Viridis256
from bokeh.plotting import figure

from pyro_gmmvae.explorer.widgets import SMALL, markup, plain, shortened, text_box
from pyro_gmmvae.figures.cell_renderer import (
    CellRenderer,
    ImageCells,
    ProfileCells,
    SkeletonCells,
    renderer_of,
)
from pyro_gmmvae.figures.style import BLUE
from pyro_gmmvae.runs.schema import Schema

Array = np.ndarray[Any, Any]
Renderer = TypeVar("Renderer", bound=CellRenderer)
SIDE = 346  # pixels of a large plot
FRAMES_PER_SECOND = 15
MAX_TICKS, MAX_DOTS = 16, 200
EXTENT = (0.5, 99.5)  # percentiles: a few outliers must not flatten all profiles
OUTLINE = "#dde1e4"
ENDS = ("x0", "y0", "x1", "y1")  # of a bone
MEAN = "The mean of p(x|z,s)"
DRAW_FRAME = """
    const count = frames.data.x0.length
    if (count == 0) return
    const at = (frames.at ?? 0) % count
    const data = {}
    for (const end of ["x0", "y0", "x1", "y1"]) data[end] = frames.data[end][at]
    frame.data = data
"""
PLAY_FRAMES = f"""
    const step = () => {{
      if (play.active && frames.data.x0.length > 1) frames.at = (frames.at ?? 0) + 1
      else if (frames.drawn) return
      frames.drawn = true
      {DRAW_FRAME}
    }}
    step()
    setInterval(step, {1000 / FRAMES_PER_SECOND})
"""


class RowPlot(ABC, Generic[Renderer]):
    """A plot of one row, and glyphs for small ones, on one scale.

    Args:
        schema: of the run.
        renderer: of rows in the file's units.

    Attributes:
        noun: the name of a drawn row.
        help: a sentence about the plot.
        model: the plot, a part of the page.
        scripts: for the browser, run once the page is ready.
    """

    noun: str
    help = f"{MEAN}."
    model: Any
    scripts: Sequence[CustomJS] = ()

    def __init__(self, schema: Schema, renderer: Renderer) -> None:
        self.schema, self.renderer = schema, renderer

    @abstractmethod
    def cells(self, rows: Array) -> Array:
        """Rows (N, *x_shape) in the model's units as :meth:`show` takes them; for any thread."""

    @abstractmethod
    def show(self, cell: Array) -> None:
        """Draw one row."""

    def add_small(self, strip: Any) -> ColumnDataSource:
        """Add glyphs to a plot where row n has the unit square at (n, 0), y downwards."""
        source = ColumnDataSource({"xs": [], "ys": []})
        strip.multi_line("xs", "ys", color=BLUE, line_width=1.2, source=source)
        return source

    @abstractmethod
    def small_data(self, rows: Array) -> dict[str, Any]:
        """Data of these glyphs for rows (N, *x_shape) in the model's units."""


class ImagePlot(RowPlot[ImageCells]):
    """Images, or series as images with the frames from left to right; pixels are squares."""

    noun = "image"

    def __init__(self, schema: Schema, renderer: ImageCells) -> None:
        super().__init__(schema, renderer)
        cell = self.cells(np.zeros((1, *schema.kind.x_shape)))[0]
        self._shape, self._is_rgba = cell.shape, cell.dtype == np.uint32
        height, width = cell.shape
        scale = SIDE / max(height, width)
        sides = (round(width * scale), round(height * scale))
        if renderer.series:
            self.noun = "series"
            self.help = f"{MEAN}, a line per entry; time runs to the right."
            sides = (SIDE, min(SIDE, max(160, 14 * height)))
        self.model = _bare(*sides, (0, width), (height, 0))
        self.model.outline_line_color = OUTLINE
        self._source = ColumnDataSource({"image": []}, name="decoded")
        self._add_images(self.model, self._source, x=0, y=0, dw=width, dh=height)

    def cells(self, rows: Array) -> Array:
        """(N, H, W): values from 0 to 1, or colors as bytes R, G, B, A."""
        pixels = self.renderer.pixels(self.schema.transform.invert(rows)).astype(np.float32)
        return _rgba(pixels) if pixels.ndim == 4 else pixels

    def show(self, cell: Array) -> None:
        self._source.data = {"image": [cell]}

    def add_small(self, strip: Any) -> ColumnDataSource:
        source = ColumnDataSource({key: [] for key in ("image", "x", "y", "dw", "dh")})
        self._add_images(strip, source, x="x", y="y", dw="dw", dh="dh")
        return source

    def small_data(self, rows: Array) -> dict[str, Any]:
        height, width = self._shape
        scale, n = 0.9 / max(height, width), len(rows)
        dw, dh = width * scale, height * scale
        return {
            "image": list(self.cells(rows)),
            "x": np.arange(n) + (1 - dw) / 2,
            "y": np.full(n, (1 - dh) / 2),
            "dw": np.full(n, dw),
            "dh": np.full(n, dh),
        }

    def _add_images(self, plot: Any, source: ColumnDataSource, **box: Any) -> None:
        if self._is_rgba:
            plot.image_rgba(image="image", source=source, **box)
            return
        palette = Viridis256 if self.renderer.series else tuple(reversed(Greys256))
        mapper = LinearColorMapper(palette, low=0, high=1)
        plot.image(image="image", color_mapper=mapper, source=source, **box)


class ProfilePlot(RowPlot[ProfileCells]):
    """A line over the entries of a row, in the model's units on a common scale.

    Args:
        schema, renderer: as for :class:`RowPlot`.
        rows: (N, *x_shape) in the model's units, whose values range over the scale.
    """

    noun = "profile"

    def __init__(self, schema: Schema, renderer: ProfileCells, rows: Array) -> None:
        super().__init__(schema, renderer)
        low, high, unit = 0.0, 1.0, "probability"
        if schema.likelihood.family != "bernoulli":
            unit = "share of the largest value"
        if not schema.likelihood.bounded:
            low, high = (float(edge) for edge in np.nanpercentile(rows, EXTENT))
            margin = 0.1 * (high - low) + 1e-6
            low, high, unit = low - margin, high + margin, "s.d. from the training rows' mean"
        self.help = f"{MEAN}, in {unit}. Hover for the file's units."
        self._names = schema.kind.entry_names
        D = len(self._names)
        self.model = figure(
            height=300,
            sizing_mode="stretch_width",
            x_range=Range1d(-0.5, D - 0.5),
            y_range=Range1d(low, high),
            toolbar_location=None,
            tools="",
            min_border_left=30,
            outline_line_color=OUTLINE,
        )
        keys = ("at", "value", "name", "in_file_units")
        self._source = ColumnDataSource({key: [] for key in keys}, name="decoded")
        self.model.line("at", "value", color=BLUE, line_width=1.6, source=self._source)
        dots = self.model.scatter(
            "at", "value", color=BLUE, size=5 if D <= MAX_DOTS else 2, source=self._source
        )
        tips = [("", "@name"), ("in the file's units", "@in_file_units{0.000a}")]
        self.model.add_tools(HoverTool(renderers=[dots], tooltips=tips))
        if D <= MAX_TICKS:
            self.model.xaxis.ticker = list(range(D))
            labels = {n: plain(name) for n, name in enumerate(self._names)}
            self.model.xaxis.major_label_overrides = labels
            self.model.xaxis.major_label_orientation = 0.9

    def cells(self, rows: Array) -> Array:
        """(N, D) in the model's units."""
        return rows.reshape(len(rows), -1).astype(np.float64)

    def in_file_units(self, cells: Array) -> Array:
        """(N, D) in the file's units."""
        rows = cells.reshape(-1, *self.schema.kind.x_shape).astype(np.float32)
        return self.schema.transform.invert(rows).reshape(len(rows), -1).astype(np.float64)

    def show(self, cell: Array) -> None:
        self._source.data = {
            "at": np.arange(len(cell)),
            "value": cell,
            "name": list(self._names),
            "in_file_units": self.in_file_units(cell[None])[0],
        }

    def small_data(self, rows: Array) -> dict[str, Any]:
        return _lines(self.renderer.lines(self.schema.transform.invert(rows))[:, None])


class SkeletonPlot(RowPlot[SkeletonCells]):
    """A stick figure; where rows hold frames, the browser plays them."""

    noun = "skeleton"

    def __init__(self, schema: Schema, renderer: SkeletonCells) -> None:
        super().__init__(schema, renderer)
        width, height = renderer.inches
        self._aspect = width / height
        plot = _bare(round(SIDE * self._aspect), SIDE, (0, 1), (1, 0))
        plot.align = "center"
        # the source holds all frames, and the browser copies one of them at a time
        self._source = ColumnDataSource({end: [] for end in ENDS}, name="decoded")
        frame = ColumnDataSource({end: [] for end in ENDS}, syncable=False)
        plot.segment(*ENDS, color=BLUE, line_width=3, line_cap="round", source=frame)
        for x, y in (ENDS[:2], ENDS[2:]):
            plot.scatter(x, y, size=6, color=BLUE, line_color="white", source=frame)
        self._play = Toggle(
            label="playing", active=True, width=80, stylesheets=[SMALL], margin=(4, 0, 0, 0)
        )
        self._play.js_on_change(
            "active", CustomJS(code="cb_obj.label = cb_obj.active ? 'playing' : 'paused'")
        )
        objects = {"frames": self._source, "frame": frame, "play": self._play}
        self._source.js_on_change("data", CustomJS(args=objects, code=DRAW_FRAME))
        self.scripts = (CustomJS(args=objects, code=PLAY_FRAMES),)
        self.model = column(plot, self._play, sizing_mode="stretch_width")

    def cells(self, rows: Array) -> Array:
        """(N, T, bones, 2 ends, 2) in the unit square, y downwards; NaN where a joint is missing.

        T is 1 for a mean pose.
        """
        poses = self.renderer.poses(self.schema.transform.invert(rows))[..., :2]
        return self.renderer.bones(poses).astype(np.float64)

    def show(self, cell: Array) -> None:
        self._play.visible = len(cell) > 1
        coordinates = cell.reshape(*cell.shape[:2], len(ENDS))
        self._source.data = {end: list(coordinates[..., n]) for n, end in enumerate(ENDS)}

    def small_data(self, rows: Array) -> dict[str, Any]:
        cells = self.cells(rows)
        middle = cells[:, cells.shape[1] // 2]
        return _lines((middle - 0.5) * [self._aspect, 1] + 0.5)


def row_plot(schema: Schema, rows: Array) -> RowPlot[Any]:
    """The plot that suits the rows of a run.

    Args:
        schema: of the run.
        rows: (N, *x_shape) in the model's units, whose values range over the scale.
    """
    shown = rows
    if schema.likelihood.bounded:  # rows range from 0 to 1
        shown = np.concatenate([rows, np.zeros_like(rows[:1]), np.ones_like(rows[:1])])
    renderer = renderer_of(schema.kind, schema.transform.invert(shown))
    if isinstance(renderer, SkeletonCells):
        return SkeletonPlot(schema, renderer)
    if isinstance(renderer, ImageCells):
        return ImagePlot(schema, renderer)
    assert isinstance(renderer, ProfileCells)
    return ProfilePlot(schema, renderer, rows)


class NearestRows:
    """Several small rows with captions.

    Args:
        plot: draws the rows.
    """

    count = 8

    def __init__(self, plot: RowPlot[Any]) -> None:
        self._row_plot = plot
        self._title: Div = text_box("<b>Nearest rows</b><br>Click on the map.", margin=(0, 0, 4, 0))
        strip = _bare(464, 104, (0, self.count), (1.75, 0))
        self._captions = ColumnDataSource({"x": [], "text": []})
        strip.text(
            "x",
            1.06,
            text="text",
            text_align="center",
            text_baseline="top",
            text_font_size="9.5px",
            text_color="#444444",
            source=self._captions,
        )
        self._cells = self._row_plot.add_small(strip)
        self.model: Column = column(self._title, strip, name="near", sizing_mode="stretch_width")

    def show(self, title: str, rows: Array, captions: list[str]) -> None:
        """Draw rows (n, *x_shape) in the model's units; the first ``count``."""
        rows, captions = rows[: self.count], captions[: self.count]
        self._title.text = f"<b>{markup(title)}</b>"
        self._cells.data = self._row_plot.small_data(rows)
        self._captions.data = {
            "x": np.arange(len(captions)) + 0.5,
            "text": ["\n".join(shortened(plain(t), 10) for t in c.split("\n")) for c in captions],
        }


def _bare(width: int, height: int, x: tuple[float, float], y: tuple[float, float]) -> Any:
    """A plot without axes that shrinks with the page."""
    plot = figure(
        width=width,
        height=height,
        max_width=width,
        sizing_mode="scale_width",
        x_range=Range1d(*x),
        y_range=Range1d(*y),
        toolbar_location=None,
        tools="",
        min_border=0,
        outline_line_color=None,
    )
    plot.axis.visible = False
    plot.grid.visible = False
    return plot


def _lines(cells: Array) -> dict[str, Any]:
    """Lines (N, lines, points, 2) in unit squares, those of row n moved to (n, 0)."""
    xs = cells[..., 0] + np.arange(len(cells))[:, None, None]
    points = cells.shape[2]
    return {"xs": list(xs.reshape(-1, points)), "ys": list(cells[..., 1].reshape(-1, points))}


def _rgba(pixels: Array) -> Array:
    """(N, H, W, 3 or 4) from 0 to 1, or NaN -> (N, H, W) uint32 of bytes R, G, B, A."""
    if pixels.shape[-1] == 3:
        pixels = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)
    missing = np.isnan(pixels).any(-1, keepdims=True)  # no color at all
    colors = np.ascontiguousarray((np.where(missing, 0, pixels) * 255).round().astype(np.uint8))
    return colors.view(np.uint32)[..., 0]
