"""The ELBO with Gaussian KL terms in closed form and the Concrete term sampled."""

from typing import Any

from pyro.distributions import RelaxedOneHotCategorical
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.objectives.base import Estimate, Objective
from pyro_gmmvae.objectives.draw import Draw


class AnalyticObjective(Objective):
    """ELBO = E_q[log p(x|z,s)] - E_q(s)[ KL(q(z|s,x) || p(z|s)) ] - E_q[log q(s|x) - log p(s)].

    The inner KL is exact at the sampled s, which lowers the variance of its gradient; only
    a relaxed one-hot site, whose KL has no closed form, is sampled, and an enumerated one is
    summed. Unlike Pyro's ``TraceMeanField_ELBO`` it never samples another site in silence.

    Raises:
        GMMVAEError: where a latent site has no registered KL, is neither reparameterised nor
            enumerated, or model and guide draw their latent sites in different orders (the
            closed form would then condition on the wrong variables).
    """

    def combine(self, one: Draw) -> Estimate:
        _check_order(one)
        return super().combine(one)

    def site_kl(self, site: str, one: Draw) -> Tensor:
        guide_fn = one.guide[site]["fn"]
        if one.is_enumerated(site) or isinstance(guide_fn, RelaxedOneHotCategorical):
            return one.log_ratio(site)
        return _closed_form(site, one.guide[site], one.model[site])


def _check_order(one: Draw) -> None:
    drawn, order = list(one.guide), [name for name in one.model if name in one.guide]
    if order != drawn:
        raise GMMVAEError(
            f"the analytic objective needs model and guide to draw the same sites in the same "
            f"order; the model draws {order}, the guide {drawn}; use the objective 'trace'"
        )


def _closed_form(name: str, q: Any, p: Any) -> Tensor:
    guide_fn, model_fn = q["fn"], p["fn"]
    if not guide_fn.has_rsample:
        raise GMMVAEError(
            f"the analytic objective needs reparameterised sites; site {name!r} is a "
            f"{type(guide_fn).__name__}; use the objective 'trace'"
        )
    try:
        kl = kl_divergence(guide_fn, model_fn)
    except NotImplementedError as error:
        raise GMMVAEError(
            f"site {name!r}: no closed-form KL between {type(guide_fn).__name__} (guide) and "
            f"{type(model_fn).__name__} (model); use the objective 'trace'"
        ) from error
    return scale_and_mask(kl, scale=q["scale"], mask=q["mask"])
