"""Every term of the ELBO sampled, as Pyro's ``Trace_ELBO`` and ``TraceEnum_ELBO`` do."""

from torch import Tensor

from pyro_gmmvae.objectives.base import Objective
from pyro_gmmvae.objectives.draw import Draw


class TraceObjective(Objective):
    """Every term estimated by sampling; discrete sites marked for enumeration summed out.

    With unit weights its sum over rows has the value and the gradient of Pyro's
    ``Trace_ELBO`` on the same seed (of ``TraceEnum_ELBO``, where a site is summed out).
    Sites that can be neither reparameterised nor enumerated get score-function terms, row by
    row (Ranganath, Gerrish, Blei 2014, arXiv:1401.0118).
    """

    def row_bound(self, one: Draw, values: Tensor) -> Tensor:
        bound = one.mean(values)
        if one.score is None:
            return bound
        # of value 0, and with the gradient of the score function times the reward
        return bound + one.mean((one.score - one.score.detach()) * values.detach())

    def site_kl(self, site: str, one: Draw) -> Tensor:
        return one.log_ratio(site)
