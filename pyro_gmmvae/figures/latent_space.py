"""What the latents do: draws, changed classes, walks along z and between rows, the z plane."""

from contextlib import suppress
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.figures.analogies import analogies
from pyro_gmmvae.figures.film import Film
from pyro_gmmvae.figures.grid import sample_grid
from pyro_gmmvae.figures.interpolation import interpolation
from pyro_gmmvae.figures.look import looks
from pyro_gmmvae.figures.manifold import manifold
from pyro_gmmvae.figures.run_view import Array, NotApplicable, View
from pyro_gmmvae.figures.sheet import Profiles
from pyro_gmmvae.figures.traversal import traversal

DRAWS = 10
MOST_CLASSES = 20
ROWS = 8  # of analogies, and pairs to go between
SPAN = 2.5  # standard deviations
PLACES, FRAMES, STEPS = 11, 21, 17
MOST_ENTRIES, MOST_MOVING = 10, 10
STRIDE = 2  # of the steps, those that stand still
MOST_PANELS = 12
LOWEST = 0.05  # quantile
AT_ONCE = 4096


def draw_samples(view: View) -> Figure:
    """New rows, a line per class."""
    run = view.run
    if not run.model.latents:
        raise NotApplicable(f"the model {run.config.model!r} has no prior to draw from")
    if not run.model.class_conditional:
        drawn = run.generate(DRAWS * DRAWS).reshape(DRAWS, DRAWS, *run.schema.kind.x_shape)
        names, title = [""] * DRAWS, f"{view.name}: {DRAWS * DRAWS} draws\nz from p(z), decoded"
    else:
        is_image = len(run.schema.kind.x_shape) == 3
        chosen, of = view.shown(MOST_CLASSES if is_image else DRAWS)
        place = {k: n for n, k in enumerate(run.components_of(None))}
        drawn = run.generate(DRAWS)[[place[k] for k in chosen]]
        names = [view.class_names[k] for k in chosen]
        title = (
            f"{view.name}: {DRAWS} draws of each {view.noun}{_of(chosen, of)}\n"
            f"z from {_prior_name(view)}, decoded at it"
        )
    look, (cells,) = looks(run, drawn)
    return sample_grid(cells, names, run.schema.kind.columns, look=look, title=title)


def draw_analogies(view: View) -> Figure:
    """One z per line, one class per column."""
    if not view.model.factors:
        raise NotApplicable(f"the model {view.run.config.model!r} has no class to change")
    chosen, of = view.shown(MOST_CLASSES)
    if len(chosen) < 2:
        raise NotApplicable("there is a single class, and none to change it to")
    loc, scale, s = prior_at(view, chosen)
    rows, taken = None, chosen
    with suppress(GMMVAEError):  # without test rows z is drawn
        rows, taken = _rows_of_classes(view, chosen)
    if rows is None:
        standard = np.random.default_rng(0).normal(size=(ROWS, loc.shape[-1]))
        origin = "z drawn once per line"
    else:
        own_loc, own_scale, _ = prior_at(view, taken)
        standard = (view.z[rows] - _numpy(own_loc)) / _numpy(own_scale)
        origin = f"z of the {view.unit} at the left"
    z = loc + scale * torch.as_tensor(standard).to(loc)[:, None]  # (R, K, d)
    decoded = decode(view, z.flatten(0, 1), s.repeat(len(z), 1)).reshape(*z.shape[:2], -1)
    decoded = decoded.reshape(*z.shape[:2], *view.run.schema.kind.x_shape)
    how = (
        f"{origin}, the same in standard deviations of each p(z|s)"
        if bool((loc.std(0) > 0).any())
        else f"{origin}, the same for all"
    )
    title = f"{view.name}: the {view.noun} changes from left to right{_of(chosen, of)}\n{how}"
    names = [view.class_names[k] for k in chosen]
    if rows is None:
        look, (cells,) = looks(view.run, decoded)
        return analogies(look, cells, names, title)
    look, (cells, sources) = looks(view.run, decoded, view.sources[rows])
    return analogies(look, cells, names, title, sources)


def draw_traversal(view: View) -> Film:
    """Entries of z moved one at a time."""
    chosen, _ = _classes(view)
    chosen = chosen[:MOST_MOVING]
    loc, scale, s = prior_at(view, chosen)
    d = loc.shape[-1]
    ends = _along(view, loc, scale, s, range(d), [-SPAN, SPAN])
    # in the model's units, so that a feature in millimeters counts as one in meters
    change = np.abs(ends[1] - ends[0]) / view.run.schema.transform.scale
    effect = np.nan_to_num(change.reshape(len(loc), d, -1)).mean((0, 2))
    entries = np.argsort(-effect, kind="stable")[:MOST_ENTRIES].tolist()
    places = np.linspace(-SPAN, SPAN, PLACES)
    still = _along(view, loc[:1], scale[:1], s, entries, places)[:, 0].swapaxes(0, 1)
    moving = _along(view, loc, scale, s, entries, np.linspace(-SPAN, SPAN, FRAMES))
    names = _names(view, chosen)
    which = f" ({len(entries)} of {d}, those that change x most)" if len(entries) < d else ""
    of_prior = f"standard deviations of {_prior_name(view)}"
    at = f", s at {names[0]}" if names[0] else ""
    look, (cells, frames) = looks(view.run, still, moving)
    return traversal(
        look,
        cells,
        places.tolist(),
        entries,
        f"{view.name}: what each entry of z does{at}{which}\n"
        f"z in {of_prior}, all other entries at their means",
        frames,
        names,
        f"{view.name}: each entry of z from {-SPAN} to {SPAN}\n{of_prior}",
    )


def draw_interpolation(view: View) -> Film:
    """Between pairs of test rows."""
    if len(view.test) < 2:
        raise NotApplicable("the run has a single test row, and none to go to")
    first, second = _pairs(view)
    shares = np.linspace(0, 1, STEPS)
    z = _between(view.z[first], view.z[second], shares)
    s = _class_probabilities(view)
    mixed = None if s is None else _between(s[first], s[second], shares)
    decoded = decode(
        view,
        _tensor(view, z.reshape(-1, z.shape[-1])),
        None if mixed is None else _tensor(view, mixed.reshape(-1, mixed.shape[-1])),
    ).reshape(*z.shape[:2], *view.run.schema.kind.x_shape)
    ends = np.stack([view.sources[first], view.sources[second]], 1)
    look, (end_cells, cells) = looks(view.run, ends, decoded)
    what = "z" if s is None else "z and s"
    names = [""] * len(first)
    if s is not None:
        said = [view.class_names[k] for k in view.log_probs.argmax(1)]
        names = [f"{said[a]} → {said[b]}" for a, b in zip(first, second, strict=True)]
    return interpolation(
        look,
        end_cells,
        cells,
        shares.tolist(),
        names,
        f"{view.name}: between {view.unit}s, {what} on a straight line",
        range(0, STEPS, STRIDE),
    )


def draw_manifold(view: View) -> Figure:
    """Two-dimensional z at the quantiles of its prior."""
    chosen, of = _classes(view)
    chosen = chosen[:MOST_PANELS]
    loc, scale, s = prior_at(view, chosen)
    d = loc.shape[-1]
    if d != 2:
        entries = "1 entry" if d == 1 else f"{d} entries"
        raise NotApplicable(f"z has {entries}, and a manifold needs 2")
    is_small = len(view.run.schema.kind.x_shape) == 3
    steps = (11 if len(chosen) > 1 else 20) if is_small else 7
    places = torch.special.ndtri(torch.linspace(LOWEST, 1 - LOWEST, steps)).numpy()
    # the second axis is z1, as rows of a picture are
    grid = _tensor(view, np.stack(np.meshgrid(places, places), -1).reshape(-1, 2))
    z = loc[:, None] + scale[:, None] * grid
    of_z = None if s is None else s.repeat_interleave(len(grid), 0)
    decoded = decode(view, z.flatten(0, 1), of_z)
    cells = decoded.reshape(len(z), steps, steps, *view.run.schema.kind.x_shape)
    names = _names(view, chosen)
    look, (drawn,) = looks(view.run, cells)
    if isinstance(look, Profiles):
        look.names = ()  # there is no room for them
    title = (
        f"{view.name}: all of z, {LOWEST:.0%} to {1 - LOWEST:.0%} quantiles of "
        f"{_prior_name(view)}{_of(chosen, of)}"
    )
    return manifold(look, drawn, names, title)


# -- latents of models that differ ------------------------------------------------------------


def prior_at(view: View, components: list[int]) -> tuple[Tensor, Tensor, Any]:
    """Mean and standard deviation of z at the vertices of some classes, (n, d), and these s.

    For a model without classes: of p(z) = N(0, I), (1, d), and no s.
    """
    model = view.model
    parameter = next(model.parameters())
    with torch.no_grad():
        if model.factors:
            s = torch.eye(model.components).to(parameter)[components]
            prior = model.prior_of_z(s)
            return prior.mean, prior.stddev, s
        if "z" not in model.latents:
            raise NotApplicable(f"the model {view.run.config.model!r} has no prior of z")
        zeros = parameter.new_zeros(1, model.latent_dim)
        return zeros, torch.ones_like(zeros), None


@torch.no_grad()
def decode(view: View, z: Tensor, s: Tensor | None) -> Array:
    """(N, *x_shape) mean of p(x|z,s) in the file's units."""
    found = [
        view.model.decode(z[rows]) if s is None else view.model.decode(z[rows], s[rows])
        for rows in torch.arange(len(z), device=z.device).split(AT_ONCE)
    ]
    return view.run.schema.transform.invert(torch.cat(found).cpu().numpy())


def _prior_name(view: View) -> str:
    return "p(z|s)" if view.model.mixture_priors else "p(z)"


def _classes(view: View) -> tuple[list[int], int]:
    """The components to show, one that stands for none where the model has no p(z|s)."""
    return view.shown(MOST_CLASSES) if view.model.factors else ([0], 1)


def _names(view: View, chosen: list[int]) -> list[str]:
    if not view.model.factors:
        return [""]
    return [view.class_names[k] for k in chosen]


def _of(chosen: list[int], of: int) -> str:
    return f" ({len(chosen)} of {of})" if len(chosen) < of else ""


def _along(
    view: View, loc: Tensor, scale: Tensor, s: Tensor | None, entries: Any, places: Any
) -> Array:
    """(places, classes, entries, *x_shape) decoded with one entry of z moved at a time."""
    moves = torch.as_tensor(np.asarray(places)).to(loc)
    unit = torch.eye(loc.shape[-1]).to(loc)[list(entries)]  # (E, d)
    z = loc[:, None] + moves[:, None, None, None] * scale[:, None] * unit  # (P, n, E, d)
    of_z = None
    if s is not None:
        of_z = s[: len(loc), None].expand(len(z), -1, len(unit), -1).flatten(0, 2)
    decoded = decode(view, z.flatten(0, 2), of_z)
    return decoded.reshape(*z.shape[:3], *view.run.schema.kind.x_shape)


def _rows_of_classes(view: View, chosen: list[int]) -> tuple[Array, list[int]]:
    """Test rows whose likeliest classes are the shown ones in turn, and these classes."""
    said = view.log_probs.argmax(1)
    order = np.random.default_rng(0).permutation(len(said))
    queues = {k: [row for row in order if said[row] == k] for k in chosen}
    rows: list[int] = []
    while len(rows) < ROWS and any(queues.values()):
        rows += [queue.pop(0) for queue in queues.values() if queue]
    if not rows:
        raise NotApplicable("no test row is of a class that is shown")
    rows = rows[:ROWS]
    return np.array(rows), said[rows].tolist()


def _pairs(view: View) -> tuple[Array, Array]:
    """Test rows to go from and to, of different classes where there are some."""
    try:
        chosen = view.shown(MOST_CLASSES)[0]
        rows, _ = _rows_of_classes(view, chosen)
    except GMMVAEError:
        rows = np.random.default_rng(0).permutation(len(view.test))[:ROWS]
    if len(rows) < 2:
        rows = np.arange(2)
    return rows, np.roll(rows, -1)


def _class_probabilities(view: View) -> Array | None:
    """(N, K) of the test rows, with those of further factors behind; None: no class."""
    if not view.model.factors:
        return None
    parts = [view.log_probs, *view.run.factor_log_probs(view.x).values()]
    return np.exp(np.concatenate(parts, 1))


def _between(one: Array, other: Array, shares: Array) -> Array:
    """(pairs, steps, n) on the straight lines from one (pairs, n) to the other."""
    return one[:, None] + shares[:, None] * (other - one)[:, None]


def _tensor(view: View, values: Array) -> Tensor:
    return torch.as_tensor(values).to(next(view.model.parameters()))


def _numpy(values: Tensor) -> Array:
    return values.cpu().numpy()
