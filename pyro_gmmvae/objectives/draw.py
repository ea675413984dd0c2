"""One draw of all latents from a guide, scored by both programs; discrete sites are summed out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.infer.util import is_validation_enabled
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_model_guide_match
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError

Program = Callable[[Tensor, Tensor | None], Any]


@dataclass(frozen=True)
class Draw:
    """The sites of guide and model at one draw, with their log-densities.

    A site of the guide marked ``infer={"sum_out": True}`` is not drawn: it takes all its
    values, along an axis in front of the rows, as under Pyro's ``TraceEnum_ELBO``. (Pyro's own
    mark, "enumerate", would make its ``Trace_ELBO`` warn of programs it can train.)

    Attributes:
        guide, model: the nodes of the two traces by site.
        weights: probability of each value of the enumerated sites, (..., B), summing to 1
            over all axes but the last; None where every site was drawn.
    """

    guide: dict[str, Any]
    model: dict[str, Any]
    weights: Tensor | None

    def mean(self, values: Tensor) -> Tensor:
        """(B,): values (..., B) averaged over the enumerated sites, exactly."""
        if self.weights is None:
            return values
        rows = self.weights.shape[-1]
        return (self.weights * values).reshape(-1, rows).sum(0)

    def log_ratio(self, site: str) -> Tensor:
        """log q - log p of a latent site at its value."""
        ratio: Tensor = self.guide[site]["log_prob"] - self.model[site]["log_prob"]
        return ratio

    def is_enumerated(self, site: str) -> bool:
        """Whether a site takes all its values, rather than one drawn at random."""
        return _is_enumerated(self.guide[site])

    @property
    def log_px(self) -> Tensor:
        """log p of all observed sites."""
        observed = [s["log_prob"] for s in self.model.values() if s["is_observed"]]
        return sum(observed[1:], start=observed[0])

    @property
    def score(self) -> Tensor | None:
        """log q of the sites that can be neither reparameterised nor enumerated, or None."""
        scores = [
            site["log_prob"]
            for site in self.guide.values()
            if not site["fn"].has_rsample and not _is_enumerated(site)
        ]
        return sum(scores[1:], start=scores[0]) if scores else None

    def class_logits(self, label_sites: Sequence[str]) -> dict[str, Tensor]:
        """(B, K) log q(y|x), unnormalized, of each of some sites that the guide has.

        A guide whose site is told the label (so that its logits know it) leaves those of
        unlabelled rows in ``infer["class_logits"]``.
        """
        return _class_logits(self.guide, label_sites)

    def prior_logits(self, label_sites: Sequence[str]) -> dict[str, Tensor]:
        """(B, K) log p(y), unnormalized, of the label sites that the guide has."""
        return {name: self.model[name]["fn"].logits for name in label_sites if name in self.guide}


def draw(
    model: Program,
    guide: Program,
    x: Tensor,
    y: Tensor | None,
    latents: Sequence[str],
    observed: Tensor | None = None,
) -> Draw:
    """Run the guide on x, replay the model against it, and score every site.

    Args:
        model, guide, latents: the programs, and the sites that both have.
        x, y: rows and labels.
        observed: the rows the model explains, where they are not those the guide sees.

    Raises:
        GMMVAEError: a guide or a model that draws other sites than ``latents``.
    """
    guide_trace = _trace_of(guide, x, y)
    seen = x if observed is None else observed
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(seen, y)
    summing = any(_is_enumerated(s) for s in guide_trace.nodes.values() if s["type"] == "sample")
    if is_validation_enabled() and not summing:  # its shapes know of no axes in front
        check_model_guide_match(model_trace, guide_trace)
    guide_trace = prune_subsample_sites(guide_trace)
    model_trace = prune_subsample_sites(model_trace)
    model_trace.compute_log_prob()
    guide_trace.compute_log_prob()
    guide_sites, model_sites = _samples(guide_trace), _samples(model_trace)
    _check_latents(guide_sites, model_sites, latents)
    log_weights = [s["log_prob"] for s in guide_sites.values() if _is_enumerated(s)]
    weights = sum(log_weights[1:], start=log_weights[0]).exp() if log_weights else None
    return Draw(guide_sites, model_sites, weights)


def assignments(
    guide: Program, x: Tensor, y: Tensor | None, label_sites: Sequence[str]
) -> dict[str, Tensor]:
    """(B, K) log q(y|x), unnormalized, of each of some sites that the guide has."""
    return _class_logits(_samples(_trace_of(guide, x, y)), label_sites)


def _trace_of(guide: Program, x: Tensor, y: Tensor | None) -> Any:
    marked = poutine.infer_config(guide, _enumerate_if_marked)
    enumerating = poutine.enum(marked, first_available_dim=-2)  # -1 is the plate of the rows
    return poutine.trace(enumerating).get_trace(x, y)


def _class_logits(guide: dict[str, Any], label_sites: Sequence[str]) -> dict[str, Tensor]:
    found = {}
    for name in label_sites:
        if name in guide:
            site = guide[name]
            given: Tensor | None = site["infer"].get("class_logits")
            found[name] = site["fn"].logits if given is None else given
    return found


def _enumerate_if_marked(site: Any) -> dict[str, str]:
    return {"enumerate": "parallel"} if site["infer"].get("sum_out") else {}


def _samples(trace: Any) -> dict[str, Any]:
    return {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}


def _is_enumerated(site: Any) -> bool:
    return site["infer"].get("_enumerate_dim") is not None


def _check_latents(guide: dict[str, Any], model: dict[str, Any], latents: Sequence[str]) -> None:
    """A site left out would silently drop its term from the ELBO."""
    for owner, sites in (("guide", guide), ("model", model)):
        drawn = {name for name, site in sites.items() if not site["is_observed"]}
        if drawn != set(latents):
            raise GMMVAEError(
                f"the objective was built for the latent sites {sorted(latents)}; the {owner} "
                f"draws {sorted(drawn)}"
            )


def log_mean_exp(values: Tensor) -> Tensor:
    """log of the mean of exp over the first axis."""
    return torch.logsumexp(values, 0) - math.log(len(values))
