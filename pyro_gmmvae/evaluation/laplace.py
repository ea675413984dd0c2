"""Proposals by Laplace's method: a Student-t around every mode of a row's posterior."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine, validation_enabled
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation.annealing import anneal, schedule
from pyro_gmmvae.evaluation.proposals import Weighted, sites_of
from pyro_gmmvae.evaluation.real_latents import RealLatents
from pyro_gmmvae.objectives.draws import Program
from pyro_gmmvae.param_store import LocalParams

STEPS, RATE = 100, 0.1
"""Adam's steps to a mode, and their size, which falls to 0."""
DEGREES = 20.0
"""Degrees of freedom of the Student-t."""
MODES = 4
"""The largest number of classes, the most probable ones, whose modes are looked for."""
ROUNDS, PILOT = 2, 1000
"""Rounds in which weighted draws refine the mixture, and the draws of each."""
SMALLEST_PRECISION = 0.1
"""Of an eigenvector of the Hessian: 1 is the prior's of a relaxed class."""
BRIDGE, LEAPFROGS = 48, 3
"""Distributions between the mixture and the posterior, and leapfrog steps at each."""
RARE = 0.02
"""The smallest weight of a component, times their number."""


@torch.no_grad()
def draw_by_laplace(
    model: Program, guide: Program, x: Tensor, y: Tensor | None, draws: int | None = None
) -> Weighted:
    """Draw the latents of each row from Student-t around the modes of its posterior.

    The latents are a real vector (:class:`pyro_gmmvae.evaluation.real_latents.RealLatents`): z and,
    where the class is relaxed, a standard normal for each class. From the guide's z at each of the
    most probable classes Adam climbs to a mode. There the inverse Hessian is the scale of a
    Student-t, with the weight p(x, mode) sqrt(det scale). Two rounds of 1,000 weighted draws move
    weights, means and scales of this mixture to the posterior's (Cappe et al. 2008,
    arXiv:0710.4242), which is not Gaussian where the class is relaxed. Draws of the mixture are
    then annealed to the posterior in 48 steps, with the scale of their component as inverse mass
    (:func:`pyro_gmmvae.evaluation.annealing.anneal`): about 150 gradients of the decoder a draw.

    Args:
        model, guide, x, y, draws: as for :func:`pyro_gmmvae.evaluation.draw_from_guide`.

    Raises:
        GMMVAEError: a model that has not one continuous latent and at most one class.
    """
    with LocalParams(), validation_enabled(False):
        latents = RealLatents(model, guide, x, y)
        site = _continuous_site(latents)
        mixture = _modes(latents, _starts(latents, site))
        for _ in range(ROUNDS):
            h = mixture.sample(PILOT)
            log_w = _log_joint(latents, h) - mixture.log_prob(h)
            mixture = mixture.matched(h, log_w)
        h, component = mixture.sample_parts(draws or 1)
        rows = torch.arange(len(x), device=x.device).repeat(draws or 1)
        tril = mixture.tril[component.flatten(), rows]
        h, log_w = anneal(
            latents, h.flatten(0, 1), rows, mixture.of_rows, schedule(BRIDGE), LEAPFROGS, tril
        )
        _, log_px, values = latents.weigh(h, rows)

    def shaped(value: Tensor) -> Tensor:
        shape = (len(x),) if draws is None else (draws, len(x))
        return value.view(*shape, *value.shape[1:])

    return shaped(log_w), shaped(log_px), {name: shaped(value) for name, value in values.items()}


@dataclass(frozen=True)
class StudentMixture:
    """A mixture of M Student-t for each of N rows.

    Attributes:
        log_weights: (M, N), normalized over M.
        loc: (M, N, D).
        tril: (M, N, D, D), Cholesky factors of the scale matrices.
    """

    log_weights: Tensor
    loc: Tensor
    tril: Tensor

    def sample(self, draws: int) -> Tensor:
        """(S, N, D)."""
        return self.sample_parts(draws)[0]

    def sample_parts(self, draws: int) -> tuple[Tensor, Tensor]:
        """Draws (S, N, D), and the components (S, N) that they are of."""
        m = torch.distributions.Categorical(logits=self.log_weights.T).sample((draws,))  # (S, N)
        rows = torch.arange(m.shape[1], device=m.device).expand_as(m)
        noise = torch.randn(*m.shape, self.loc.shape[-1], dtype=self.loc.dtype, device=m.device)
        chi2 = torch._standard_gamma(torch.full_like(noise[..., :1], DEGREES / 2)) * 2 / DEGREES
        step = (self.tril[m, rows] @ noise.unsqueeze(-1)).squeeze(-1)
        return self.loc[m, rows] + step / chi2.sqrt(), m

    def of_rows(self, h: Tensor, rows: Tensor) -> Tensor:
        """(n,) log-density at h (n, D) of rows (n,)."""
        one = StudentMixture(self.log_weights[:, rows], self.loc[:, rows], self.tril[:, rows])
        return one.log_prob(h.unsqueeze(0))[0]

    def log_parts(self, h: Tensor) -> Tensor:
        """(M, S, N) log of weight times density of each component at h (S, N, D)."""
        D = h.shape[-1]
        constant = math.lgamma((DEGREES + D) / 2) - math.lgamma(DEGREES / 2)
        constant -= D / 2 * math.log(DEGREES * math.pi)
        parts = []
        for log_weight, loc, tril in zip(self.log_weights, self.loc, self.tril, strict=True):
            offset = (h - loc).permute(1, 2, 0)  # (N, D, S)
            solved = torch.linalg.solve_triangular(tril, offset, upper=False)
            distance = solved.square().sum(1).T  # (S, N)
            log_det = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            tail = (DEGREES + D) / 2 * torch.log1p(distance / DEGREES)
            parts.append(log_weight + constant - log_det - tail)
        return torch.stack(parts)

    def log_prob(self, h: Tensor) -> Tensor:
        """(S, N) log-density at h (S, N, D)."""
        return self.log_parts(h).logsumexp(0)

    def matched(self, h: Tensor, log_w: Tensor) -> "StudentMixture":
        """The mixture with the moments of weighted draws h (S, N, D), log weights (S, N).

        Each draw counts for a component by its responsibility. The moments are mixed with those
        before by the effective number of draws, n / (n + D). Draws whose weight is NaN do not
        count, and a component keeps its scale where the mixed one is singular.
        """
        log_w = log_w.nan_to_num(nan=torch.finfo(log_w.dtype).min)
        parts = self.log_parts(h)
        share = parts.softmax(0) * log_w.softmax(0)  # (M, S, N)
        total = share.sum(1).clamp_min(1e-30)  # (M, N)
        own = share / total.unsqueeze(1)
        effective = 1 / own.square().sum(1).clamp_min(1e-30)
        trust = (effective / (effective + h.shape[-1])).unsqueeze(-1)  # (M, N, 1)
        mean = torch.einsum("msn,snd->mnd", own, h)
        loc = trust * mean + (1 - trust) * self.loc
        parts_of_tril = []
        for m in range(len(loc)):
            offset = (h - loc[m]) * own[m].sqrt().unsqueeze(-1)
            new = torch.einsum("snd,sne->nde", offset, offset)
            before = self.tril[m] @ self.tril[m].mT
            mixed = trust[m].unsqueeze(-1) * new + (1 - trust[m].unsqueeze(-1)) * before
            tril, failed = torch.linalg.cholesky_ex(mixed)
            parts_of_tril.append(torch.where(failed.view(-1, 1, 1) == 0, tril, self.tril[m]))
        floored = (total / total.sum(0)).clamp_min(RARE / len(total))
        weights = (floored / floored.sum(0)).log()
        return StudentMixture(weights, loc, torch.stack(parts_of_tril))


def _continuous_site(latents: RealLatents) -> str:
    """The one latent that is not a class."""
    others = [name for name in latents.sizes if name not in latents.relaxed]
    classes = len(latents.relaxed) + (latents.summed is not None)
    if len(others) != 1 or classes > 1:
        names = [*latents.sizes, *([latents.summed] if latents.summed else [])]
        raise GMMVAEError(
            "the proposal 'laplace' is for models with one continuous latent and at most one "
            f"class; this one has {', '.join(sorted(names))}; take 'tilted' or 'ais'"
        )
    return others[0]


def _starts(latents: RealLatents, site: str) -> Tensor:
    """(M, N, D) the guide's z at the most probable classes of each row."""
    guide, x, y = latents.guide, latents.x, latents.y
    proposed = sites_of(guide, x, y)
    name = latents.summed or (latents.relaxed[0] if latents.relaxed else None)
    h = x.new_zeros(len(x), latents.dimension)
    if name is None:
        h[:, latents.entries(site)] = _center(proposed[site])
        return h.unsqueeze(0)
    logits = proposed[name]["fn"].logits
    starts = []
    for k in logits.topk(min(MODES, logits.shape[-1]), -1).indices.T:
        s = torch.nn.functional.one_hot(k, logits.shape[-1]).to(logits)
        given = poutine.condition(guide, data={name: s})
        one = h.clone()
        one[:, latents.entries(site)] = _center(sites_of(given, x, y)[site])
        if name in latents.sizes:
            one[:, latents.entries(name)] = 2.0 * s - 0.3 * (1 - s)
        starts.append(one)
    return torch.stack(starts)


def _center(site: dict[str, Any]) -> Tensor:
    """The mean of a site's distribution, or its draw where the mean has no closed form."""
    try:
        center: Tensor = site["fn"].mean
    except NotImplementedError:
        center = site["value"]
    return center


def _modes(latents: RealLatents, starts: Tensor) -> StudentMixture:
    """Climb from (M, N, D) points to modes, and put a Student-t around each."""
    M, N, D = starts.shape
    rows = torch.arange(N, device=starts.device).repeat(M)
    h = starts.reshape(-1, D).clone()
    optimizer = torch.optim.Adam([h], lr=RATE)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        h.grad = -latents.gradient(h, rows)[1]
        optimizer.step()
    values, vectors = torch.linalg.eigh(-latents.hessian(h, rows))
    values = values.clamp_min(SMALLEST_PRECISION)
    covariance = vectors @ (vectors / values.unsqueeze(-2)).mT
    log_joint = latents.gradient(h, rows)[0]
    log_mass = (log_joint - 0.5 * values.log().sum(-1)).view(M, N)
    weights = log_mass.softmax(0).clamp_min(RARE / M)
    tril = torch.linalg.cholesky(covariance)
    return StudentMixture((weights / weights.sum(0)).log(), h.view(M, N, D), tril.view(M, N, D, D))


def _log_joint(latents: RealLatents, h: Tensor) -> Tensor:
    """(S, N) at h (S, N, D)."""
    rows = torch.arange(h.shape[1], device=h.device).repeat(h.shape[0])
    return latents.weigh(h.flatten(0, 1), rows)[0].view(h.shape[:2])
