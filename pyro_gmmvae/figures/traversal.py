"""Rows decoded along the latents: each entry of z in turn, or the class."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.figures.animation import Animation, ping_pong_gif
from pyro_gmmvae.figures.cell_renderer import Array, renderer_of
from pyro_gmmvae.figures.cell_sheet import Grid, SheetLabels
from pyro_gmmvae.figures.run_view import RunView
from pyro_gmmvae.models import LatentModel
from pyro_gmmvae.runs import Run

SPAN = 2.5  # standard deviations
PLACES, FRAMES = 11, 21
MAX_ENTRIES, MAX_CLASSES = 10, 10


def draw_traversal(view: RunView) -> Animation:
    """Rows decoded while one entry of z moves and the others stay at the mean of the prior.

    The still figure has one class and a line per entry of z; the animation has a line per class
    and a column per entry. Of many entries those that change x most are drawn.
    """
    components = view.priors(MAX_CLASSES)[0]
    loc, scale, s = view.prior(components)
    d = loc.shape[-1]
    ends = _decode_moved(view, loc, scale, s, range(d), [-SPAN, SPAN])
    # in the model's units, so that a feature in millimeters counts as one in meters
    change = np.abs(ends[1] - ends[0]) / view.run.schema.transform.scale
    effect = np.nan_to_num(change.reshape(len(loc), d, -1)).mean((0, 2))
    entries = np.argsort(-effect, kind="stable")[:MAX_ENTRIES].tolist()
    places = np.linspace(-SPAN, SPAN, PLACES)
    cells = _decode_moved(view, loc[:1], scale[:1], s[:1], entries, places)[:, 0].swapaxes(0, 1)
    frames = _decode_moved(view, loc, scale, s, entries, np.linspace(-SPAN, SPAN, FRAMES))
    names = view.prior_names(components)
    which = f" ({len(entries)} of {d}, those that change x most)" if len(entries) < d else ""
    unit = f"standard deviations of {view.prior_name}"
    at = f", s at {names[0]}" if names[0] else ""
    title = (
        f"{view.name}: each entry of z moved alone{at}{which}\n"
        f"z in {unit}, all other entries at their means"
    )
    lines = [f"z{entry}" for entry in entries]
    columns = [f"{place:+g}" if place else "0" for place in places.tolist()]
    renderer = renderer_of(view.run.schema.kind, cells, frames)
    still = Grid(renderer, cells, SheetLabels(title, lines, columns))
    title = f"{view.name}: each entry of z from {-SPAN} to {SPAN}\n{unit}"
    moving = Grid(renderer, frames[0], SheetLabels(title, names, lines))
    return Animation(still.figure, ping_pong_gif(moving, frames))


def _decode_moved(
    view: RunView,
    loc: Tensor,
    scale: Tensor,
    s: Tensor,
    entries: Sequence[int],
    places: Sequence[float] | Array,
) -> Array:
    """(places, classes, entries, *x_shape) decoded with one entry of z moved at a time."""
    moves = torch.as_tensor(np.asarray(places)).to(loc)
    unit = torch.eye(loc.shape[-1]).to(loc)[list(entries)]  # (E, d)
    z = loc[:, None] + moves[:, None, None, None] * scale[:, None] * unit  # (P, n, E, d)
    return view.decode(z, s[:, None])


@torch.no_grad()
def traverse_skeletons(
    run: Run, latent: str, *, label: str | None = None, steps: int = 25, span: float = 2.5
) -> tuple[list[str], Array]:
    """Decode skeletons along one latent, all others at the mean of their prior.

    Args:
        run: a run on skeletons.
        latent: the number of an entry of z, from 0, which moves from -span to span standard
            deviations of p(z|s) at the class ``label``; "class", for s to move from each class
            to the next on the simplex, and z with the mean of p(z|s); or the name of a further
            factor, for its s.
        label: class name; None: the first class.
        steps: number of poses, or of poses from each class to the next.
        span: in standard deviations.

    Returns:
        A caption for each step, and (steps, T, J, C) joint positions; T is 1 where the run
        describes windows by statistics.

    Raises:
        GMMVAEError: a run on other rows, an unknown latent or class, or a model without p(z|s).
    """
    number = 0 if label is None else run.components_of(label)[0]
    schema, model = run.schema, run.model
    if not schema.kind.reads_tracks:
        raise GMMVAEError("traverse draws skeletons; for other rows there is 'gmmvae generate'")
    if not model.factors:
        raise GMMVAEError(
            f"the model {run.config.model!r} has no p(z|s) to traverse; train gmmvae or m2"
        )
    start = model.one_hot(number, 1)
    if latent.isdecimal():
        captions, z, s = _along_z(model, start, int(latent), steps, span)
    else:
        captions, s = _along_s(run, start, latent, steps)
        z = model.prior_of_z(s).mean
    rows = schema.transform.invert(model.decode(z, s).cpu().numpy())
    return captions, schema.kind.poses(rows)


def _along_z(
    model: LatentModel, start: Tensor, entry: int, steps: int, span: float
) -> tuple[list[str], Tensor, Tensor]:
    """Captions, z (steps, d) and s (steps, K + ...)."""
    s = start.expand(steps, -1)
    prior = model.prior_of_z(s)
    loc, scale = prior.mean, prior.stddev
    if entry >= loc.shape[-1]:
        raise GMMVAEError(f"z has the entries 0 to {loc.shape[-1] - 1}, not {entry}")
    values = torch.linspace(-span, span, steps).to(loc)
    z = loc.clone()
    z[:, entry] += values * scale[:, entry]
    return [f"z{entry} at {value:+.2f} s.d." for value in values.tolist()], z, s


def _along_s(run: Run, start: Tensor, latent: str, steps: int) -> tuple[list[str], Tensor]:
    """Captions and s (steps, K + ...) from each value of a factor to the next."""
    factor, sizes = "" if latent == "class" else latent, run.model.factors
    if factor not in sizes:
        raise unknown_name("latent", latent, ["class", *filter(None, sizes), "a number"])
    if factor:
        names = _factor_names(run, factor, sizes[factor])
    else:
        names = [run.class_names()[k] for k in run.components_of(None)]
    first = sum(list(sizes.values())[: list(sizes).index(factor)])
    captions, rows = [], []
    for one, other in itertools.pairwise(range(len(names))):
        for share in np.linspace(0, 1, steps, endpoint=False):
            s = start.clone()
            s[:, first : first + sizes[factor]] = 0
            s[:, first + one], s[:, first + other] = 1 - share, share
            rows.append(s)
            captions.append(f"{names[one]} -> {names[other]}: {share:.0%}")
    if not rows:
        raise GMMVAEError(f"{latent!r} has a single value; a traversal needs two")
    return captions, torch.cat(rows)


def _factor_names(run: Run, factor: str, size: int) -> list[str]:
    names = list(dict(run.schema.factors).get(factor, ()))
    return names + [f"component_{k}" for k in range(len(names), size)]
