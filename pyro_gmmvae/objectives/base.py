"""What every objective shares: weighted terms, the classification term, the true ELBO."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pyro_gmmvae.objectives.draw import Draw, Program, assignments, draw
from pyro_gmmvae.objectives.regularizers import Assignment, Regularizer
from pyro_gmmvae.param_store import LocalParams


@dataclass
class Estimate:
    """One particle's estimate, each tensor of shape (B,) in nats unless said.

    Attributes:
        bound: the weighted ELBO per row, with the right gradient.
        log_px: log p of all observed sites.
        kl: per latent site, log q - log p or its closed form, unweighted.
        class_logits: (..., B, K) unnormalized log q(y|x) of each label site the guide has.
        prior_logits: (..., B, K) unnormalized log p(y) of each of them.
    """

    bound: Tensor
    log_px: Tensor
    kl: dict[str, Tensor]
    class_logits: dict[str, Tensor]
    prior_logits: dict[str, Tensor]


@dataclass
class Terms:
    """What one evaluation of an objective gives.

    Attributes:
        loss: () the differentiable quantity to minimise, nats per row.
        parts: detached scalars in nats per row: ``elbo`` (unweighted: the true ELBO where no
            label is given; labels enter as the priors they are), ``log_px``, ``kl_<site>``,
            where labels are given ``classification``, and the regularizers by name.
    """

    loss: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """Minus a weighted ELBO plus alpha times a classification term, in nats per row::

        loss = -mean_rows( log p(x|.) - sum_site w_site KL_site )
               + alpha mean_labelled_rows( -log q(y|x) )
               + sum_regularizers w_r r( q(s|x), p(s) )

    The weights ``kl_<site>`` and ``alpha`` are 0-dimensional buffers (see ``scheduled``), so that
    schedules fill them in place. With weights 1 and alpha 0 it is minus the ELBO. A discrete
    site that the guide marks for enumeration is summed out exactly.

    Args:
        model: Pyro program of (x, y); a callable, so any model's method will do.
        guide: Pyro program with the same signature.
        latents: names of the latent sites, in the order the guide draws them.
        label_sites: the latent sites whose distributions in the guide have class ``logits``;
            one, or one for each column of y.
        particles: how many samples the estimate pools; None: the objective's own number.
        regularizers: terms on the label sites' assignments by name (see
            :mod:`pyro_gmmvae.objectives.regularizers`); each brings the buffer of its weight.
        explain_clean: of a row that was augmented, the model explains the row as it was, and the
            guide alone sees the augmented one.
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
        explain_clean: bool = True,
    ) -> None:
        super().__init__()
        # in a tuple, so that a guide that is a module does not become part of this one
        self._programs = (model, guide)
        self.latents, self.label_sites = tuple(latents), tuple(label_sites)
        self.particles = particles or self.default_particles
        self.register_buffer("alpha", torch.tensor(0.0))
        # of several processes' means over their labelled rows; see inference.Fit
        self.register_buffer("labelled_weight", torch.tensor(1.0))
        for site in self.latents:
            self.register_buffer(f"kl_{site}", torch.tensor(1.0))
        self.regularizers = nn.ModuleDict(dict(regularizers or {}))
        self.explain_clean = explain_clean

    @property
    def scheduled(self) -> dict[str, Tensor]:
        """The scalars a schedule may move: alpha, one weight per latent site and regularizer."""
        own = {k: v for k, v in self.named_buffers(recurse=False) if k != "labelled_weight"}
        return own | {name: term.weight for name, term in self._regularizers}

    @property
    def _regularizers(self) -> list[tuple[str, Regularizer]]:
        return list(self.regularizers.items())  # type: ignore[arg-type]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weight of each latent site."""
        return {site: getattr(self, f"kl_{site}") for site in self.latents}

    def forward(self, x: Tensor, y: Tensor | None = None, clean: Tensor | None = None) -> Terms:
        """Estimate the objective on rows x (B, *x_shape) with labels y, -1: none.

        Args:
            x: what the guide sees.
            y: (B,), or (B, F) with a column for each label site.
            clean: the rows before they were augmented into x; None: x itself.
        """
        observed = clean if self.explain_clean else None
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
            loss = loss + self._regularize(estimates[0], y, clean, parts)
        return Terms(loss, parts)

    def _regularize(
        self, one: Estimate, y: Tensor | None, clean: Tensor | None, parts: dict[str, Tensor]
    ) -> Tensor:
        """The weighted regularizers, summed over the label sites; noted in ``parts``."""
        twins: dict[str, Tensor] = one.class_logits
        if clean is not None and any(term.needs_twin for _, term in self._regularizers):
            with torch.no_grad(), LocalParams():
                twins = assignments(self._programs[1], clean, y, self.label_sites)
        total = torch.zeros_like(one.bound.mean())
        for name, term in self._regularizers:
            values = [
                term(Assignment(logits, one.prior_logits[site], twins[site].detach()))
                for site, logits in one.class_logits.items()
            ]
            value = sum(values[1:], start=values[0])
            total = total + term.weight * value
            parts[name] = value.detach()
        return total

    def _classification(self, estimates: list[Estimate], y: Tensor) -> Tensor:
        """Mean over labelled rows of -log q(y|x), summed over the label sites."""
        columns = (y,) if y.dim() == 1 else y.unbind(-1)
        found = []
        for site, label in zip(self.label_sites, columns, strict=False):
            terms = [_cross_entropy(e.class_logits[site], label) for e in estimates]
            found.append(_masked_mean(_mean(terms), label >= 0))
        return sum(found[1:], start=found[0])

    def estimate(self, x: Tensor, y: Tensor | None, observed: Tensor | None = None) -> Estimate:
        """One particle; the model explains ``observed``, or x where that is None."""
        return self.combine(draw(*self._programs, x, y, self.latents, observed))

    def combine(self, one: Draw) -> Estimate:
        """The terms of one draw, and the bound they make."""
        kl = {site: self.site_kl(site, one) for site in self.latents}
        weighted = sum(self.weights[site] * kl[site] for site in self.latents)
        return Estimate(
            bound=self.row_bound(one, one.log_px - weighted),
            log_px=one.mean(one.log_px),
            kl={site: one.mean(value) for site, value in kl.items()},
            class_logits=one.class_logits(self.label_sites),
            prior_logits=one.prior_logits(self.label_sites),
        )

    def row_bound(self, one: Draw, values: Tensor) -> Tensor:
        """(B,) from the weighted terms (..., B) of one draw."""
        return one.mean(values)

    @abstractmethod
    def site_kl(self, site: str, one: Draw) -> Tensor:
        """The KL term of a site at one draw, (B,) or with the axes of enumerated sites."""

    def pool(self, bounds: list[Tensor]) -> Tensor:
        """One bound per row, (B,), from those of all particles."""
        return _mean(bounds)


def _mean(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.stack(tensors).mean(0)


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-log q(y|x) per row, (B,); meaningless where y = -1."""
    return torch.nn.functional.cross_entropy(logits, y.clamp_min(0), reduction="none")


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the rows of the mask; 0 where there is none."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)
