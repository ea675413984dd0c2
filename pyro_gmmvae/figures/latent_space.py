"""Pictures of the latent space: changed classes, walks between rows, and the plane of z."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from matplotlib.figure import Figure

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures.animation import Animation, ping_pong_gif
from pyro_gmmvae.figures.cell_renderer import Array, CellRenderer, renderer_of
from pyro_gmmvae.figures.cell_sheet import LINE_INCHES, MARGIN, Grid, SheetLabels, bare, page
from pyro_gmmvae.figures.run_view import NotApplicable, RunView
from pyro_gmmvae.figures.style import FAINT, GRAY, SMALL, TEXT, cut

MAX_CLASSES = 20
ROWS = 8  # of analogies, and pairs of rows to walk between
STEPS = 17  # of a walk
STRIDE = 2  # of the steps, those in the still figure
MAX_PANELS, MAX_PANELS_ACROSS = 12, 4
PANEL_INCHES, SINGLE_PANEL_INCHES = 2.6, 6.0
PANEL_GAPS = (0.16, 0.34)  # inches: beside and below a panel
PANEL_CELL_GAP = 0.1  # of a cell
LOWEST = 0.05  # quantile


def draw_analogies(view: RunView) -> Figure:
    """One z per line, decoded as each class from left to right.

    Each z is that of the test row at the left, in standard deviations of p(z|s) of each class;
    without test rows it is drawn.

    Raises:
        NotApplicable: the model has no class, or only one.
    """
    if not view.has_classes:
        raise NotApplicable(f"the model {view.run.config.model!r} has no class to change")
    components, total = view.components(MAX_CLASSES)
    if len(components) < 2:
        raise NotApplicable("analogies need two classes, and the model has one")
    loc, scale, s = view.prior(components)
    rows = None
    with suppress(GMMVAEError):  # without test rows z is drawn
        rows = _rows_of_classes(view, components)
    if rows is None:
        standard = np.random.default_rng(0).normal(size=(ROWS, loc.shape[-1]))
        origin = "z drawn once per line"
    else:
        own_loc, own_scale, _ = view.prior(view.log_probs[rows].argmax(1).tolist())
        standard = (view.z[rows] - own_loc.cpu().numpy()) / own_scale.cpu().numpy()
        origin = f"z of the {view.unit} at the left"
    z = loc + scale * torch.as_tensor(standard).to(loc)[:, None]  # (R, K, d)
    cells = view.decode(z, s.expand(len(z), -1, -1))
    how = "the same in standard deviations of each p(z|s)"
    if not bool((loc.std(0) > 0).any()):
        how = "the same for all"
    title = (
        f"{view.name}: the {view.noun} changes from left to right"
        f"{view.count(components, total)}\n{origin}, {how}"
    )
    names = [view.class_names[k] for k in components]
    if rows is None:
        renderer, labels = (
            renderer_of(view.run.schema.kind, cells),
            SheetLabels(title, columns=names),
        )
        return Grid(renderer, cells, labels).figure
    sources = view.sources[rows]
    renderer = renderer_of(view.run.schema.kind, cells, sources)
    cells = np.concatenate([sources[:, None], cells], 1)
    labels = SheetLabels(title, columns=["row", *names], groups=[(0, ""), (1, "")])
    return Grid(renderer, cells, labels).figure


def draw_interpolation(view: RunView) -> Animation:
    """Rows decoded on straight lines between the latents of test rows, which are at both ends.

    Raises:
        NotApplicable: fewer than two test rows.
    """
    if len(view.test) < 2:
        raise NotApplicable("interpolation needs two test rows, and the run has one")
    first, second = _pairs(view)
    shares = np.linspace(0, 1, STEPS)
    z = _between(view.z[first], view.z[second], shares)
    s, names, latents = np.zeros((*z.shape[:2], 0)), [""] * len(first), "z"
    if view.has_classes:
        probabilities = _class_probabilities(view)
        s, latents = _between(probabilities[first], probabilities[second], shares), "z and s"
        predicted = [view.class_names[k] for k in view.log_probs.argmax(1)]
        names = [f"{predicted[a]} → {predicted[b]}" for a, b in zip(first, second, strict=True)]
    decoded = view.decode(view.tensor(z), view.tensor(s))
    one, other = view.sources[first], view.sources[second]
    renderer = renderer_of(view.run.schema.kind, one, other, decoded)
    title = f"{view.name}: between {view.unit}s, {latents} on a straight line"
    shown = range(0, STEPS, STRIDE)
    columns = ["row", *(f"{shares[step]:.0%}" for step in shown), "row"]
    groups = [(0, ""), (1, ""), (1 + len(shown), "")]
    still = Grid(
        renderer,
        np.concatenate([one[:, None], decoded[:, list(shown)], other[:, None]], 1),
        SheetLabels(title, names, columns, groups),
    )
    frames = [np.stack([one, decoded[:, step], other], 1) for step in range(STEPS)]
    groups = [(0, ""), (1, ""), (2, "")]
    moving = Grid(renderer, frames[0], SheetLabels(title, names, ["row", "decoded", "row"], groups))
    return Animation(still.figure, ping_pong_gif(moving, frames))


def draw_manifold(view: RunView) -> Figure:
    """The plane of a two-dimensional z, decoded at the quantiles of its prior, for each class.

    Raises:
        NotApplicable: z has more or fewer entries.
    """
    components, total = view.priors(MAX_CLASSES)
    components = components[:MAX_PANELS]
    loc, scale, s = view.prior(components)
    d = loc.shape[-1]
    if d != 2:
        entries = "1 entry" if d == 1 else f"{d} entries"
        raise NotApplicable(f"z has {entries}, and a manifold needs 2")
    steps = 7
    if len(view.run.schema.kind.x_shape) == 3:
        steps = 11 if len(components) > 1 else 20
    places = torch.special.ndtri(torch.linspace(LOWEST, 1 - LOWEST, steps)).numpy()
    # the second axis is z1, as lines of a picture are
    grid = view.tensor(np.stack(np.meshgrid(places, places), -1))
    cells = view.decode(loc[:, None, None] + scale[:, None, None] * grid, s[:, None, None])
    title = (
        f"{view.name}: all of z, {LOWEST:.0%} to {1 - LOWEST:.0%} quantiles of "
        f"{view.prior_name}{view.count(components, total)}"
    )
    renderer = renderer_of(view.run.schema.kind, cells)
    return manifold(renderer, cells, view.prior_names(components), title)


def manifold(renderer: CellRenderer, cells: Array, names: Sequence[str], title: str) -> Figure:
    """A panel per class, z0 growing to the right and z1 upwards.

    Args:
        renderer: draws the cells.
        cells: (classes, n, n, *x_shape) decoded; the second axis is z1 from its lowest value.
        names: of the classes.
        title: above the panels.
    """
    panels, steps = cells.shape[:2]
    columns = min(panels, MAX_PANELS_ACROSS)
    lines = -(-panels // columns)
    longer = PANEL_INCHES if panels > 1 else SINGLE_PANEL_INCHES
    width, height = (longer * side / max(renderer.inches) for side in renderer.inches)
    head = title.split("\n")
    top = MARGIN + LINE_INCHES * len(head) + 0.3
    wide = max(2 * MARGIN + 0.2 + columns * (width + PANEL_GAPS[0]), 0.068 * max(map(len, head)))
    high = top + lines * (height + PANEL_GAPS[1]) + MARGIN
    figure = page(wide, high, title)
    places = np.arange(steps, dtype=float)
    corners = np.stack(np.meshgrid(places, places), -1).reshape(-1, 2)
    for panel, name in enumerate(names):
        line, column = divmod(panel, columns)
        left = MARGIN + 0.2 + column * (width + PANEL_GAPS[0])
        bottom = high - top - line * (height + PANEL_GAPS[1]) - height
        axes = figure.add_axes((left / wide, bottom / high, width / wide, height / high))
        bare(axes)
        axes.set(xlim=(0, steps), ylim=(steps, 0))
        rows = cells[panel, ::-1].reshape(-1, *cells.shape[3:])
        renderer.draw(axes, rows, corners, PANEL_CELL_GAP)
        axes.set(xlim=(0, steps), ylim=(steps, 0))
        for spine in axes.spines.values():
            spine.set(visible=True, color=FAINT)
        axes.set_title(cut(name, 28), fontsize=TEXT, pad=3, parse_math=False)
        if column == 0:
            axes.set_ylabel("z1 →", fontsize=SMALL, color=GRAY, labelpad=2)
        if panel + columns >= panels:
            axes.set_xlabel("z0 →", fontsize=SMALL, color=GRAY, labelpad=2)
    return figure


def _rows_of_classes(view: RunView, components: Sequence[int]) -> Array:
    """Test rows whose most probable classes are some components in turn, at most ``ROWS``."""
    predicted = view.log_probs.argmax(1)
    order = np.random.default_rng(0).permutation(len(predicted))
    queues = {k: [row for row in order if predicted[row] == k] for k in components}
    rows: list[int] = []
    while len(rows) < ROWS and any(queues.values()):
        rows += [queue.pop(0) for queue in queues.values() if queue]
    if not rows:
        raise NotApplicable("no test row is of a class that is shown")
    return np.array(rows[:ROWS])


def _pairs(view: RunView) -> tuple[Array, Array]:
    """Test rows to walk from and to, of different classes where possible."""
    try:
        rows = _rows_of_classes(view, view.components(MAX_CLASSES)[0])
    except GMMVAEError:
        rows = np.random.default_rng(0).permutation(len(view.test))[:ROWS]
    if len(rows) < 2:
        rows = np.arange(2)
    return rows, np.roll(rows, -1)


def _class_probabilities(view: RunView) -> Array:
    """(N, K + ...) q(s|x) of the test rows, of the class and of further factors."""
    parts = [view.log_probs, *view.run.factor_log_probs(view.x).values()]
    return np.exp(np.concatenate(parts, 1))


def _between(one: Array, other: Array, shares: Array) -> Array:
    """(pairs, steps, n) on the straight lines from one (pairs, n) to the other."""
    return one[:, None] + shares[:, None] * (other - one)[:, None]
