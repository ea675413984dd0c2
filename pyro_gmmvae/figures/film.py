"""A picture that moves: a sheet that stands still, and the same as a GIF."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyro_gmmvae.figures.sheet import Sheet
from pyro_gmmvae.figures.style import boxes_for_missing_letters

GIF_DPI = 90
COLORS_OF_GIF = 32
MILLISECONDS = 80
PAUSE = 4  # frames at each end


@dataclass(frozen=True)
class Film:
    """A sheet to print, and a GIF to watch.

    Attributes:
        sheet: the figure that stands still.
        gif: the bytes of a GIF file.
    """

    sheet: Figure
    gif: bytes


def there_and_back(sheet: Sheet, frames: Iterable[NDArray[Any]]) -> bytes:
    """A GIF of a sheet whose cells change, forward and then back, for ever.

    Args:
        sheet: what is around the cells.
        frames: the cells of each frame, as ``sheet`` was given the first.
    """
    with boxes_for_missing_letters():
        pictures = _pictures(sheet, frames)
    loop = pictures + pictures[-2:0:-1]
    pauses = [MILLISECONDS] * len(loop)
    pauses[0] = pauses[len(pictures) - 1] = PAUSE * MILLISECONDS
    buffer = io.BytesIO()
    loop[0].save(
        buffer, "GIF", save_all=True, append_images=loop[1:], duration=pauses, loop=0, optimize=True
    )
    return buffer.getvalue()


def _pictures(sheet: Sheet, frames: Iterable[NDArray[Any]]) -> list[Any]:
    """The frames as Pillow's images of one palette."""
    from PIL import Image

    canvas = FigureCanvasAgg(sheet.figure)
    sheet.figure.set_dpi(GIF_DPI)
    # what stands still is drawn once
    sheet.artist.set_animated(True)
    canvas.draw()
    behind = canvas.copy_from_bbox(sheet.figure.bbox)
    pictures: list[Any] = []
    palette = None
    for cells in frames:
        sheet.show(cells)
        canvas.restore_region(behind)
        sheet.axes.draw_artist(sheet.artist)
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
        if palette is None:
            palette = _palette(picture)
        # one palette without dithering: what stands still stays the same, and the file small
        pictures.append(picture.quantize(palette=palette, dither=Image.Dither.NONE))
    return pictures


def _palette(picture: Any) -> Any:
    """A picture's colors in a palette whose lightest is pure white, as paper is."""
    found = picture.quantize(COLORS_OF_GIF)
    colors = np.array(found.getpalette()).reshape(-1, 3)
    colors[colors.sum(1).argmax()] = 255
    found.putpalette(colors.ravel().tolist())
    return found
