"""Animations of sheets: a still figure, and a GIF that plays forward and backward."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pyro_gmmvae.figures.cell_renderer import Array
from pyro_gmmvae.figures.cell_sheet import Grid
from pyro_gmmvae.figures.fonts import all_letters

GIF_DPI = 90
GIF_COLORS = 32
MILLISECONDS = 80
PAUSE = 4  # frames at each end


@dataclass(frozen=True)
class Animation:
    """A figure to print and a GIF to watch.

    Attributes:
        still: the figure.
        gif: the content of a GIF file.
    """

    still: Figure
    gif: bytes


def ping_pong_gif(grid: Grid, frames: Iterable[Array]) -> bytes:
    """A GIF of a grid whose cells change, forward and then backward, in an endless loop.

    Args:
        grid: all that does not change, with the cells of the first frame.
        frames: (lines, columns, *x_shape) each.
    """
    with all_letters(grid.figure):
        images = _images(grid, frames)
    loop = images + images[-2:0:-1]
    pauses = [MILLISECONDS] * len(loop)
    pauses[0] = pauses[len(images) - 1] = PAUSE * MILLISECONDS
    buffer = io.BytesIO()
    loop[0].save(
        buffer, "GIF", save_all=True, append_images=loop[1:], duration=pauses, loop=0, optimize=True
    )
    return buffer.getvalue()


def _images(grid: Grid, frames: Iterable[Array]) -> list[Any]:
    """The frames as Pillow images of one palette."""
    from PIL import Image

    canvas = FigureCanvasAgg(grid.figure)
    grid.figure.set_dpi(GIF_DPI)
    # the background is drawn once
    grid.drawn.artist.set_animated(True)
    canvas.draw()
    background = canvas.copy_from_bbox(grid.figure.bbox)
    images: list[Any] = []
    palette = None
    for cells in frames:
        grid.update(cells)
        canvas.restore_region(background)
        grid.axes.draw_artist(grid.drawn.artist)
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
        if palette is None:
            palette = _palette(image)
        # one palette without dithering: the background stays the same, and the file small
        images.append(image.quantize(palette=palette, dither=Image.Dither.NONE))
    return images


def _palette(image: Any) -> Any:
    """An image's colors in a palette whose lightest is pure white."""
    palette = image.quantize(GIF_COLORS)
    colors = np.array(palette.getpalette()).reshape(-1, 3)
    colors[colors.sum(1).argmax()] = 255
    palette.putpalette(colors.ravel().tolist())
    return palette
