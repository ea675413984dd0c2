"""Which entries of z carry information about x."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import validation_enabled
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gmmvae.objectives.draws import Program, draw
from pyro_gmmvae.objectives.latent_terms import independent_entries
from pyro_gmmvae.param_store import LocalParams

ACTIVE = 0.01
ROWS_AT_ONCE = 250  # a site that is summed out multiplies them


def active_units(means: NDArray[np.floating[Any]]) -> int:
    """The number of entries of z whose posterior mean varies over rows by more than 0.01.

    Args:
        means: (N, d) posterior means of z.

    Reference:
        Burda et al. 2016, arXiv:1509.00519, section 5.
    """
    return int((means.astype(np.float64).var(0) > ACTIVE).sum())


@torch.no_grad()
def kl_of_units(
    model: Program,
    guide: Program,
    x: Tensor,
    latents: Sequence[str],
    *,
    y: Tensor | None = None,
    site: str = "z",
) -> list[float] | None:
    """KL(q(z_i|s,x) || p(z_i|s)) of each entry of z, nats, the mean over rows and draws of s.

    Args:
        model, guide: Pyro programs of (x, y); modules should be in evaluation mode.
        x: (N, *x_shape).
        latents: the latent sites of the programs.
        y: (N,) labels for both programs; None: none.
        site: of z.

    Returns:
        d numbers; None where z is no site or either density is not a Gaussian with independent
        entries.
    """
    if site not in latents:
        return None
    parts = []
    for start in range(0, len(x), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        with LocalParams(), validation_enabled(False):
            found = draw(model, guide, x[rows], None if y is None else y[rows], latents)
        q, p = (independent_entries(sites[site]["fn"]) for sites in (found.guide, found.model))
        if q is None or p is None:
            return None
        kl = kl_divergence(q, p).movedim(-1, 0)
        shape = np.broadcast_shapes(kl.shape[1:], (len(x[rows]),))
        parts.append(torch.stack([found.mean(entry.expand(shape)) for entry in kl]))
    return torch.cat(parts, 1).mean(1).tolist()
