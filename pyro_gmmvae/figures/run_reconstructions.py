"""Rows beside what the model makes of them: the worst, some at random, the best."""

import numpy as np
import torch
from matplotlib.figure import Figure

from pyro_gmmvae.figures.cells import Painter, is_image
from pyro_gmmvae.figures.look import painter, poses_of
from pyro_gmmvae.figures.reconstructions import (
    Part,
    difference_painter,
    pose_pair_painter,
    reconstruction_sheet,
)
from pyro_gmmvae.figures.run_view import Array, View
from pyro_gmmvae.runs import Run

ENDS, MIDDLE = 6, 6
WIDE = 4  # of profiles and poses, which need more room


def draw_reconstructions(view: View) -> Figure:
    """Test rows of the lowest and the highest ELBO and some at random, with reconstructions."""
    elbo = view.run.elbo(view.x)
    # a density that underflows is the worst there is
    order = np.argsort(np.where(np.isfinite(elbo), elbo, -np.inf), kind="stable")
    image = is_image(view.x.shape[1:])
    ends = min(ENDS if image else WIDE, max(1, len(order) // 3))
    worst, best = order[:ends], order[ends:][-ends:][::-1]
    between = order[ends : len(order) - len(best)]
    some = np.random.default_rng(0).permutation(between)[: MIDDLE if image else WIDE]
    some = some[np.argsort(elbo[some], kind="stable")]
    places = np.concatenate([worst, some, best]).astype(np.int64)
    symbol = "ELBO" if view.run.has_bound else "log p(x|z)"
    names = view.rows.groups.captions(view.test)
    captions = [f"{names[n]}\n{elbo[n]:.1f}" for n in places]
    shown = list(enumerate(captions))
    first, last = len(worst), len(worst) + len(some)
    parts = [
        Part(f"lowest {symbol}", shown[:first]),
        Part("at random", shown[first:last]),
        Part(f"highest {symbol}", shown[last:]),
    ]
    rows = view.sources[places]
    made = view.run.schema.transform.invert(reconstruct(view.run, view.x[places]))
    lines, about, scale = _painters(view.run, rows, made)
    unit = "sequence" if view.rows.groups.merges else "row number"
    title = (
        f"{view.name}: reconstructions of {len(places)} of {len(order)} {view.unit}s, decoded at "
        f"posterior means\nbelow each its {unit} and its {symbol} in nats\ndifference: {about}"
    )
    return reconstruction_sheet(parts, lines, title, scale=scale)


@torch.no_grad()
def reconstruct(run: Run, x: torch.Tensor) -> Array:
    """Means of p(x|z,s) at the posterior means of z and s, (N, *x_shape), in the model's units."""
    model = run.model
    z = model.embed(x)
    if not model.class_conditional:
        return np.asarray(model.decode(z).cpu().numpy())
    s = [model.classify(x), *model.classify_factors(x).values()]
    return np.asarray(model.decode(z, torch.cat([part.exp() for part in s], -1)).cpu().numpy())


def _painters(run: Run, rows: Array, made: Array) -> tuple[dict[str, Painter], str, float]:
    """What draws each line of the sheet, what the last one shows, and the scale of cells."""
    both = np.concatenate([rows, made])
    paint, scale = painter(run, both)
    poses = poses_of(run, both)
    if poses is None:
        difference, about = difference_painter(rows, made)
    else:
        difference, about = pose_pair_painter(
            poses[: len(rows)],
            poses[len(rows) :],
            run.schema.kind.edges,
            y_down=run.schema.kind.y_down,
        )
    lines: dict[str, Painter] = {
        "row": paint,
        "reconstruction": lambda axes, n: paint(axes, n + len(rows)),
        "difference": difference,
    }
    return lines, about, scale
