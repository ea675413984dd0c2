"""Animations of people as stick figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter, PillowWriter
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from pyro_gmmvae.figures.fonts import all_letters

LONGER_SIDE = 6.4  # inches
MARGINS = (0.5, 0.3, 0.12, 0.35)  # inches: left, bottom, right, top
INCHES_PER_LETTER = 0.085
MAX_NAMES = 10
DPI = 100
# of Okabe and Ito, distinguishable with a color vision deficiency; black is for text
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7F7F7F")
EXTENT = (0.2, 99.8)  # percentiles: a few outlying joints must not make everyone small


class SkeletonAnimation:
    """The people of a clip, one color each, in axes that do not move.

    The figure has no window and no global state (it is not pyplot's).

    Args:
        poses: (T, P, J, 2) coordinates, NaN where a joint was not detected or a person is not
            in the frame.
        names: of the P people, listed at the right if they are few.
        edges: bones, as pairs of joint numbers.
        captions: (T,) of the frames.
        title: above the axes, before the caption of the frame.
        y_down: whether y grows downwards, as in an image.
    """

    def __init__(
        self,
        poses: NDArray[Any],
        names: Sequence[str],
        edges: Sequence[tuple[int, int]],
        captions: Sequence[str],
        *,
        title: str = "",
        y_down: bool = True,
    ) -> None:
        self.poses, self.captions, self.title = poses, captions, title
        self._edges = np.array(edges, int).reshape(-1, 2)
        self._colors = np.array(_colors(len(names)))
        low, high = _extent(poses)
        listed = names if len(names) <= MAX_NAMES and list(names) != [title] else ()
        self.figure, self._axes = _canvas(high - low, listed)
        self._axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        if y_down:
            self._axes.invert_yaxis()
        self._bones = LineCollection([], linewidths=2.2, capstyle="round", zorder=2)
        self._axes.add_collection(self._bones, autolim=False)
        self._joints = self._axes.scatter([], [], s=14, linewidths=0.6, edgecolors="w", zorder=3)
        if listed:
            self._list(listed)
        if len(captions):
            self.show(0)

    def show(self, index: int) -> None:
        """Draw the frame of this index into ``figure``."""
        pose = self.poses[index]
        bones = pose[:, self._edges]  # (P, edges, 2 ends, 2)
        person, edge = np.nonzero(np.isfinite(bones).all((2, 3)))
        self._bones.set_segments(list(bones[person, edge]))
        self._bones.set_color(self._colors[person].tolist())
        person, joint = np.nonzero(np.isfinite(pose).all(-1))
        self._joints.set_offsets(pose[person, joint])
        self._joints.set_facecolor(self._colors[person].tolist())
        label = f"{self.title}   {self.captions[index]}".strip()
        self._axes.set_title(label, loc="left", fontsize=9, color="#333333", parse_math=False)

    def save(self, path: Path, fps: int = 25, ffmpeg: str | None = None) -> None:
        """Write all frames as a GIF, or as an mp4 with the program ``ffmpeg``.

        Args:
            path: the file, replaced where it exists.
            fps: frames per second; a GIF rounds the time of a frame to 0.01 s.
            ffmpeg: path of the program; None: a GIF.

        Raises:
            OSError, subprocess.CalledProcessError: the file can't be written.
        """
        settings: dict[Any, str] = {} if ffmpeg is None else {"animation.ffmpeg_path": ffmpeg}
        self.show(0)  # its letters are looked for
        with rc_context(settings), all_letters(self.figure):
            writer: AbstractMovieWriter = PillowWriter(fps=fps)
            if ffmpeg is not None:
                writer = FFMpegWriter(fps=fps, codec="h264")
            with writer.saving(self.figure, str(path), DPI):
                for index in range(len(self.captions)):
                    self.show(index)
                    writer.grab_frame()

    def _list(self, names: Sequence[str]) -> None:
        lines = [Line2D([], [], color=color, linewidth=2.2) for color in self._colors]
        legend = self._axes.legend(
            lines,
            ["-"] * len(names),
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            borderaxespad=0.3,
            handlelength=1.0,
            frameon=False,
            fontsize=8,
        )
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_parse_math(False)  # names may hold dollars, or begin with "_"
            text.set_text(name)


def _colors(count: int) -> list[str]:
    """One color per person; they repeat after twenty."""
    if count <= len(COLORS):
        return list(COLORS[:count])
    many = colormaps["tab20"]
    return [to_hex(many(p % many.N)) for p in range(count)]


def _extent(poses: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lower and upper corner of all poses, with a margin."""
    points = poses[np.isfinite(poses).all(-1)].astype(np.float64)
    if not len(points):
        return np.zeros(2), np.ones(2)
    low, high = np.percentile(points, EXTENT, axis=0)
    size = high - low
    # a vertical line of joints still gets axes with a width
    margin = 0.06 * size + np.maximum(0, 0.5 * size.max() - size) / 2
    margin += 0.5 * (size.max() == 0)
    return low - margin, high + margin


def _canvas(size: NDArray[Any], names: Sequence[str]) -> tuple[Figure, Any]:
    """A figure of an even number of pixels around axes of this shape."""
    left, bottom, right, top = MARGINS
    if names:
        right = 0.35 + INCHES_PER_LETTER * max(len(name) for name in names)
    width, height = LONGER_SIDE * size / size.max()
    inches = (left + width + right, bottom + height + top)
    figure = Figure(figsize=tuple(2 * round(DPI * side / 2) / DPI for side in inches))
    figure.patch.set_facecolor("white")
    axes = figure.add_axes(
        (left / inches[0], bottom / inches[1], width / inches[0], height / inches[1])
    )
    axes.set_aspect("equal")
    axes.tick_params(labelsize=7, length=2, color="#bbbbbb", labelcolor="#777777")
    axes.grid(color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")
    return figure, axes
