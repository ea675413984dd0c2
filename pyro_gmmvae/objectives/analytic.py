"""The ELBO with Gaussian KL terms in closed form and the Concrete term sampled."""

from typing import Any

from pyro import poutine
from pyro.distributions import RelaxedOneHotCategorical
from pyro.distributions.util import scale_and_mask
from pyro.infer.util import is_validation_enabled
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_model_guide_match
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.objectives.base import (
    Estimate,
    Objective,
    check_latents,
    class_logits_of,
    observed_log_prob,
)


class AnalyticObjective(Objective):
    """ELBO = E_q[log p(x|z,s)] - E_q(s)[ KL(q(z|s,x) || p(z|s)) ] - E_q[log q(s|x) - log p(s)].

    The inner KL is exact at the sampled s, which lowers the variance of its gradient; only
    a relaxed one-hot site, whose KL has no closed form, is sampled. Unlike Pyro's
    ``TraceMeanField_ELBO`` it never samples another site in silence.

    Raises:
        GMMVAEError: where a latent site has no registered KL, is not reparameterised, or
            model and guide draw their latent sites in different orders (the closed form
            would then condition on the wrong variables).
    """

    def estimate(self, x: Tensor, y: Tensor | None) -> Estimate:
        model, guide = self._programs
        guide_trace = poutine.trace(guide).get_trace(x, y)
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x, y)
        if is_validation_enabled():
            check_model_guide_match(model_trace, guide_trace)
        guide_trace = prune_subsample_sites(guide_trace)
        model_trace = prune_subsample_sites(model_trace)
        check_latents(guide_trace, self.latents)
        _check_order(model_trace, guide_trace)
        kl = {
            site: _site_kl(site, guide_trace.nodes[site], model_trace.nodes[site])
            for site in self.latents
        }
        model_trace.compute_log_prob(lambda _, site: site["is_observed"])
        log_px = observed_log_prob(model_trace)
        weighted = sum(self.weights[site] * kl[site] for site in self.latents)
        return Estimate(
            surrogate=(weighted - log_px).sum(),
            log_px=log_px,
            kl=kl,
            class_logits=class_logits_of(guide_trace, self.label_site),
        )


def _check_order(model_trace: Any, guide_trace: Any) -> None:
    drawn = [n for n, s in guide_trace.nodes.items() if s["type"] == "sample"]
    order = [n for n, s in model_trace.nodes.items() if s["type"] == "sample" and n in drawn]
    if order != drawn:
        raise GMMVAEError(
            f"the analytic objective needs model and guide to draw the same sites in the same "
            f"order; the model draws {order}, the guide {drawn}; use the objective 'trace'"
        )


def _site_kl(name: str, q: Any, p: Any) -> Tensor:
    """KL of one site per row, (B,): closed form, or sampled for a relaxed one-hot."""
    guide_fn, model_fn = q["fn"], p["fn"]
    if not guide_fn.has_rsample:
        raise GMMVAEError(
            f"the analytic objective needs reparameterised sites; site {name!r} is a "
            f"{type(guide_fn).__name__}; use the objective 'trace'"
        )
    if isinstance(guide_fn, RelaxedOneHotCategorical):
        kl = guide_fn.log_prob(q["value"]) - model_fn.log_prob(q["value"])
    else:
        try:
            kl = kl_divergence(guide_fn, model_fn)
        except NotImplementedError as error:
            raise GMMVAEError(
                f"site {name!r}: no closed-form KL between {type(guide_fn).__name__} (guide) and "
                f"{type(model_fn).__name__} (model); use the objective 'trace'"
            ) from error
    return scale_and_mask(kl, scale=q["scale"], mask=q["mask"])
