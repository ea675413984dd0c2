"""Weighted ELBOs, estimated from samples of the latents that guide and model score."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import RelaxedOneHotCategorical
from pyro.distributions.util import scale_and_mask
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_gmmvae.distributions import Tilted
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.objectives.draws import (
    Draw,
    Program,
    draw,
    sample_sites,
    sum_of,
    trace_of_guide,
)
from pyro_gmmvae.objectives.regularizers import Assignment, Regularizer
from pyro_gmmvae.param_store import LocalParams


@dataclass
class Estimate:
    """The estimate of one particle, each tensor of shape (B,) in nats unless noted.

    Attributes:
        bound: the weighted ELBO per row, with the right gradient.
        log_px: log p of all observed sites.
        kl: per latent site, log q - log p or its closed form, unweighted.
        class_logits: (..., B, K) unnormalized log q(y|x) of each label site that the guide has.
        prior_logits: (..., B, K) unnormalized log p(y) of each of these sites.
    """

    bound: Tensor
    log_px: Tensor
    kl: dict[str, Tensor]
    class_logits: dict[str, Tensor]
    prior_logits: dict[str, Tensor]


@dataclass
class Terms:
    """The value of an objective on one batch.

    Attributes:
        loss: () the differentiable quantity to minimize, nats per row.
        parts: detached scalars in nats per row: ``elbo`` (unweighted: the true ELBO where there
            are no labels; labels enter as the priors that they are), ``log_px``, ``kl_<site>``,
            with labels ``classification``, and the regularizers by name.
    """

    loss: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """Minus a weighted ELBO plus alpha times a classification term, in nats per row::

        loss = -mean_rows( log p(x|.) - sum_site w_site KL_site )
               + alpha mean_labelled_rows( -log q(y|x) )
               + sum_regularizers w_r r( q(s|x), p(s) )

    The weights ``kl_<site>`` and ``alpha`` are 0-dimensional buffers (see ``scheduled``), so that
    schedules fill them in place. With weights 1 and alpha 0 the loss is minus the ELBO. A discrete
    site that the guide marks for enumeration is summed out exactly.

    Args:
        model: Pyro program of (x, y): any callable, so a method of any model is one.
        guide: Pyro program with the same signature.
        latents: names of the latent sites, in the order in which the guide samples them.
        label_sites: the latent sites whose distributions in the guide have class ``logits``;
            one, or one for each column of y.
        particles: number of samples that the estimate averages; None: the default of the class.
        regularizers: terms on the assignments of the label sites by name (see
            :mod:`pyro_gmmvae.objectives.regularizers`); each has a buffer for its weight.
        reconstruct_original: the model explains the original of an augmented row, and only the
            guide gets the augmented one.
    """

    default_particles = 1
    alpha: Tensor
    labelled_weight: Tensor

    def __init__(
        self,
        model: Program,
        guide: Program,
        *,
        latents: Sequence[str],
        label_sites: Sequence[str] = (),
        particles: int | None = None,
        regularizers: Mapping[str, Regularizer] | None = None,
        reconstruct_original: bool = True,
    ) -> None:
        super().__init__()
        # in a tuple, so that a guide that is a module does not become a submodule
        self._programs = (model, guide)
        self.latents, self.label_sites = tuple(latents), tuple(label_sites)
        self.particles = particles or self.default_particles
        self.register_buffer("alpha", torch.tensor(0.0))
        # of the means over labelled rows in several processes; see training.Fit
        self.register_buffer("labelled_weight", torch.tensor(1.0))
        for site in self.latents:
            self.register_buffer(f"kl_{site}", torch.tensor(1.0))
        self.regularizers = nn.ModuleDict(dict(regularizers or {}))
        self.reconstruct_original = reconstruct_original

    @property
    def scheduled(self) -> dict[str, Tensor]:
        """Scalars that a schedule may move: alpha, and the weights of sites and regularizers."""
        own = {k: v for k, v in self.named_buffers(recurse=False) if k != "labelled_weight"}
        return own | {name: term.weight for name, term in self._regularizers}

    @property
    def _regularizers(self) -> list[tuple[str, Regularizer]]:
        return list(self.regularizers.items())  # type: ignore[arg-type]

    def forward(self, x: Tensor, y: Tensor | None = None, original: Tensor | None = None) -> Terms:
        """Estimate the objective on rows x (B, *x_shape) with labels y, -1: unlabelled.

        Args:
            x: the rows that the guide gets.
            y: (B,), or (B, F) with a column for each label site.
            original: the rows before augmentation; None: x.
        """
        observed = original if self.reconstruct_original else None
        with LocalParams():
            estimates = [self.estimate(x, y, observed) for _ in range(self.particles)]
        loss = -self.pool([e.bound for e in estimates]).mean()
        log_px = _mean([e.log_px for e in estimates]).detach()
        kl = {site: _mean([e.kl[site] for e in estimates]).detach() for site in self.latents}
        parts = {"log_px": log_px.mean()} | {f"kl_{site}": kl[site].mean() for site in kl}
        parts["elbo"] = (log_px - sum(kl.values())).mean()
        if y is not None and estimates[0].class_logits:
            classification = self.labelled_weight * self._classification(estimates, y)
            loss = loss + self.alpha * classification
            parts["classification"] = classification.detach()
        if self.regularizers:
            loss = loss + self._regularize(estimates[0], y, original, parts)
        return Terms(loss, parts)

    def _regularize(
        self, one: Estimate, y: Tensor | None, original: Tensor | None, parts: dict[str, Tensor]
    ) -> Tensor:
        """The weighted sum of regularizers and label sites; their values enter ``parts``."""
        targets: dict[str, Tensor] = one.class_logits
        if original is not None and any(term.needs_original for _, term in self._regularizers):
            with torch.no_grad(), LocalParams():
                guide = sample_sites(trace_of_guide(self._programs[1], original, y))
                targets = Draw(guide, {}, None).class_logits(self.label_sites)
        total = torch.zeros_like(one.bound.mean())
        for name, term in self._regularizers:
            value = sum_of(
                [
                    term(Assignment(logits, one.prior_logits[site], targets[site].detach()))
                    for site, logits in one.class_logits.items()
                ]
            )
            total = total + term.weight * value
            parts[name] = value.detach()
        return total

    def _classification(self, estimates: list[Estimate], y: Tensor) -> Tensor:
        """Mean over labelled rows of -log q(y|x), summed over the label sites."""
        columns = (y,) if y.dim() == 1 else y.unbind(-1)
        terms = []
        for site, label in zip(self.label_sites, columns, strict=False):
            losses = _mean([_cross_entropy(e.class_logits[site], label) for e in estimates])
            terms.append(_masked_mean(losses, label >= 0))
        return sum_of(terms)

    def estimate(self, x: Tensor, y: Tensor | None, observed: Tensor | None = None) -> Estimate:
        """One particle; the model explains ``observed``, or x where that is None."""
        return self.combine(draw(*self._programs, x, y, self.latents, observed))

    def combine(self, one: Draw) -> Estimate:
        """The terms of one sample, and the bound that they make."""
        kl = {site: self.site_kl(site, one) for site in self.latents}
        weighted = sum(self.get_buffer(f"kl_{site}") * kl[site] for site in self.latents)
        return Estimate(
            bound=self.row_bound(one, one.log_px - weighted),
            log_px=one.mean(one.log_px),
            kl={site: one.mean(value) for site, value in kl.items()},
            class_logits=one.class_logits(self.label_sites),
            prior_logits=one.prior_logits(self.label_sites),
        )

    def row_bound(self, one: Draw, values: Tensor) -> Tensor:
        """(B,) from the weighted terms (..., B) of one sample."""
        return one.mean(values)

    @abstractmethod
    def site_kl(self, site: str, one: Draw) -> Tensor:
        """The KL term of a site at one sample, (B,) or with the axes of enumerated sites."""

    def pool(self, bounds: list[Tensor]) -> Tensor:
        """One bound per row, (B,), from those of all particles."""
        return _mean(bounds)


class TraceObjective(Objective):
    """Every term estimated by sampling; discrete sites marked for enumeration summed out.

    With unit weights its sum over rows has the value and the gradient of Pyro's ``Trace_ELBO`` on
    the same seed (of ``TraceEnum_ELBO``, where a site is summed out). Sites that are neither
    reparameterized nor enumerated get score-function terms, row by row (Ranganath, Gerrish, Blei
    2014, arXiv:1401.0118).
    """

    def row_bound(self, one: Draw, values: Tensor) -> Tensor:
        bound = one.mean(values)
        if one.score is None:
            return bound
        # of value 0, and with the gradient of the score function times the reward
        return bound + one.mean((one.score - one.score.detach()) * values.detach())

    def site_kl(self, site: str, one: Draw) -> Tensor:
        return one.log_ratio(site)


class AnalyticObjective(Objective):
    """ELBO = E_q[log p(x|z,s)] - E_q(s)[ KL(q(z|s,x) || p(z|s)) ] - E_q[log q(s|x) - log p(s)].

    The inner KL is exact at the sampled s, which lowers the variance of its gradient. Only a
    relaxed one-hot site, whose KL has no closed form, is sampled, and an enumerated site is
    summed out (a :class:`Tilted` has a closed form). Unlike Pyro's ``TraceMeanField_ELBO`` it
    never samples another site silently.

    Raises:
        GMMVAEError: a latent site has no registered KL or is neither reparameterized nor
            enumerated, or model and guide sample their latent sites in different orders (the
            closed form would then condition on the wrong variables).
    """

    def combine(self, one: Draw) -> Estimate:
        sampled, order = list(one.guide), [name for name in one.model if name in one.guide]
        if order != sampled:
            raise GMMVAEError(
                f"the analytic objective needs model and guide to sample the same sites in the "
                f"same order; the model samples {order}, the guide {sampled}; use the objective "
                "'trace'"
            )
        return super().combine(one)

    def site_kl(self, site: str, one: Draw) -> Tensor:
        q, p = one.guide[site], one.model[site]
        is_sampled = one.is_enumerated(site) or isinstance(q["fn"], RelaxedOneHotCategorical)
        if is_sampled and not isinstance(q["fn"], Tilted):
            return one.log_ratio(site)
        return scale_and_mask(
            _closed_form(site, q["fn"], p["fn"]), scale=q["scale"], mask=q["mask"]
        )


def _closed_form(site: str, q: Any, p: Any) -> Tensor:
    if not q.has_rsample:
        raise GMMVAEError(
            f"the analytic objective needs reparameterized sites; site {site!r} is a "
            f"{type(q).__name__}; use the objective 'trace'"
        )
    try:
        return kl_divergence(q, p)
    except NotImplementedError as error:
        raise GMMVAEError(
            f"site {site!r}: no closed-form KL between {type(q).__name__} (guide) and "
            f"{type(p).__name__} (model); use the objective 'trace'"
        ) from error


class CategoricalObjective(AnalyticObjective):
    """Analytic, with KL(s) = sum_i q_i (log q_i - log p_i) of the classes of the Concretes.

    It has no sampling noise, and log K bounds it where p is flat, as in Jang, Gu, Poole 2017,
    arXiv:1611.01144. The optimized quantity (reported as ``elbo`` while training) is then not a
    bound of the relaxed model, whose KL is the density ratio; ``evaluate`` measures that bound.
    """

    def site_kl(self, site: str, one: Draw) -> Tensor:
        q, p = one.guide[site], one.model[site]
        if not isinstance(q["fn"], RelaxedOneHotCategorical):
            return super().site_kl(site, one)
        log_q, log_p = q["fn"].logits.log_softmax(-1), p["fn"].logits.log_softmax(-1)
        kl = (log_q.exp() * (log_q - log_p)).sum(-1)
        return scale_and_mask(kl, scale=q["scale"], mask=q["mask"])


def _mean(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.stack(tensors).mean(0)


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-log q(y|x) per row, (B,); meaningless where y = -1."""
    return torch.nn.functional.cross_entropy(logits, y.clamp_min(0), reduction="none")


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the rows of the mask; 0 where the mask is empty."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)
