"""Bounds on log p(x) from importance weights."""

import importlib
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_gmmvae.evaluation.proposals import Proposal, draw_from_guide
from pyro_gmmvae.objectives.draws import Program

GOOD_K, USABLE_K = 0.5, 0.7
"""Pareto k-hat of a proposal's weights: good below the first, not usable above the second."""
MIN_SAMPLES = 25  # of a tail
MIN_RANGE = 1e-3  # of log weights with a tail, in nats


@dataclass(frozen=True)
class Bounds:
    """Lower bounds on log p(x) per row, from importance weights (samples, N).

    Attributes:
        log_w: log p(x, latents) - log q(latents|x), in nats.
        log_px: log p(x|latents), in nats.
    """

    log_w: Tensor
    log_px: Tensor

    @property
    def elbo(self) -> Tensor:
        """(N,) mean of the log weights: the ELBO, with the guide as proposal."""
        return self.log_w.mean(0)

    @property
    def iwae(self) -> Tensor:
        """(N,) log of the mean weight: the importance-weighted bound, at least the ELBO.

        It approaches log p(x) as samples are added (Burda et al. 2016, arXiv:1509.00519).
        """
        return self.log_w.logsumexp(0) - math.log(len(self.log_w))

    @property
    def distortion(self) -> Tensor:
        """(N,) mean of -log p(x|latents)."""
        return -self.log_px.mean(0)

    @property
    def rate(self) -> Tensor:
        """(N,) mean of log q - log p of the latents: minus the ELBO, without the distortion.

        Alemi et al. 2018, arXiv:1711.00464.
        """
        return (self.log_px - self.log_w).mean(0)

    @property
    def effective_samples(self) -> Tensor:
        """(N,) 1 / sum of squared normalized weights: from 1 to the number of samples."""
        return 1 / self.log_w.softmax(0).square().sum(0)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Switch dropout and batch statistics off within the block; restore the mode of each part."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@torch.no_grad()
def log_weights(
    model: Program,
    guide: Program,
    x: Tensor,
    samples: int,
    *,
    y: Tensor | None = None,
    rows_at_once: int = 4096,
    proposal: Proposal = draw_from_guide,
) -> Bounds:
    """Importance weights of rows x (N, *x_shape), with all latents drawn from a proposal.

    Args:
        model, guide: Pyro programs of (x, y); modules should be in evaluation mode.
        x: the rows.
        samples: draws per row.
        y: (N,) labels for both programs; None: none.
        rows_at_once: the number of draws that the programs take together.
        proposal: an entry of ``PROPOSALS``; the guide's mean log weight is the ELBO.
    """
    step = max(1, rows_at_once // samples)
    parts = []
    for start in range(0, len(x), step):
        labels = None if y is None else y[start : start + step]
        terms = proposal(model, guide, x[start : start + step], labels, samples)
        parts.append(torch.stack(terms[:2]))
    return Bounds(*torch.cat(parts, 2))


def pareto_k(log_w: Tensor) -> np.ndarray[Any, Any]:
    """(N,) Pareto k-hat of each row's weights, log_w (samples, N): the quality of the proposal.

    Below 0.5 it is a good proposal for the row's posterior, up to 0.7 a usable one; above
    that the bound, and draws that are weighted or corrected by these weights, are unreliable
    (Yao et al. 2018, arXiv:1802.02538). NaN with fewer than 25 samples, which have no tail to fit.

    Vehtari et al. 2024, arXiv:1507.02646, computed by ArviZ. It is 0 where all log weights are
    within a thousandth: they have no tail.
    """
    if len(log_w) < MIN_SAMPLES:
        return np.full(log_w.shape[1], np.nan)
    rows = log_w.T.cpu().numpy().astype(np.float64)
    k, varied = np.zeros(len(rows)), np.flatnonzero(~(np.ptp(rows, axis=1) < MIN_RANGE))
    k[varied] = _psis_k(rows[varied])
    return k


def _psis_k(log_w: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(N,) Pareto k-hat of log weights (N, samples); inf where no tail can be fitted.

    From ArviZ 1 on PSIS is in ``arviz_stats``.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of tails that can't be fitted, and of ArviZ's future
        import arviz

        if hasattr(arviz, "psislw"):
            k = np.asarray(arviz.psislw(log_w)[1])
        else:
            array_stats = importlib.import_module("arviz_stats.base").array_stats
            k = np.array([_k_of_row(array_stats, row) for row in log_w])
    return np.where(np.isnan(k), np.inf, k)


def _k_of_row(array_stats: Any, log_w: np.ndarray[Any, Any]) -> float:
    try:
        # it takes the log-likelihood of the row that is left out: minus the weights
        return float(array_stats.psislw(-log_w)[1])
    except ValueError:
        return np.inf
