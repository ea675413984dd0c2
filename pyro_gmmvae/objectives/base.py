"""What every objective shares: weighted terms, the classification term, the true ELBO."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.params import LocalParams

Program = Callable[[Tensor, Tensor | None], Any]


@dataclass
class Estimate:
    """One batch's estimate, each tensor of shape (B,) in nats unless said.

    Attributes:
        surrogate: () sum over rows of minus the weighted ELBO, with the right gradient.
        log_px: log p of all observed sites.
        kl: per latent site, log q - log p or its closed form, unweighted.
        class_logits: (B, K) unnormalized log q(y|x), where the guide has the label site.
    """

    surrogate: Tensor
    log_px: Tensor
    kl: dict[str, Tensor]
    class_logits: Tensor | None


@dataclass
class Terms:
    """What one evaluation of an objective gives.

    Attributes:
        loss: () the differentiable quantity to minimise, nats per row.
        parts: detached scalars in nats per row: ``elbo`` (unweighted: the true ELBO where no
            label is given; labels enter as the priors they are), ``log_px``, ``kl_<site>`` and,
            where labels are given, ``classification``.
    """

    loss: Tensor
    parts: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """Minus a weighted ELBO plus alpha times a classification term, in nats per row::

        loss = -mean_rows( log p(x|.) - sum_site w_site KL_site )
               + alpha mean_labelled_rows( -log q(y|x) )

    The weights ``kl_<site>`` and ``alpha`` are 0-dimensional buffers (see ``knobs``), so that
    schedules fill them in place. With weights 1 and alpha 0 it is minus the ELBO.

    Args:
        model: Pyro program of (x, y); a callable, so any model's method will do.
        guide: Pyro program with the same signature.
        latents: names of the latent sites, in the order the guide draws them.
        label_site: the latent site whose distribution in the guide has class ``logits``.
        particles: how many samples the estimate averages over.
    """

    alpha: Tensor

    def __init__(
        self,
        model: Program,
        guide: Program,
        *,
        latents: Sequence[str],
        label_site: str | None = None,
        particles: int = 1,
    ) -> None:
        super().__init__()
        # in a tuple, so that a guide that is a module does not become part of this one
        self._programs = (model, guide)
        self.latents, self.label_site, self.particles = tuple(latents), label_site, particles
        self.register_buffer("alpha", torch.tensor(0.0))
        for site in self.latents:
            self.register_buffer(f"kl_{site}", torch.tensor(1.0))

    @property
    def knobs(self) -> dict[str, Tensor]:
        """The scalars a schedule may move: alpha and one weight per latent site."""
        return dict(self.named_buffers())

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weight of each latent site."""
        return {site: getattr(self, f"kl_{site}") for site in self.latents}

    def forward(self, x: Tensor, y: Tensor | None = None) -> Terms:
        """Estimate the objective on rows x (B, *x_shape) with labels y (B,), -1: none."""
        estimates = []
        with LocalParams():
            for _ in range(self.particles):
                estimates.append(self.estimate(x, y))
        return self._combine(estimates, y)

    @abstractmethod
    def estimate(self, x: Tensor, y: Tensor | None) -> Estimate:
        """One particle."""

    def _combine(self, estimates: list[Estimate], y: Tensor | None) -> Terms:
        rows = estimates[0].log_px.shape[0]
        loss = _mean([e.surrogate for e in estimates]) / rows
        log_px = _mean([e.log_px for e in estimates]).detach()
        kl = {site: _mean([e.kl[site] for e in estimates]).detach() for site in self.latents}
        parts = {"log_px": log_px.mean()} | {f"kl_{site}": kl[site].mean() for site in kl}
        elbo = log_px - sum(kl.values())
        parts["elbo"] = elbo.mean()
        class_logits = estimates[0].class_logits
        if y is not None and class_logits is not None:
            cross_entropy = torch.nn.functional.cross_entropy(
                class_logits, y.clamp_min(0), reduction="none"
            )
            classification = _masked_mean(cross_entropy, y >= 0)
            loss = loss + self.alpha * classification
            parts["classification"] = classification.detach()
        return Terms(loss, parts)


def _mean(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.stack(tensors).mean(0)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the rows of the mask; 0 where there is none."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)


def class_logits_of(guide_trace: Any, label_site: str | None) -> Tensor | None:
    """The class logits (B, K) of the guide's label site, None where there is no such site."""
    if label_site is None or label_site not in guide_trace.nodes:
        return None
    return guide_trace.nodes[label_site]["fn"].logits


def check_latents(guide_trace: Any, latents: Sequence[str]) -> None:
    """Refuse a guide that draws other sites than the objective was told of.

    A site left out would silently drop its term from the ELBO.
    """
    drawn = {
        name
        for name, site in guide_trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"]
    }
    if drawn != set(latents):
        raise GMMVAEError(
            f"the objective was built for the latent sites {sorted(latents)}; the guide draws "
            f"{sorted(drawn)}"
        )


def observed_log_prob(model_trace: Any) -> Tensor:
    """log p of all observed sites per row, (B,)."""
    sites = [model_trace.nodes[name]["log_prob"] for name in model_trace.observation_nodes]
    return sum(sites[1:], start=sites[0])
