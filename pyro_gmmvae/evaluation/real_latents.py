"""The joint density of a row and its latents as a function of one real vector."""

import math
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import OneHotCategorical
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from pyro_gmmvae.distributions import Concrete, StraightThroughConcrete
from pyro_gmmvae.distributions.concrete import from_log_sample
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation.proposals import Latents, log_prob, sites_of
from pyro_gmmvae.objectives.draws import Program, sample_sites, sum_of

ROWS_AT_ONCE = 4096


class RealLatents:
    """log p(x, latents) of rows as a function of a real vector h (..., D) per row.

    A Gaussian latent is a part of h. A relaxed s with the prior Concrete(pi, t) is a function of a
    part e of K entries, which are standard normal under the prior::

        s = softmax((log pi + G) / t),   G = -log(-log Phi(e))

    so that entries of s that x does not depend on have the posterior N(0, 1). A discrete s, and a
    straight-through one, is summed out.

    Args:
        model, guide: Pyro programs of (x, y).
        x, y: rows (N, *x_shape), and labels for both programs or None.

    Attributes:
        sizes: the number of entries of h of each latent by site, in the model's order.
        summed: the site that is summed out, or None.

    Raises:
        GMMVAEError: more than one discrete site.
    """

    def __init__(self, model: Program, guide: Program, x: Tensor, y: Tensor | None) -> None:
        self.model, self.guide, self.x, self.y = model, guide, x, y
        first = x[:1], None if y is None else y[:1]
        proposed = sites_of(guide, *first)
        sites = {n: s["fn"] for n, s in sites_of(model, *first).items() if not s["is_observed"]}
        rounds = {n for n, s in proposed.items() if isinstance(s["fn"], StraightThroughConcrete)}
        discrete = [
            n for n, fn in sites.items() if n in rounds or isinstance(fn, OneHotCategorical)
        ]
        if len(discrete) > 1:
            raise GMMVAEError(f"one discrete latent can be summed out, not {', '.join(discrete)}")
        self.summed = discrete[0] if discrete else None
        self.sizes = {n: fn.event_shape.numel() for n, fn in sites.items() if n not in discrete}
        self.relaxed = [n for n in self.sizes if isinstance(sites[n], Concrete)]
        self.classes = sites[self.summed].event_shape[0] if self.summed else 0

    @property
    def dimension(self) -> int:
        """D."""
        return sum(self.sizes.values())

    def entries(self, site: str) -> slice:
        """The entries of h of a site."""
        names = list(self.sizes)
        start = sum(self.sizes[name] for name in names[: names.index(site)])
        return slice(start, start + self.sizes[site])

    def terms(self, h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Latents]:
        """log p(latents), log p(x|latents) and the latents at h (n, D) for rows (n,).

        With a site that is summed out the first two have the axis of its values in front.
        """
        y = None if self.y is None else self.y[rows]
        filled = _FromVector(self, h)
        with filled:
            trace = poutine.trace(self.model).get_trace(self.x[rows], y)
        sites = sample_sites(prune_subsample_sites(trace))
        own = {n: log_prob(site) for n, site in sites.items() if n not in filled.log_priors}
        observed = [term for name, term in own.items() if name not in filled.values]
        latent = [*filled.log_priors.values(), *(own[n] for n in filled.values if n in own)]
        return sum_of(latent), sum_of(observed), filled.values

    def log_prior(self, h: Tensor, rows: Tensor) -> Tensor:
        """(n,) log p(latents), summed over a discrete s."""
        prior = self.terms(h, rows)[0]
        return prior if self.summed is None else prior.logsumexp(0)

    def log_joint(self, h: Tensor, rows: Tensor) -> Tensor:
        """(n,) log p(x, latents), summed over a discrete s."""
        prior, log_px, _ = self.terms(h, rows)
        return prior + log_px if self.summed is None else (prior + log_px).logsumexp(0)

    def gradient(self, h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`log_joint` (n,), and its gradient in h (n, D)."""
        values, gradients = [], []
        for h_, rows_ in zip(h.split(ROWS_AT_ONCE), rows.split(ROWS_AT_ONCE), strict=True):
            with torch.enable_grad():
                leaf = h_.detach().requires_grad_()
                value = self.log_joint(leaf, rows_)
                gradients += torch.autograd.grad(value.sum(), leaf)
            values.append(value.detach())
        return torch.cat(values), torch.cat(gradients)

    def hessian(self, h: Tensor, rows: Tensor) -> Tensor:
        """(n, D, D) Hessian of :meth:`log_joint`, a backward pass for each entry of h."""
        parts = []
        for h_, rows_ in zip(h.split(ROWS_AT_ONCE), rows.split(ROWS_AT_ONCE), strict=True):
            with torch.enable_grad():
                leaf = h_.detach().requires_grad_()
                value = self.log_joint(leaf, rows_).sum()
                (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
                columns = [
                    torch.autograd.grad(slope[:, i].sum(), leaf, retain_graph=True)[0]
                    for i in range(self.dimension)
                ]
            parts.append(torch.stack(columns, 1))
        hessian = torch.cat(parts)
        return (hessian + hessian.mT) / 2

    def weigh(self, h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Latents]:
        """log p(x, latents), log p(x|latents) and latents at h; a summed-out s is drawn."""
        parts = [
            self._weigh(*one)
            for one in zip(h.split(ROWS_AT_ONCE), rows.split(ROWS_AT_ONCE), strict=True)
        ]
        values = {name: torch.cat([part[2][name] for part in parts]) for name in parts[0][2]}
        return (
            torch.cat([part[0] for part in parts]),
            torch.cat([part[1] for part in parts]),
            values,
        )

    def _weigh(self, h: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Latents]:
        prior, log_px, values = self.terms(h, rows)
        total = prior + log_px
        if self.summed is None:
            return total, log_px, values
        drawn = OneHotCategorical(logits=total.movedim(0, -1)).sample()
        mean = (total.softmax(0) * log_px).sum(0)
        return total.logsumexp(0), mean, values | {self.summed: drawn}

    def from_prior(self, rows: Tensor) -> Tensor:
        """h (n, D) of latents that are drawn from the prior."""
        drawn = _FromVector(self, None)
        with drawn:
            self.model(self.x[rows], None if self.y is None else self.y[rows])
        return torch.cat([drawn.parts[name] for name in self.sizes], -1)


class _FromVector(Messenger):
    """Give latent sites the values of a vector, or (h None) values that are drawn from the prior.

    Attributes:
        values: by site.
        log_priors: the log-density of the part of h, where it is not that of the site's value.
        parts: the parts of h.
    """

    def __init__(self, latents: RealLatents, h: Tensor | None) -> None:
        super().__init__()
        self.latents, self.draws = latents, h is None
        self.values, self.log_priors = dict[str, Tensor](), dict[str, Tensor]()
        sizes = latents.sizes
        split = [] if h is None else h.split(list(sizes.values()), -1)
        self.parts: dict[str, Tensor] = dict(zip(sizes, split, strict=False))

    def _pyro_sample(self, msg: Any) -> None:
        name, fn = msg["name"], msg["fn"]
        if name == self.latents.summed:
            self.values[name] = self._classes(fn)
            self.log_priors[name] = (self.values[name] * fn.logits.log_softmax(-1)).sum(-1)
        elif name in self.latents.relaxed:
            if self.draws:
                self.parts[name] = torch.randn_like(fn.logits)
            e = self.parts[name]
            smallest = torch.finfo(e.dtype).tiny
            gumbel = -(-torch.special.log_ndtr(e)).clamp_min(smallest).log()
            log_s = ((fn.logits + gumbel) / fn.temperature).log_softmax(-1)
            self.values[name] = from_log_sample(log_s)
            self.log_priors[name] = -0.5 * (e.square() + math.log(2 * math.pi)).sum(-1)
        elif name in self.latents.sizes:
            if self.draws:
                self.parts[name] = fn.sample()
            self.values[name] = self.parts[name]
        else:
            return
        msg["value"], msg["is_observed"] = self.values[name], True

    def _classes(self, fn: Any) -> Tensor:
        """All values of a discrete site, along an axis in front, or one drawn value."""
        if self.draws:
            drawn: Tensor = OneHotCategorical(logits=fn.logits).sample()
            return drawn
        size = self.latents.classes
        return torch.eye(size, dtype=fn.logits.dtype, device=fn.logits.device).unsqueeze(1)
