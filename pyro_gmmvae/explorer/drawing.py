"""Rows drawn by Bokeh: one large, and several small ones beside each other."""

from collections.abc import Sequence
from typing import Any, Protocol

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

from pyro_gmmvae.explorer.pictures import AnyPictures, Images, Poses, Profiles
from pyro_gmmvae.explorer.widgets import LINES, SMALL, markup, plain, shortened

Array = np.ndarray[Any, Any]
SIDE = 346  # pixels
FRAMES_PER_SECOND = 15
MAX_TICKS, MAX_DOTS = 16, 200
BLUE = "#0072B2"


class Picture(Protocol):
    """One row, drawn large.

    Attributes:
        model: the part of the page.
        scripts: for the browser, run once the page is ready.
    """

    model: Any
    scripts: Sequence[CustomJS]

    def show(self, picture: Array) -> None: ...


def picture_of(pictures: AnyPictures) -> Picture:
    """The drawing that suits the rows."""
    if isinstance(pictures, Images):
        return ImagePicture(pictures)
    if isinstance(pictures, Poses):
        return PosePicture(pictures)
    return ProfilePicture(pictures)


def _bare(width: int, height: int, x: tuple[float, float], y: tuple[float, float]) -> Any:
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


def _gray(plot: Any, pictures: Images, **where: Any) -> None:
    if pictures.schema.kind.x_shape[0] in (3, 4) and not pictures.frames:
        plot.image_rgba(image="image", **where)
        return
    palette = Viridis256 if pictures.frames else tuple(reversed(Greys256))
    plot.image(image="image", color_mapper=LinearColorMapper(palette, low=0, high=1), **where)


class ImagePicture:
    """Pixels, each a square."""

    def __init__(self, pictures: Images) -> None:
        height, width = pictures.shape
        scale = SIDE / max(height, width)
        sides = (round(width * scale), round(height * scale))
        if pictures.frames:
            sides = (SIDE, min(SIDE, max(160, 14 * height)))
        self.model = _bare(*sides, (0, width), (height, 0))
        self.source = ColumnDataSource({"image": []}, name="decoded")
        _gray(self.model, pictures, x=0, y=0, dw=width, dh=height, source=self.source)
        self.model.outline_line_color = "#dde1e4"
        self.scripts: Sequence[CustomJS] = ()

    def show(self, picture: Array) -> None:
        self.source.data = {"image": [picture]}


class ProfilePicture:
    """A line over the entries."""

    def __init__(self, pictures: Profiles) -> None:
        self.pictures = pictures
        D = len(pictures.names)
        self.model = figure(
            height=300,
            sizing_mode="stretch_width",
            x_range=Range1d(-0.5, D - 0.5),
            y_range=Range1d(pictures.low, pictures.high),
            toolbar_location=None,
            tools="",
            min_border_left=30,
        )
        self.source = ColumnDataSource(
            {"at": [], "value": [], "name": [], "own": []}, name="decoded"
        )
        self.model.line("at", "value", color=BLUE, line_width=1.6, source=self.source)
        dots = self.model.scatter(
            "at", "value", color=BLUE, size=5 if D <= MAX_DOTS else 2, source=self.source
        )
        tips = [("", "@name"), ("in the file's units", "@own{0.000a}")]
        self.model.add_tools(HoverTool(renderers=[dots], tooltips=tips))
        if D <= MAX_TICKS:
            self.model.xaxis.ticker = list(range(D))
            self.model.xaxis.major_label_overrides = {
                n: plain(name) for n, name in enumerate(pictures.names)
            }
            self.model.xaxis.major_label_orientation = 0.9
        self.model.outline_line_color = "#dde1e4"
        self.scripts: Sequence[CustomJS] = ()

    def show(self, picture: Array) -> None:
        rows = picture.reshape(1, *self.pictures.schema.kind.x_shape).astype(np.float32)
        self.source.data = {
            "at": np.arange(len(picture)),
            "value": picture,
            "name": list(self.pictures.names),
            "own": self.pictures.in_file_units(rows)[0],
        }


class PosePicture:
    """Bones; where rows hold frames, the browser plays them."""

    def __init__(self, pictures: Poses) -> None:
        self.pictures = pictures
        (left, low), (right, high) = pictures.low, pictures.high
        scale = SIDE / max(right - left, high - low)
        size = round((right - left) * scale), round((high - low) * scale)
        y = (high, low) if pictures.y_down else (low, high)
        plot = _bare(max(size[0], 80), max(size[1], 80), (left, right), y)
        ends = ("x0", "y0", "x1", "y1")
        # all frames come at once; the one that is seen is the browser's own affair
        self.source = ColumnDataSource({end: [] for end in ends}, name="decoded")
        shown = ColumnDataSource({end: [] for end in ends}, syncable=False)
        plot.segment(*ends, color=BLUE, line_width=3, line_cap="round", source=shown)
        for x, y_end in (("x0", "y0"), ("x1", "y1")):
            plot.scatter(x, y_end, size=6, color=BLUE, line_color="white", source=shown)
        play = Toggle(
            label="playing", active=True, width=80, stylesheets=[SMALL], margin=(4, 0, 0, 0)
        )
        play.js_on_change(
            "active", CustomJS(code="cb_obj.label = cb_obj.active ? 'playing' : 'paused'")
        )
        arguments = {"film": self.source, "shown": shown, "play": play}
        draw = """
            const frames = film.data.x0.length
            if (frames == 0) return
            const at = (film.frame ?? 0) % frames
            const data = {}
            for (const end of ["x0", "y0", "x1", "y1"]) data[end] = film.data[end][at]
            shown.data = data
        """
        self.source.js_on_change("data", CustomJS(args=arguments, code=draw))
        start = CustomJS(
            args=arguments,
            code=f"""
            const step = () => {{
              if (play.active && film.data.x0.length > 1) film.frame = (film.frame ?? 0) + 1
              else if (film.drawn) return
              film.drawn = true
              {draw}
            }}
            step()
            setInterval(step, {1000 / FRAMES_PER_SECOND})
            """,
        )
        plot.align = "center"
        self.model = column(plot, play, sizing_mode="stretch_width")
        self._play = play
        self.scripts: Sequence[CustomJS] = (start,)

    def show(self, picture: Array) -> None:
        self._play.visible = len(picture) > 1
        x, y = self.pictures.lines(picture)
        self.source.data = {
            "x0": list(x[..., 0]),
            "y0": list(y[..., 0]),
            "x1": list(x[..., 1]),
            "y1": list(y[..., 1]),
        }


class NearestRows:
    """Several rows, drawn small, with captions."""

    count = 8

    def __init__(self, pictures: AnyPictures) -> None:
        self.pictures = pictures
        self._title = Div(
            text="<b>Nearest rows</b><br>Click into the map.",
            stylesheets=[LINES],
            disable_math=True,
            margin=(0, 0, 4, 0),
        )
        self._plot = _bare(464, 104, (0, self.count), (1.75, 0))
        self._captions = ColumnDataSource({"x": [], "text": []})
        self._plot.text(
            "x",
            1.06,
            text="text",
            text_align="center",
            text_baseline="top",
            text_font_size="9.5px",
            text_color="#444444",
            source=self._captions,
        )
        self._cells = ColumnDataSource({})
        if isinstance(pictures, Images):
            self._cells.data = {key: [] for key in ("image", "x", "y", "dw", "dh")}
            _gray(self._plot, pictures, x="x", y="y", dw="dw", dh="dh", source=self._cells)
        else:
            self._cells.data = {"xs": [], "ys": []}
            self._plot.multi_line("xs", "ys", color=BLUE, line_width=1.2, source=self._cells)
        self.model: Column = column(
            self._title, self._plot, name="near", sizing_mode="stretch_width"
        )

    def show(self, title: str, rows: Array, captions: list[str]) -> None:
        """Draw rows (n, *x_shape) of the model's units; the first ``count``."""
        rows, captions = rows[: self.count], captions[: self.count]
        self._title.text = f"<b>{markup(title)}</b>"
        drawn = self.pictures(rows)
        if isinstance(self.pictures, Images):
            self._cells.data = _image_cells(drawn)
        elif isinstance(self.pictures, Poses):
            self._cells.data = _pose_cells(self.pictures, drawn)
        else:
            self._cells.data = _profile_cells(self.pictures, drawn)
        self._captions.data = {
            "x": np.arange(len(captions)) + 0.5,
            "text": ["\n".join(shortened(plain(t), 10) for t in c.split("\n")) for c in captions],
        }


def _image_cells(images: Array) -> dict[str, Any]:
    height, width = images.shape[1:3]
    scale = 0.9 / max(height, width)
    dw, dh = width * scale, height * scale
    n = len(images)
    return {
        "image": list(images),
        "x": np.arange(n) + (1 - dw) / 2,
        "y": np.full(n, (1 - dh) / 2),
        "dw": np.full(n, dw),
        "dh": np.full(n, dh),
    }


def _profile_cells(pictures: Profiles, values: Array) -> dict[str, Any]:
    across = np.linspace(0.06, 0.94, values.shape[1])
    up = 1 - (values - pictures.low) / (pictures.high - pictures.low)
    return {
        "xs": [n + across for n in range(len(values))],
        "ys": list(0.05 + 0.9 * up.clip(0, 1)),
    }


def _pose_cells(pictures: Poses, poses: Array) -> dict[str, Any]:
    """The middle frame of each."""
    middle = poses[:, poses.shape[1] // 2]
    x, y = pictures.lines(middle)  # (n, E, 2)
    size = float((pictures.high - pictures.low).max())
    center = (pictures.high + pictures.low) / 2
    sign = 1 if pictures.y_down else -1
    xs = (x - center[0]) / size * 0.9 + 0.5 + np.arange(len(x))[:, None, None]
    ys = sign * (y - center[1]) / size * 0.9 + 0.5
    return {"xs": list(xs.reshape(-1, 2)), "ys": list(ys.reshape(-1, 2))}
