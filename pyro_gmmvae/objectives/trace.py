"""Trace_ELBO as it is, behind the interface of the objectives."""

from typing import Any

from pyro.distributions.util import scale_and_mask
from pyro.infer import Trace_ELBO
from torch import Tensor

from pyro_gmmvae.objectives.base import (
    Estimate,
    Objective,
    check_latents,
    class_logits_of,
    observed_log_prob,
)
from pyro_gmmvae.objectives.handlers import SiteWeights


class TraceObjective(Objective):
    """Every term estimated by sampling, with Pyro's ``Trace_ELBO``.

    With unit weights its sum over rows is ``Trace_ELBO().differentiable_loss(model, guide)``
    on the same seed. Sites that are not reparameterised get Pyro's score-function terms.
    """

    def estimate(self, x: Tensor, y: Tensor | None) -> Estimate:
        model, guide = self._programs
        elbo = _TraceELBO()
        with SiteWeights(self.weights):
            model_trace, guide_trace = next(elbo._get_traces(model, guide, (x, y), {}))
        check_latents(guide_trace, self.latents)
        kl = {
            site: _unweighted(guide_trace.nodes[site]) - _unweighted(model_trace.nodes[site])
            for site in self.latents
        }
        return Estimate(
            surrogate=elbo.surrogate(model_trace, guide_trace),
            log_px=observed_log_prob(model_trace),
            kl=kl,
            class_logits=class_logits_of(guide_trace, self.label_site),
        )


class _TraceELBO(Trace_ELBO):
    def surrogate(self, model_trace: Any, guide_trace: Any) -> Tensor:
        """Pyro's differentiable loss, kept a tensor where every site is reparameterised.

        Pyro reads each site's value back to the host, which a GPU would wait for.
        """
        sites = [s for s in guide_trace.nodes.values() if s["type"] == "sample"]
        if all(getattr(site["fn"], "has_rsample", False) for site in sites):
            return guide_trace.log_prob_sum() - model_trace.log_prob_sum()
        loss, surrogate = self._differentiable_loss_particle(model_trace, guide_trace)
        return surrogate + (loss - surrogate.detach())


def _unweighted(site: Any) -> Tensor:
    """A site's log-density per row before its weight (its mask still holds)."""
    return scale_and_mask(site["unscaled_log_prob"], mask=site["mask"])
