"""Proposals for the latents of rows: the guide, and the guide with a tilted s and heavier tails."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine, validation_enabled
from pyro.distributions import (
    Independent,
    Normal,
    OneHotCategorical,
    StudentT,
    TransformedDistribution,
)
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from pyro_gmmvae.distributions import Concrete, GaussianProduct, StraightThroughConcrete, Tilted
from pyro_gmmvae.distributions.concrete import RoundedTilted
from pyro_gmmvae.objectives.draws import (
    Program,
    first_sites,
    sample_sites,
    sum_of,
    trace_of_guide,
)
from pyro_gmmvae.param_store import LocalParams

FLOOR = 0.3
"""Share of the prior in the class probabilities of the tilted proposal."""
DEGREES = 10.0
"""Degrees of freedom of its Student-t for z."""

Latents = dict[str, Tensor]
Weighted = tuple[Tensor, Tensor, Latents]
Proposal = Callable[[Program, Program, Tensor, Tensor | None, int | None], Weighted]


@torch.no_grad()
def draw_from_guide(
    model: Program, guide: Program, x: Tensor, y: Tensor | None, draws: int | None = None
) -> Weighted:
    """Draw the latents of each row from the guide, and weight them.

    Args:
        model, guide: Pyro programs of (x, y).
        x, y: (N, *x_shape) rows, and labels for both programs or None.
        draws: S, of each row; None: one, without the axis of draws.

    Returns:
        log p(x, latents) - log q(latents|x) and log p(x|latents), both (S, N) in nats, and the
        latents by site, (S, N, ...).
    """
    copies = x if draws is None else x.repeat_interleave(draws, 0)
    labels = y if y is None or draws is None else y.repeat_interleave(draws)
    with LocalParams(), validation_enabled(False):
        log_w, log_px, latents = _weighted(model, copies, labels, sites_of(guide, copies, labels))
    if draws is None:
        return log_w, log_px, latents

    def with_axis(value: Tensor) -> Tensor:
        return value.view(len(x), draws, *value.shape[1:]).transpose(0, 1)

    return with_axis(log_w), with_axis(log_px), {k: with_axis(v) for k, v in latents.items()}


@torch.no_grad()
def draw_tilted(
    model: Program, guide: Program, x: Tensor, y: Tensor | None, draws: int | None = None
) -> Weighted:
    """Draw the latents of each row from the guide with heavier tails, and weight them::

        a Concrete s        Tilted(p(s), q_c)
        a one-hot s         Categorical(q_c)
        q_c                 0.7 of the guide's class probability + 0.3 of the prior's
        a Gaussian z        Student-t of 10 degrees around it

    The weights of a Concrete hold the ratio of two densities, those of a tilted one hold at most
    that of two class probabilities (see :class:`pyro_gmmvae.distributions.Tilted`). The prior of s
    is that of the model's program. A discrete s is summed out where x is decoded without it, with
    the others drawn from their marginal, and is then a draw of p(s|x, others)::

        w = sum_s p(x, z, s) / sum_s q(s|x) q(z|s,x)

    Where x is decoded from s, the sum would cost K decodings of each draw: s is drawn from q_c, as
    it is under a guide with a flow.
    Distributions of other kinds stay as they are.

    With ``draws`` the programs run on an axis of draws in front of the rows, and the guide's
    networks of x once; without it on the rows as they are, as any program can.

    Args:
        model, guide, x, y, draws: as for :func:`draw_from_guide`.

    Returns:
        As :func:`draw_from_guide`; where s is summed out log p(x|latents) is its mean over
        p(s|x, z).
    """
    with LocalParams(), validation_enabled(False):
        first = sites_of(guide, x[:1], None if y is None else y[:1])
        classes = [name for name, site in first.items() if isinstance(site["fn"], _CLASSES)]
        summed = _summed_site(model, x[:1], None if y is None else y[:1], first)
        priors = first_sites(model, x, y, classes) if classes else {}
        tailed = _HeavyTails({name: site["fn"] for name, site in priors.items()})(guide)
        axes = -2 if draws is None else -3  # the first one in front of rows and draws
        if draws is not None:
            tailed = _many(tailed, draws)
        proposed = sites_of(tailed, x, y)
        if summed is None:
            return _weighted(model, x, y, proposed)
        values = {name: site["value"] for name, site in proposed.items() if name != summed}
        given = poutine.condition(tailed, data=values)
        sites = sample_sites(prune_subsample_sites(trace_of_guide(given, x, y, axes)))
        return _summed_out(model, x, y, sites, summed)


_CLASSES = (Concrete, Tilted, OneHotCategorical)


def sites_of(program: Program, x: Tensor, y: Tensor | None) -> dict[str, Any]:
    """The sample sites of a program by name."""
    return sample_sites(prune_subsample_sites(poutine.trace(program).get_trace(x, y)))


def _many(guide: Program, draws: int) -> Program:
    """The guide with an axis of independent draws in front of the rows."""

    def program(x: Tensor, y: Tensor | None) -> None:
        with pyro.plate("draws", draws, dim=-2):
            guide(x, y)

    return program


def score(
    model: Program, x: Tensor, y: Tensor | None, values: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """log p(x, latents) and log p(x|latents) at values of the latents, in nats per row."""
    sites = sites_of(poutine.condition(model, data=values), x, y)
    terms = {name: log_prob(site) for name, site in sites.items()}
    observed = [term for name, term in terms.items() if name not in values]
    return sum_of(list(terms.values())), sum_of(observed)


def log_prob(site: Mapping[str, Any]) -> Tensor:
    """The log-density of a site at its value, per row."""
    value: Tensor = site["fn"].log_prob(site["value"])
    return scale_and_mask(value, site["scale"], site["mask"])


def _weighted(model: Program, x: Tensor, y: Tensor | None, proposed: Mapping[str, Any]) -> Weighted:
    """The weights of the values that a guide has drawn."""
    values = {name: site["value"] for name, site in proposed.items()}
    log_p, log_px = score(model, x, y, values)
    log_q = sum((log_prob(site) for site in proposed.values()), start=torch.zeros_like(log_p))
    return log_p - log_q, log_px, values


def _summed_out(
    model: Program, x: Tensor, y: Tensor | None, sites: Mapping[str, Any], summed: str
) -> Weighted:
    """The weights with one site, which has all its values, summed out."""
    log_q = sum_of([log_prob(site) for site in sites.values()]).logsumexp(0)
    values = {name: site["value"] for name, site in sites.items()}
    log_p, log_px = score(model, x, y, values)
    drawn = OneHotCategorical(logits=log_p.movedim(0, -1)).sample()
    mean_log_px = (log_p.softmax(0) * log_px).sum(0)
    return log_p.logsumexp(0) - log_q, mean_log_px, values | {summed: drawn}


def _summed_site(
    model: Program, x: Tensor, y: Tensor | None, proposed: Mapping[str, Any]
) -> str | None:
    """The one discrete site that can be summed out with one decoding of x, or None."""
    marked = [
        name
        for name, site in proposed.items()
        if site["infer"].get("sum_out") and isinstance(site["fn"], OneHotCategorical)
    ]
    # the density of a flow is known at its own draws only
    is_flow = any(isinstance(site["fn"], TransformedDistribution) for site in proposed.values())
    if len(marked) != 1 or is_flow:
        return None
    (name,) = marked
    size = proposed[name]["fn"].event_shape[0]
    each = torch.eye(size, dtype=x.dtype, device=x.device).unsqueeze(1)
    values = {name: site["value"] for name, site in proposed.items()} | {name: each}
    return None if score(model, x, y, values)[1].dim() > 1 else name


class _HeavyTails(Messenger):
    """Replace the distributions of a guide by ones with heavier tails; see :func:`draw_tilted`."""

    def __init__(self, priors: Mapping[str, Any]) -> None:
        super().__init__()
        self.priors = priors

    def _pyro_sample(self, msg: Any) -> None:
        fn, prior = msg["fn"], self.priors.get(msg["name"])
        if isinstance(fn, Concrete | Tilted) and isinstance(prior, Concrete):
            kind = RoundedTilted if isinstance(fn, StraightThroughConcrete) else Tilted
            msg["fn"] = kind(prior, _floored(fn.logits, prior.logits))
        elif isinstance(fn, OneHotCategorical) and isinstance(prior, OneHotCategorical):
            msg["fn"] = OneHotCategorical(logits=_floored(fn.logits, prior.logits))
        elif type(fn) is GaussianProduct:
            msg["fn"] = StudentT(DEGREES, fn.mean, fn.stddev).to_event(1)
        elif isinstance(fn, Independent) and isinstance(fn.base_dist, Normal):
            base = StudentT(DEGREES, fn.base_dist.loc, fn.base_dist.scale)
            msg["fn"] = base.to_event(fn.reinterpreted_batch_ndims)


def _floored(logits: Tensor, prior: Tensor) -> Tensor:
    """log of (1 - FLOOR) q_c + FLOOR pi_c."""
    log_q, log_p = logits.log_softmax(-1), prior.log_softmax(-1)
    return torch.logaddexp(log_q + math.log1p(-FLOOR), log_p + math.log(FLOOR))
