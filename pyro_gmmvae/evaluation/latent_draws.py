"""Draws of latents from the posterior, the guide and the prior, and of x."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro import poutine, validation_enabled
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from pyro_gmmvae.evaluation.proposals import Latents, Proposal, draw_from_guide, draw_tilted
from pyro_gmmvae.objectives.draws import Program
from pyro_gmmvae.param_store import LocalParams

ROWS_AT_ONCE = 4096
CANDIDATES_AT_ONCE = 65536


@dataclass(frozen=True)
class Draws:
    """C chains of S draws of the latents of N rows.

    Attributes:
        latents: by site, (C, S, N, ...).
        log_w: log p(x, latents) - log q(latents|x) of them, (C, S, N), in nats.
        proposed: the same for the proposal at each step; the mean of the guide's is the ELBO.
        accepted: (C, S, N) whether the chain accepted the proposal.
    """

    latents: Latents
    log_w: Tensor
    proposed: Tensor
    accepted: Tensor


def guide_draws(
    model: Program, guide: Program, x: Tensor, draws: int, chains: int, y: Tensor | None = None
) -> Draws:
    """Independent draws from q(latents|x): C chains of S."""
    return _in_parts(draw_from_guide, model, guide, x, y, chains, draws, _take_all)


def posterior_draws(
    model: Program, guide: Program, x: Tensor, draws: int, chains: int, y: Tensor | None = None
) -> Draws:
    """Draws from p(latents|x) by independence Metropolis-Hastings::

        h' ~ q(h|x),  accepted with probability min(1, w(h') / w(h)),  w(h) = p(x, h) / q(h|x)

    with q the guide with a tilted s and heavier tails (:func:`draw_tilted`), where a discrete s
    may be summed out of w. The posterior is invariant for any q; the speed of convergence
    depends on the weights.
    They are bounded if q has the heavier tails; if they are not, the chain sticks (Mengersen,
    Tweedie 1996, doi:10.1214/aos/1033066201). A chain's draws repeat where proposals are
    rejected, and R-hat and ESS account for that as for any other Markov chain; resampling by
    weights would hide it. The first half of a chain, S steps, is left out. For VAEs: Mattei,
    Frellsen 2018, arXiv:1802.04826.

    Args:
        model, guide: Pyro programs of (x, y); modules should be in evaluation mode.
        x: (N, *x_shape), the rows.
        draws: S, the draws of each chain that are kept.
        chains: C.
        y: (N,) labels for both programs; None: none.
    """
    return _in_parts(draw_tilted, model, guide, x, y, chains, 2 * draws, _metropolis_hastings)


def split_r_hat(draws: Tensor) -> Tensor:
    """Split R-hat of draws (C, S, ...) of C chains, (...), computed by ArviZ.

    About 1 where the chains agree, NaN where no draw differs (Gelman et al. 2013, Bayesian Data
    Analysis, 11.4).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ announces its refactoring when imported
        import arviz

    chains = arviz.convert_to_dataset({"value": draws.double().cpu().numpy()})
    with np.errstate(all="ignore"):  # of a chain that did not move
        r_hat = np.asarray(arviz.rhat(chains, method="split")["value"])
    return torch.from_numpy(r_hat)


def _in_parts(
    proposal: Proposal,
    model: Program,
    guide: Program,
    x: Tensor,
    y: Tensor | None,
    chains: int,
    steps: int,
    choose: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> Draws:
    """Draw candidates for a few rows at a time, and keep the chosen ones."""
    parts = []
    size = max(1, CANDIDATES_AT_ONCE // (chains * steps))
    for start in range(0, len(x), size):
        rows = x[start : start + size]
        labels = None if y is None else y[start : start + size]
        log_w, latents = _candidates(proposal, model, guide, rows, labels, chains, steps)
        taken, accepted = choose(log_w)
        kept = taken.shape[1]
        parts.append(
            Draws(
                {name: _at(value, taken) for name, value in latents.items()},
                _at(log_w, taken),
                log_w[:, -kept:],
                accepted,
            )
        )
    names = parts[0].latents
    latents = {name: torch.cat([part.latents[name] for part in parts], 2) for name in names}
    others = (torch.cat([getattr(part, name) for part in parts], 2) for name in _ARRAYS)
    return Draws(latents, *others)


_ARRAYS = ("log_w", "proposed", "accepted")


@torch.no_grad()
def _candidates(
    proposal: Proposal,
    model: Program,
    guide: Program,
    x: Tensor,
    y: Tensor | None,
    chains: int,
    steps: int,
) -> tuple[Tensor, Latents]:
    """Draws from the proposal, and their log weights, (C, T, N, ...)."""
    shape = (chains, steps, len(x))
    parts = [proposal(model, guide, rows, labels, None) for _, rows, labels in _copies(x, y, shape)]
    log_w = torch.cat([part[0] for part in parts]).view(shape)
    latents = {name: torch.cat([part[2][name] for part in parts]) for name in parts[0][2]}
    return log_w, {name: v.view(*shape, *v.shape[1:]) for name, v in latents.items()}


def _copies(x: Tensor, y: Tensor | None, shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    """Flat indices into ``shape`` (..., N), whose last axis is the rows, with their x and y."""
    for places in torch.arange(int(np.prod(shape)), device=x.device).split(ROWS_AT_ONCE):
        row = places % len(x)
        yield places, x[row], None if y is None else y[row]


def _take_all(log_w: Tensor) -> tuple[Tensor, Tensor]:
    steps = torch.arange(log_w.shape[1], device=log_w.device)
    return steps.view(1, -1, 1).expand_as(log_w), torch.ones_like(log_w, dtype=torch.bool)


def _metropolis_hastings(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """The state of chains (C, T, N) in the second half of their steps, and whether they moved."""
    log_u = torch.rand_like(log_w).log()
    at = torch.zeros_like(log_w[:, 0], dtype=torch.long)
    current = torch.full_like(log_w[:, 0], -torch.inf)
    path, moves = [], []
    for step in range(log_w.shape[1]):
        # NaN is never greater
        moved = log_w[:, step] > current + log_u[:, step]
        current = torch.where(moved, log_w[:, step], current)
        at = torch.where(moved, step, at)
        path.append(at)
        moves.append(moved)
    kept = log_w.shape[1] // 2
    return torch.stack(path[kept:], 1), torch.stack(moves[kept:], 1)


def _at(value: Tensor, taken: Tensor) -> Tensor:
    """value (C, T, N, ...) at steps ``taken`` (C, S, N)."""
    index = taken.view(*taken.shape, *(1,) * (value.dim() - taken.dim()))
    return torch.take_along_dim(value, index, 1)


@torch.no_grad()
def predictive_draws(
    model: Program, latents: Latents, x: Tensor, y: Tensor | None = None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Draw x ~ p(x|latents), and compute E[x|latents], for each draw of the latents of rows x.

    Args:
        model: a Pyro program of (x, y) with the site "x".
        latents: by site, (C, S, N, ...), as in :class:`Draws`.
        x: (N, *x_shape), the rows of these latents.
        y: (N,) labels for the program.

    Returns:
        Both (C, S, N, *x_shape), float32.
    """
    shape = next(iter(latents.values())).shape[:3]
    drawn = np.empty((int(np.prod(shape)), *x.shape[1:]), np.float32)
    mean = np.empty_like(drawn)
    flat = {name: value.flatten(0, 2) for name, value in latents.items()}
    for places, rows, labels in _copies(x, y, shape):
        some = {name: value[places] for name, value in flat.items()}
        site = _free_trace(model, some, rows, labels)["x"]
        chosen = places.cpu().numpy()
        drawn[chosen] = site["value"].cpu().numpy()
        mean[chosen] = site["fn"].mean.cpu().numpy()
    return drawn.reshape(*shape, *x.shape[1:]), mean.reshape(*shape, *x.shape[1:])


@torch.no_grad()
def prior_draws(
    model: Program, x: Tensor, draws: int, y: Tensor | None = None
) -> tuple[Latents, np.ndarray[Any, Any]]:
    """Draw latents and x from the model without an observation: one chain of S for each row.

    Args:
        model: a Pyro program of (x, y) with the site "x".
        x: (N, *x_shape); of its values only the covariates of a table are used.
        draws: S.
        y: (N,) labels for the program.

    Returns:
        The latents by site, (1, S, N, ...), and x (1, S, N, *x_shape), float32.
    """
    shape = (1, draws, len(x))
    parts, drawn = [], np.empty((draws * len(x), *x.shape[1:]), np.float32)
    for places, rows, labels in _copies(x, y, shape):
        nodes = _free_trace(model, {}, rows, labels)
        new = nodes.pop("x")["value"]
        before = {name: site["value"] for name, site in nodes.items() if site["before_x"]}
        if len(before) < len(nodes):  # sites after x may depend on it
            nodes = _free_trace(model, before | {"x": new}, new, labels)
            nodes.pop("x")
        parts.append({name: site["value"] for name, site in nodes.items()})
        drawn[places.cpu().numpy()] = new.cpu().numpy()
    latents = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    shaped = {name: v.view(*shape, *v.shape[1:]) for name, v in latents.items()}
    return shaped, drawn.reshape(*shape, *x.shape[1:])


def _free_trace(
    model: Program, given: Latents, x: Tensor, y: Tensor | None
) -> dict[str, dict[str, Any]]:
    """The model's sites, with some values given and all others drawn, x too."""
    with LocalParams(), validation_enabled(False):
        free = poutine.condition(poutine.uncondition(model), data=given)
        trace = prune_subsample_sites(poutine.trace(free).get_trace(x, y))
    nodes = {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}
    names = list(nodes)
    return {k: {**site, "before_x": names.index(k) < names.index("x")} for k, site in nodes.items()}
