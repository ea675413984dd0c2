"""Annealed importance sampling of the latents of rows."""

from collections.abc import Callable

import torch
from pyro import validation_enabled
from torch import Tensor

from pyro_gmmvae.evaluation.proposals import Weighted
from pyro_gmmvae.evaluation.real_latents import ROWS_AT_ONCE, RealLatents
from pyro_gmmvae.objectives.draws import Program
from pyro_gmmvae.param_store import LocalParams

TEMPERATURES = 500
"""Distributions between prior and posterior."""
LEAPFROGS = 5
"""Steps of Hamiltonian Monte Carlo at each of them."""
STEEPNESS = 4.0
"""Of the sigmoid schedule: most distributions are near the prior or near the posterior."""
STEP, GROW, SHRINK = 0.5, 1.03, 0.9
"""Leapfrog step at the start, and its factors where a chain moves and where it does not."""

Base = Callable[[Tensor, Tensor], Tensor]
Pair = tuple[Tensor, Tensor]


@torch.no_grad()
def draw_by_annealing(
    model: Program, guide: Program, x: Tensor, y: Tensor | None, draws: int | None = None
) -> Weighted:
    """Draw the latents of each row by annealed importance sampling, the reference for bounds.

    A chain starts at the prior and moves by Hamiltonian Monte Carlo through 500 distributions
    p(latents) p(x|latents)^b, b from 0 to 1; its weight has the mean p(x) (Neal 2001, Annealed
    importance sampling; Wu et al. 2017, arXiv:1611.04273). It needs no guide and takes 2,500
    gradients of the decoder a draw: use it on a few rows. The latents are a real vector, see
    :class:`pyro_gmmvae.evaluation.real_latents.RealLatents`.

    Args:
        model, guide, x, y, draws: as for :func:`pyro_gmmvae.evaluation.draw_from_guide`; the guide
            is asked for the kinds of its sites only.

    Raises:
        GMMVAEError: a model with more than one discrete latent.
    """
    count = draws or 1
    with LocalParams(), validation_enabled(False):
        latents = RealLatents(model, guide, x, y)
        rows = torch.arange(len(x), device=x.device).repeat(count)
        start = torch.cat([latents.from_prior(some) for some in rows.split(ROWS_AT_ONCE)])
        exponents = schedule(TEMPERATURES)
        h, log_w = anneal(latents, start, rows, latents.log_prior, exponents, LEAPFROGS)
        _, log_px, values = latents.weigh(h, rows)

    def shaped(value: Tensor) -> Tensor:
        shape = (len(x),) if draws is None else (draws, len(x))
        return value.view(*shape, *value.shape[1:])

    return shaped(log_w), shaped(log_px), {name: shaped(value) for name, value in values.items()}


def schedule(temperatures: int) -> Tensor:
    """(T + 1,) exponents from 0 to 1, close to each other at both ends."""
    steps = torch.linspace(-STEEPNESS, STEEPNESS, temperatures + 1, dtype=torch.float64).sigmoid()
    return (steps - steps[0]) / (steps[-1] - steps[0])


def anneal(
    latents: RealLatents,
    h: Tensor,
    rows: Tensor,
    base: Base,
    exponents: Tensor,
    leapfrogs: int,
    tril: Tensor | None = None,
) -> Pair:
    """Move draws of a base distribution to the posterior, through base^(1-b) p(x, h)^b.

    Args:
        latents: log p(x, h).
        h: (n, D) draws of the base, for rows (n,).
        base: its log-density at h (n, D) for rows (n,).
        exponents: b, from 0 to 1.
        leapfrogs: steps of Hamiltonian Monte Carlo at each of them.
        tril: (n, D, D), the Cholesky factor of the inverse mass matrix; None: the identity.

    Returns:
        h (n, D), and the log weights (n,), of which the mean weight is p(x).
    """
    step = torch.full_like(h[:, :1], STEP)
    log_w = torch.zeros_like(h[:, 0])
    values, slopes = _densities(latents, h, rows, base)
    for before, b in zip(exponents[:-1].tolist(), exponents[1:].tolist(), strict=True):
        log_w = log_w + (b - before) * (values[1] - values[0])
        moved, new_values, new_slopes, energy = _leapfrog(
            latents, h, rows, base, slopes, b, step, leapfrogs, tril
        )
        gain = _mixed(new_values, b) - _mixed(values, b) + energy
        accepted = torch.rand_like(gain).log() < gain  # NaN is never greater
        chosen = accepted.unsqueeze(-1)
        h = torch.where(chosen, moved, h)
        values = _where(accepted, new_values, values)
        slopes = _where(chosen, new_slopes, slopes)
        step = step * torch.where(chosen, GROW, SHRINK)
    return h, log_w


def _leapfrog(
    latents: RealLatents,
    h: Tensor,
    rows: Tensor,
    base: Base,
    slopes: Pair,
    b: float,
    step: Tensor,
    leapfrogs: int,
    tril: Tensor | None,
) -> tuple[Tensor, Pair, Pair, Tensor]:
    """The end of a trajectory, the densities there, and the loss of kinetic energy (n,)."""
    momentum = torch.randn_like(h)
    kinetic = 0.5 * momentum.square().sum(-1)
    values = slopes
    momentum = momentum + 0.5 * step * _times(tril, _mixed(slopes, b), transposed=True)
    for leap in range(leapfrogs):
        h = h + step * _times(tril, momentum, transposed=False)
        values, slopes = _densities(latents, h, rows, base)
        part = 0.5 if leap == leapfrogs - 1 else 1.0
        momentum = momentum + part * step * _times(tril, _mixed(slopes, b), transposed=True)
    return h, values, slopes, kinetic - 0.5 * momentum.square().sum(-1)


def _densities(latents: RealLatents, h: Tensor, rows: Tensor, base: Base) -> tuple[Pair, Pair]:
    """Log-densities of the base and of p(x, h), and their gradients."""
    parts = []
    for h_, rows_ in zip(h.split(ROWS_AT_ONCE), rows.split(ROWS_AT_ONCE), strict=True):
        with torch.enable_grad():
            leaf = h_.detach().requires_grad_()
            both = base(leaf, rows_), latents.log_joint(leaf, rows_)
            slopes = [
                torch.autograd.grad(value.sum(), leaf, retain_graph=True)[0] for value in both
            ]
        parts.append((*(value.detach() for value in both), *slopes))
    one, other, slope, other_slope = (torch.cat(part) for part in zip(*parts, strict=True))
    return (one, other), (slope, other_slope)


def _mixed(pair: Pair, b: float) -> Tensor:
    return (1 - b) * pair[0] + b * pair[1]


def _where(chosen: Tensor, new: Pair, old: Pair) -> Pair:
    return torch.where(chosen, new[0], old[0]), torch.where(chosen, new[1], old[1])


def _times(tril: Tensor | None, vector: Tensor, *, transposed: bool) -> Tensor:
    if tril is None:
        return vector
    matrix = tril.mT if transposed else tril
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
