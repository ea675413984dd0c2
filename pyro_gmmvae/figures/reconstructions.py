"""Test rows beside their reconstructions: the worst, some at random, the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from pyro_gmmvae.figures.cell_renderer import (
    GAP,
    Array,
    CellRenderer,
    ImageCells,
    ProfileCells,
    SkeletonCells,
    Tiles,
    base_line,
    placed,
    renderer_of,
    value_range,
)
from pyro_gmmvae.figures.cell_sheet import Sheet, SheetLabels
from pyro_gmmvae.figures.run_view import RunView
from pyro_gmmvae.figures.style import BLUE, GRAY, VERMILION
from pyro_gmmvae.runs import Run

IMAGES, OTHERS = 6, 4  # rows of a group; profiles and skeletons need more room
SCALE = 1.2  # of the cells


def draw_reconstructions(view: RunView) -> Figure:
    """Test rows of the lowest and the highest ELBO and some at random, with reconstructions.

    Raises:
        NotApplicable: the run has no test rows.
    """
    elbo = view.run.elbo(view.x)
    # a density that underflows is the worst
    order = np.argsort(np.where(np.isfinite(elbo), elbo, -np.inf), kind="stable")
    most = IMAGES if view.x.ndim == 4 else OTHERS
    ends = min(most, max(1, len(order) // 3))
    worst, best = order[:ends], order[ends:][-ends:][::-1]
    between = order[ends : len(order) - len(best)]
    some = np.random.default_rng(0).permutation(between)[:most]
    some = some[np.argsort(elbo[some], kind="stable")]
    places = np.concatenate([worst, some, best]).astype(np.int64)
    symbol = "ELBO" if view.run.has_bound else "log p(x|z)"
    names = view.rows.groups.captions(view.test[places])
    captions = [f"{name}\n{elbo[n]:.1f}" for name, n in zip(names, places, strict=True)]
    starts = (0, len(worst), len(worst) + len(some))
    headings = (f"lowest {symbol}", "at random", f"highest {symbol}")
    sizes = (len(worst), len(some), len(best))
    groups = [(at, text) for at, text, n in zip(starts, headings, sizes, strict=True) if n]
    rows = view.sources[places]
    made = view.run.schema.transform.invert(reconstruct(view.run, view.x[places]))
    unit = "sequence" if view.rows.groups.merges else "row number"
    title = (
        f"{view.name}: reconstructions of {len(places)} of {len(order)} {view.unit}s, decoded at "
        f"posterior means\nbelow each its {unit} and its {symbol} in nats"
    )
    return reconstruction_sheet(
        renderer_of(view.run.schema.kind, rows, made), rows, made, title, captions, groups
    )


@torch.no_grad()
def reconstruct(run: Run, x: torch.Tensor) -> Array:
    """Means of p(x|z,s) at the posterior means of z and s, (N, *x_shape), in the model's units."""
    model, s = run.model, None
    if model.class_conditional:
        log_probs = [model.classify(x), *model.classify_factors(x).values()]
        s = torch.cat([part.exp() for part in log_probs], -1)
    return np.asarray(model.decode(model.embed(x), s, x).cpu().numpy())


def reconstruction_sheet(
    renderer: CellRenderer,
    rows: Array,
    made: Array,
    title: str,
    captions: Sequence[str],
    groups: Sequence[tuple[int, str]],
) -> Figure:
    """A column per row of the data: the row, its reconstruction, and their difference.

    Args:
        renderer: draws rows.
        rows, made: (N, *x_shape) rows and their reconstructions, in the file's units.
        title: above the cells; how differences are drawn is added.
        captions: below each column.
        groups: first column and heading of each group of columns.
    """
    difference = difference_of(renderer, rows, made)
    labels = SheetLabels(
        f"{title}\ndifference: {difference.about}",
        ("row", "reconstruction", "difference"),
        groups=groups,
        captions=([], [], captions),
    )
    sheet = Sheet(renderer, (3, len(rows)), labels, scale=SCALE)
    sheet.draw(np.concatenate([rows, made]), sheet.corners[:2].reshape(-1, 2))
    difference.draw(sheet.axes, sheet.corners[2])
    return sheet.figure


@dataclass(frozen=True)
class ImageDifference:
    """Red where the row is higher, blue where its reconstruction is; channels are averaged.

    Attributes:
        values: (N, H, W) differences; of series in units of the range of each entry.
        limit: value of the darkest red.
        unit: of the values, if it is not the file's.
    """

    values: Array
    limit: float
    unit: str = ""

    @property
    def about(self) -> str:
        """One line on colors and scale."""
        return (
            f"red where the row is higher, blue where it is lower, to {self.limit:.3g}{self.unit}"
        )

    def draw(self, axes: Axes, corners: Array) -> None:
        """Draw all differences into cells with corners (N, 2)."""
        tiles = Tiles(self.values, corners, GAP, blank=np.nan)
        axes.imshow(
            tiles.canvas,
            extent=tiles.extent,
            aspect="auto",
            interpolation="nearest",
            cmap="RdBu_r",
            vmin=-self.limit,
            vmax=self.limit,
        )


@dataclass(frozen=True)
class ProfileDifference:
    """A stem per feature from a line at zero.

    Attributes:
        values: (N, D) differences, in units of each feature's range.
        limit: value at the edge of a cell.
        across: (D,) x of each feature in a cell.
    """

    values: Array
    limit: float
    across: Array

    @property
    def about(self) -> str:
        """One line on the scale."""
        return f"in units of each feature's range, the line at 0, the frame at ±{self.limit:.3g}"

    def draw(self, axes: Axes, corners: Array) -> None:
        """Draw all differences into cells with corners (N, 2)."""
        base_line(axes, corners, 0.5)
        xs = corners[:, :1] + self.across
        zero = np.broadcast_to(corners[:, 1:] + 0.5, xs.shape)
        ys = zero - 0.45 * self.values / self.limit
        axes.vlines(xs.ravel(), zero.ravel(), ys.ravel(), color=VERMILION, linewidth=1.0)
        axes.plot(xs.ravel(), ys.ravel(), linestyle="", marker=".", markersize=3, color=VERMILION)


@dataclass(frozen=True)
class SkeletonDifference:
    """A skeleton with its reconstruction over it, each joint connected to its place there.

    Attributes:
        rows, made: (N, bones, 2 ends, 2) segments in a cell.
        ties: (N, joints, 2 ends, 2) from each joint to its reconstruction.
    """

    rows: Array
    made: Array
    ties: Array
    about: ClassVar[str] = "the row in gray, its reconstruction in blue, how joints moved in orange"

    def draw(self, axes: Axes, corners: Array) -> None:
        """Draw all pairs into cells with corners (N, 2)."""
        for segments, color, width in (
            (self.rows, GRAY, 1.2),
            (self.made, BLUE, 1.2),
            (self.ties, VERMILION, 1.6),
        ):
            lines = LineCollection(placed(segments, corners), colors=color, linewidths=width)
            axes.add_collection(lines, autolim=False)


def difference_of(
    renderer: CellRenderer, rows: Array, made: Array
) -> ImageDifference | ProfileDifference | SkeletonDifference:
    """The differences between rows and reconstructions (N, *x_shape), as a renderer draws rows."""
    if isinstance(renderer, SkeletonCells):
        joints = [renderer.middle_frame(x) for x in (rows, made)]
        ties = np.stack([renderer.joints(x) for x in joints], -2)
        return SkeletonDifference(renderer.bones(joints[0]), renderer.bones(joints[1]), ties)
    apart = (rows - made).astype(np.float64)
    if isinstance(renderer, ImageCells) and renderer.series:
        shares = apart.reshape(len(apart), apart.shape[1], -1) / renderer.span
        return ImageDifference(
            shares.swapaxes(1, 2), _largest(shares), " of the range of each entry"
        )
    if isinstance(renderer, ImageCells):
        return ImageDifference(apart.mean(1), _largest(apart))
    assert isinstance(renderer, ProfileCells)
    flat = rows.reshape(len(rows), -1)
    values = apart.reshape(len(apart), -1) / value_range(flat, 0)[1]
    return ProfileDifference(values, _largest(values), renderer.across())


def _largest(values: Array) -> float:
    """The largest finite absolute value; 1 if there are no finite values."""
    finite = np.abs(values[np.isfinite(values)])
    return max(float(finite.max()), 1e-12) if len(finite) else 1.0
