"""The importance-weighted bound of several particles."""

import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.objectives.base import Estimate
from pyro_gmmvae.objectives.draw import Draw, log_mean_exp
from pyro_gmmvae.objectives.trace import TraceObjective


class IWAEObjective(TraceObjective):
    """L = E[ log 1/P sum_p p(x, latents_p) / q(latents_p|x) ], with P particles::

        ELBO <= L <= log p(x)

    On reparameterised sites it is Pyro's ``RenyiELBO(alpha=0, num_particles=P)``. Where the
    guide has enumerated sites, each particle's log-weight is first averaged over them (exactly;
    by Jensen's inequality it stays a bound). Weights of KL terms enter the log-weights.

    Reference:
        Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519.

    Raises:
        GMMVAEError: where a site can be neither reparameterised nor enumerated.
    """

    default_particles = 5

    def combine(self, one: Draw) -> Estimate:
        if one.score is not None:
            raise GMMVAEError(
                "the iwae objective needs sites that are reparameterised or enumerated; use the "
                "objective 'trace'"
            )
        return super().combine(one)

    def pool(self, bounds: list[Tensor]) -> Tensor:
        return log_mean_exp(torch.stack(bounds))
