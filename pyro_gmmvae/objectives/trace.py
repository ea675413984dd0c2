"""Every term of the ELBO sampled, as Pyro's ``Trace_ELBO`` and ``TraceEnum_ELBO`` do."""

from dataclasses import replace

from torch import Tensor

from pyro_gmmvae.objectives.base import Estimate, Objective
from pyro_gmmvae.objectives.draw import Draw, draw


class TraceObjective(Objective):
    """Every term estimated by sampling; discrete sites marked for enumeration summed out.

    With unit weights its sum over rows has the value and the gradient of Pyro's
    ``Trace_ELBO`` on the same seed (of ``TraceEnum_ELBO``, where a site is summed out).
    Sites that can be neither reparameterised nor enumerated get score-function terms, row by
    row (Ranganath, Gerrish, Blei 2014, arXiv:1401.0118).
    """

    def estimate(self, x: Tensor, y: Tensor | None) -> Estimate:
        one = draw(*self._programs, x, y, self.latents)
        estimate = self.combine(one)
        if one.score is None:
            return estimate
        reward = estimate.bound.detach()
        learning = one.mean(one.score * reward)
        return replace(estimate, bound=estimate.bound + learning - learning.detach())

    def site_kl(self, site: str, one: Draw) -> Tensor:
        return one.log_ratio(site)
