"""Bounds on log p(x) of a run's test rows, and the reliability of their importance weights."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.evaluation import USABLE_K, pareto_k, posterior_draws, split_r_hat
from pyro_gmmvae.objectives.draws import draw
from pyro_gmmvae.training.devices import seeded

if TYPE_CHECKING:
    from pyro_gmmvae.runs.run import Run

ELBO_SAMPLES = 10
ROWS_AT_ONCE = 4096
USUAL = {"guide": (200, 1000), "tilted": (200, 1000), "laplace": (100, 100), "ais": (16, 50)}
"""Samples of each row and the number of rows for ``nll``, by proposal."""
CHAIN_ROWS, CHAINS, CHAIN_DRAWS = 20, 4, 100
"""The number of rows whose posterior is drawn, and its chains and draws."""
LOOSE = 0.1
"""Share of rows with Pareto k above 0.7 from which on a bound is called loose."""
Array = np.ndarray[Any, Any]
Numbers = dict[str, Any]


def measure_densities(
    run: "Run", x: Tensor, y: Tensor, samples: int, chosen: Array, proposal: str
) -> Numbers:
    """Measure bounds on log p(x), and draws of the posterior.

    Args:
        run: the run.
        x, y: test rows in the model's units, and their labels.
        samples: draws of each row for ``nll``.
        chosen: the rows of ``nll``; none: it is not measured.
        proposal: of these draws, a key of ``evaluation.PROPOSALS``.

    Returns:
        In nats per row (None for a model without a bound, but ``distortion``): ``elbo``, ``rate``
        and ``distortion``, from draws of the guide. ``nll``, minus the importance-weighted bound of
        ``nll_samples`` draws of ``nll_proposal`` on ``nll_rows`` rows, and ``bits_per_dim`` (nll in
        bits per entry of x that is not missing and no covariate, in the model's units). Of its
        weights ``ess`` (median effective sample size), ``pareto_k`` (median of the rows' k-hat) and
        ``pareto_k_bad`` (share of rows with one above 0.7; both None below 25 samples, see
        :func:`pyro_gmmvae.evaluation.pareto_k`).
        Of a table ``log_px_of_columns`` (see :func:`log_px_of_columns`).
        ``rhat``: of chains of :func:`pyro_gmmvae.evaluation.posterior_draws`, the largest R-hat of
        a coordinate of the continuous latents, median of a few rows.
    """
    few = run.bounds(x, ELBO_SAMPLES, y=y)
    names = ("elbo", "rate", "distortion", "nll", "bits_per_dim", "ess", "pareto_k", "pareto_k_bad")
    numbers: Numbers = dict.fromkeys((*names, "rhat"))
    numbers["distortion"] = few.distortion.mean().item()
    if run.schema.kind.specs:
        numbers["log_px_of_columns"] = log_px_of_columns(run, x)
    if not run.has_bound:
        return numbers
    numbers |= {"elbo": few.elbo.mean().item(), "rate": few.rate.mean().item()}
    if not len(chosen):
        return numbers
    many = run.bounds(x[chosen], samples, y=y[chosen], proposal=proposal)
    nll = -many.iwae.mean().item()
    present = x[chosen].isfinite()
    for place, column in enumerate(run.schema.kind.specs):
        present[:, place] &= not column.given
    entries = present.sum().item() / len(chosen)
    return (
        numbers
        | {
            "nll": nll,
            "nll_proposal": proposal,
            "nll_samples": samples,
            "nll_rows": len(chosen),
            "bits_per_dim": nll / (max(1, entries) * math.log(2)),
            "ess": many.effective_samples.median().item(),
        }
        | _of_k(pareto_k(many.log_w))
        | {"rhat": _r_hat(run, x[chosen[:CHAIN_ROWS]], y[chosen[:CHAIN_ROWS]])}
    )


@torch.no_grad()
def log_px_of_columns(run: "Run", x: Tensor) -> dict[str, float]:
    """E_q[log p(x_j|z,s)] of the columns of a table, means over rows, in nats per row.

    Densities are those of values in the model's units, in which columns of different units can be
    compared. A missing cell counts 0.

    Args:
        run: trained on a table.
        x: (N, D) rows in the model's units.
    """
    columns = run.schema.kind.specs
    total = np.zeros(x.shape[1])
    log_units = x.new_tensor([math.log(column.unit) for column in columns])
    with seeded(0, run.device):
        for rows in x.split(ROWS_AT_ONCE):
            one = draw(run.model.model, run.model.guide, rows, None, run.model.latents)
            entries = one.model["x"]["fn"].log_prob_of_entries(rows)
            if one.weights is not None:  # of the classes that were summed out
                entries = (one.weights.unsqueeze(-1) * entries).flatten(0, -3).sum(0)
            entries = entries + log_units * ~rows.isnan()
            total += entries.sum(0).cpu().numpy()
    return {c.name: float(t) / len(x) for c, t in zip(columns, total, strict=True) if not c.given}


def loose_bound(numbers: Numbers) -> str | None:
    """One line where the Pareto k of too many rows is above 0.7, else None."""
    share = numbers.get("pareto_k_bad")
    if share is None or share <= LOOSE:
        return None
    return (
        f"nll is loose: Pareto k is above {USABLE_K} for {share:.0%} of its rows, so -log p(x) is "
        f"lower by an unknown amount (proposal: {numbers['nll_proposal']})"
    )


def _of_k(k: Array) -> Numbers:
    """Metrics of the rows' Pareto k-hat; None with too few samples to fit a tail."""
    if np.isnan(k).any():
        return {"pareto_k": None, "pareto_k_bad": None}
    middle = float(np.median(k))
    # JSON has no infinity, the k-hat of a row with nearly all weights 0
    return {
        "pareto_k": middle if math.isfinite(middle) else None,
        "pareto_k_bad": float((k > USABLE_K).mean()),
    }


def _r_hat(run: "Run", x: Tensor, y: Tensor) -> float | None:
    """The median over rows of the largest R-hat; None where a chain did not move in most rows."""
    labels = run.labels_of_programs(x, y)
    with seeded(0, run.device):
        drawn = posterior_draws(
            run.model.model, run.model.guide, x, CHAIN_DRAWS, CHAINS, labels
        ).latents
    continuous = [v for name, v in drawn.items() if name not in run.model.label_sites]
    if not continuous:
        return None
    # a chain that never moved has no variance within it
    r_hat = split_r_hat(torch.cat(continuous, -1)).nan_to_num(math.inf, math.inf).amax(-1)
    middle = r_hat.median().item()
    return middle if math.isfinite(middle) else None
