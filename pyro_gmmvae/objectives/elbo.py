"""Weighted ELBOs, estimated from samples of the latents that guide and model score."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pyro.distributions import RelaxedOneHotCategorical
from pyro.distributions.util import scale_and_mask
from torch import Tensor, nn
from torch.distributions import kl_divergence

from pyro_gmmvae.distributions import StackedNormal, Tilted
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.networks.mlp import without_noise, without_statistics
from pyro_gmmvae.objectives.draws import Draw, Program, class_logits, draw, sum_of
from pyro_gmmvae.objectives.latent_terms import LatentTerm, terms_of_sites
from pyro_gmmvae.objectives.regularizers import Assignment, Regularizer
from pyro_gmmvae.objectives.soft_labels import SoftLabels
from pyro_gmmvae.param_store import LocalParams


@dataclass
class Estimate:
    """The estimate of one particle, each tensor of shape (B,) in nats unless noted.

    Attributes:
        bound: the weighted ELBO per row, with the right gradient.
        log_px: log p of all observed sites.
        kl: per latent site, log q - log p or its closed form, unweighted.
        class_logits: (..., B, K) unnormalized log q(y|x) of each label site that the guide has.
        terms: () the value of each term on z, and what it adds to the loss.
    """

    bound: Tensor
    log_px: Tensor
    kl: dict[str, Tensor]
    class_logits: dict[str, Tensor]
    terms: dict[str, tuple[Tensor, Tensor]]


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

        loss = -elbo_scale (mean_rows( log p(x|.) - sum_site w_site KL_site ) - sum_terms w_t t(z))
               + alpha mean_labelled_rows( -log q(y|x) )
               + pseudo_alpha sum_pseudo_labelled_rows( -log q(y|x) ) / rows
               + sum_regularizers w_r r( q(s|x), p(s) )

    The weights ``kl_<site>``, ``alpha`` and ``pseudo_alpha`` are 0-dimensional buffers (see
    ``scheduled``), so that schedules fill them in place. With weights 1 and alphas 0 the loss is
    minus the ELBO. A discrete site that the guide marks for enumeration is summed out exactly.

    A label in y is a class 0, 1, ...; -1 is an unlabelled row, and -2 - k a pseudo-label k. Model
    and guide take pseudo-labels as labels. Of several classes, K + r is the soft label r, a
    distribution pi_r over them (see :meth:`set_soft_labels`): its classification term is
    -sum_k pi_rk log q(k|x).

    Augmented rows enter the two parts of the loss as ``reconstruct`` says:

    - "separate": the ELBO is that of the original row, without input noise and dropout. The class
      terms get the augmented row, by a second pass of the guide that ends at its class. Running
      statistics of batch norms are those of the original rows. Of a batch, the first
      ``class_rows`` have class terms.
    - "augmented": the augmented row in place of the original one.
    - "original": the guide gets the augmented row, and the model explains the original.

    Args:
        model: Pyro program of (x, y): any callable, so a method of any model is one.
        guide: Pyro program with the same signature.
        latents: names of the latent sites, in the order in which the guide samples them.
        label_sites: the latent sites whose distributions in the guide have class ``logits``;
            one, or one for each column of y.
        particles: number of samples that the estimate averages; None: the default of the class.
        regularizers, latent_terms: terms on the assignments of the label sites, and on the site
            z, by name (see the modules of these names); each has a buffer for its weight.
        reconstruct: the rows of the ELBO, where rows are augmented.
        networks: the module with the networks of model and guide; "separate" needs it.
        elbo_scale: factor of the ELBO in the loss (see
            :func:`pyro_gmmvae.distributions.elbo_scale`); 0: it is not computed while training.
        labelled_elbo: weight of a labelled row in the mean of the ELBO over rows; others have 1.
        class_rows: share of a batch's rows that get the second pass of "separate".
    """

    default_particles = 1
    alpha: Tensor
    pseudo_alpha: Tensor
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
        latent_terms: Mapping[str, LatentTerm] | None = None,
        reconstruct: str = "original",
        networks: nn.Module | None = None,
        elbo_scale: float = 1.0,
        labelled_elbo: float = 1.0,
        class_rows: float = 1.0,
    ) -> None:
        super().__init__()
        # in a tuple, so that a guide that is a module does not become a submodule
        self._programs, self._owner = (model, guide), (networks or nn.Module(),)
        self.latents, self.label_sites = tuple(latents), tuple(label_sites)
        self.particles = particles or self.default_particles
        self.register_buffer("alpha", torch.tensor(0.0))
        self.register_buffer("pseudo_alpha", torch.tensor(0.0))
        # of the means over labelled rows in several processes; see training.Fit
        self.register_buffer("labelled_weight", torch.tensor(1.0))
        for site in self.latents:
            self.register_buffer(f"kl_{site}", torch.tensor(1.0))
        self.regularizers = nn.ModuleDict(dict(regularizers or {}))
        self.latent_terms = nn.ModuleDict(dict(latent_terms or {}))
        replacing = [term for _, term in _items(self.latent_terms) if term.replaces_kl]
        self._replaced = [term.site_in(self.label_sites) for term in replacing]
        if reconstruct == "separate" and networks is None:
            raise GMMVAEError("reconstruct='separate' switches noise off; give the networks")
        self.reconstruct, self.elbo_scale = reconstruct, elbo_scale
        self.labelled_elbo, self.class_rows = labelled_elbo, class_rows
        self.soft_labels: SoftLabels | None = None

    def set_soft_labels(self, pi: Tensor) -> None:
        """Take pi (R, K), distributions over the values of the first label site."""
        self.soft_labels = SoftLabels(pi.to(self.alpha))

    @property
    def _networks(self) -> nn.Module:
        return self._owner[0]

    @property
    def scheduled(self) -> dict[str, Tensor]:
        """Scalars that a schedule may move: alpha, and the weights of sites and regularizers."""
        own = {k: v for k, v in self.named_buffers(recurse=False) if k != "labelled_weight"}
        terms = (self.regularizers, self.latent_terms)
        return own | {name: term.weight for some in terms for name, term in _items(some)}

    def forward(self, x: Tensor, y: Tensor | None = None, original: Tensor | None = None) -> Terms:
        """Estimate the objective on rows x (B, *x_shape) with labels y, -1: unlabelled.

        Args:
            x: the rows, after augmentation where they are augmented.
            y: (B,), or (B, F) with a column for each label site.
            original: the rows before augmentation; None: x.
        """
        labels = None if y is None else labels_of(y)
        if self.elbo_scale == 0 and self._networks.training:
            return self._without_elbo(x, y, labels, original)
        separate = self.reconstruct == "separate" and self._networks.training
        rows = original if separate and original is not None else x
        observed = original if self.reconstruct == "original" else None
        with LocalParams(), without_noise(self._networks) if separate else nullcontext():
            estimates = [self.estimate(rows, labels, observed) for _ in range(self.particles)]
        loss = -self.elbo_scale * self._mean_of_rows(self.pool([e.bound for e in estimates]), y)
        logits, targets = [e.class_logits for e in estimates], estimates[0].class_logits
        if separate and self.label_sites:
            some = math.ceil(self.class_rows * len(x))
            x, y = x[:some], None if y is None else y[:some]
            labels = None if labels is None else labels[:some]
            with without_statistics(self._networks):
                logits = [self._class_logits(x, labels)]
        elif original is not None and self._need_original:
            with torch.no_grad():
                targets = self._class_logits(original, labels)
        log_px = _mean([e.log_px for e in estimates]).detach()
        kl = {site: _mean([e.kl[site] for e in estimates]).detach() for site in self.latents}
        parts = {"log_px": log_px.mean()} | {f"kl_{site}": kl[site].mean() for site in kl}
        parts["elbo"] = (log_px - sum(kl.values())).mean()
        for name in estimates[0].terms:
            value, added = (_mean([e.terms[name][i] for e in estimates]) for i in (0, 1))
            loss, parts[name] = loss + self.elbo_scale * added, value.detach()
        loss = loss + self._class_loss(x, y, logits, targets, parts)
        return Terms(loss, parts)

    def _without_elbo(
        self, x: Tensor, y: Tensor | None, labels: Tensor | None, original: Tensor | None
    ) -> Terms:
        """The terms on classes alone; nothing of the ELBO is computed."""
        logits = targets = self._class_logits(x, labels)
        if original is not None and self._need_original:
            with torch.no_grad():
                targets = self._class_logits(original, labels)
        parts: dict[str, Tensor] = {}
        return Terms(self._class_loss(x, y, [logits], targets, parts), parts)

    def _class_logits(self, x: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Logits of the guide's classes, without the rest of the guide."""
        with LocalParams():
            return class_logits(self._programs[1], x, labels, self.label_sites)

    def _class_loss(
        self,
        x: Tensor,
        y: Tensor | None,
        logits: list[dict[str, Tensor]],
        targets: dict[str, Tensor],
        parts: dict[str, Tensor],
    ) -> Tensor:
        """The weighted terms on classes; their values enter ``parts``."""
        loss = torch.zeros((), device=self.alpha.device, dtype=self.alpha.dtype)
        if y is not None and logits[0]:
            labelled, pseudo_labelled = self._classification(logits, y)
            labelled = self.labelled_weight * labelled
            loss = loss + self.alpha * labelled + self.pseudo_alpha * pseudo_labelled
            parts["classification"] = labelled.detach()
            parts["pseudo_classification"] = pseudo_labelled.detach()
        if self.regularizers:
            loss = loss + self._regularize(x, y, logits[0], targets, parts)
        return loss

    def _mean_of_rows(self, bounds: Tensor, y: Tensor | None) -> Tensor:
        """Mean over rows, of which the labelled ones have another weight; 0 if all weights are."""
        if y is None or self.labelled_elbo == 1:
            return bounds.mean()
        labelled = (y if y.dim() == 1 else y[:, 0]) >= 0
        weights = torch.where(labelled, self.labelled_elbo, 1.0).to(bounds)
        # a batch can hold labelled rows alone
        smallest = torch.finfo(bounds.dtype).tiny
        return (weights * bounds).sum() / weights.sum().clamp_min(smallest)

    @property
    def _need_original(self) -> bool:
        return any(term.needs_original for _, term in _items(self.regularizers))

    def _regularize(
        self,
        x: Tensor,
        y: Tensor | None,
        logits: dict[str, Tensor],
        targets: dict[str, Tensor],
        parts: dict[str, Tensor],
    ) -> Tensor:
        """The weighted sum of regularizers and label sites; their values enter ``parts``."""
        total = torch.zeros((), device=self.alpha.device, dtype=self.alpha.dtype)
        assignments = []
        # rows with pseudo-labels, which are the surest ones, are no sample of the classes
        given = None if y is None else y.clamp_min(-1)
        with LocalParams():
            priors = class_logits(self._programs[0], x, given, self.label_sites)
        for site, own in logits.items():
            n = own.shape[-2]
            prior, target = priors[site][..., :n, :], targets[site][..., :n, :].detach()
            assignments.append(Assignment(own, prior, target, x, partial(self._logits_at, site)))
        for name, term in _items(self.regularizers):
            value = sum_of([term(one) for one in assignments])
            total = total + term.weight * value
            parts[name] = value.detach()
        return total

    def _logits_at(self, site: str, x: Tensor) -> Tensor:
        """(B, K) logits of a label site at rows x, without noise; statistics stay as they are."""
        with without_noise(self._networks), without_statistics(self._networks):
            return self._class_logits(x, None)[site]

    def _classification(self, logits: list[dict[str, Tensor]], y: Tensor) -> tuple[Tensor, Tensor]:
        """-log q(y|x), summed over label sites: mean over labelled rows, and of pseudo-labels."""
        columns = (y,) if y.dim() == 1 else y.unbind(-1)
        labelled, pseudo_labelled = [], []
        for site, column in zip(self.label_sites, columns, strict=False):
            # the class comes first, and it alone can have soft labels
            soft = self.soft_labels if site == self.label_sites[0] else None
            label = labels_of(column)
            losses = _mean([_cross_entropy(one[site], label, soft) for one in logits])
            labelled.append(_masked_mean(losses, column >= 0))
            # over all rows: few confident rows pull little
            pseudo_labelled.append(torch.where(column < -1, losses, 0.0).mean())
        return sum_of(labelled), sum_of(pseudo_labelled)

    def estimate(self, x: Tensor, y: Tensor | None, observed: Tensor | None = None) -> Estimate:
        """One particle; the model explains ``observed``, or x where that is None."""
        return self.combine(draw(*self._programs, x, y, self.latents, observed))

    def combine(self, one: Draw) -> Estimate:
        """The terms of one sample, and the bound that they make."""
        kl = {site: self.site_kl(site, one) for site in self.latents}
        own = [site for site in self.latents if site not in self._replaced]
        weighted = sum([self._weighted_kl(site, kl[site], one) for site in own])
        terms, weights = _items(self.latent_terms), {k: self.get_buffer(f"kl_{k}") for k in kl}
        return Estimate(
            bound=self.row_bound(one, one.log_px - weighted),
            log_px=one.mean(one.log_px),
            kl={site: one.mean(value) for site, value in kl.items()},
            class_logits=one.class_logits(self.label_sites),
            terms=terms_of_sites(terms, one, kl, weights, self.label_sites) if terms else {},
        )

    def _weighted_kl(self, site: str, kl: Tensor, one: Draw) -> Tensor:
        """A KL term times its weight, which is that of the lower layer where layers are stacked."""
        weight, q, p = self.get_buffer(f"kl_{site}"), one.guide[site], one.model[site]["fn"]
        if not isinstance(p, StackedNormal):
            return weight * kl
        upper = p.log_ratio_of_upper(q["value"])
        return weight * (kl - upper) + upper

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
        kl = scale_and_mask((log_q.exp() * (log_q - log_p)).sum(-1), scale=q["scale"])
        if not isinstance(q["mask"], Tensor):
            return kl
        # of a row whose q is masked, what the model has for it: log p of a given class
        return torch.where(q["mask"], kl, one.log_ratio(site))


def _items(terms: nn.ModuleDict) -> list[tuple[str, Any]]:
    return list(terms.items())


def _mean(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.stack(tensors).mean(0)


def _cross_entropy(logits: Tensor, y: Tensor, soft: SoftLabels | None) -> Tensor:
    """-log q(y|x) per row, (B,); meaningless where y = -1."""
    target = y.clamp_min(0)
    if soft is not None:
        one_class = torch.nn.functional.one_hot(soft.classes(y).clamp_min(0), logits.shape[-1])
        target = soft(y, one_class.to(logits))
    return torch.nn.functional.cross_entropy(logits, target, reduction="none")


def pseudo_label(label: Tensor) -> Tensor:
    """A pseudo-label as it is written among labels: -2 - class."""
    return -2 - label


def labels_of(y: Tensor) -> Tensor:
    """Classes of labels and pseudo-labels; -1: neither."""
    return torch.where(y < -1, -2 - y, y)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the rows of the mask; 0 where the mask is empty."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)
