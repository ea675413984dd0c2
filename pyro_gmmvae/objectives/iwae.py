"""The importance-weighted bound of several particles."""

import math

import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.objectives.draws import Draw
from pyro_gmmvae.objectives.elbo import Estimate, TraceObjective


class IWAEObjective(TraceObjective):
    """L = E[ log 1/P sum_p p(x, latents_p) / q(latents_p|x) ], with P particles::

        ELBO <= L <= log p(x)

    On reparameterized sites it is Pyro's ``RenyiELBO(alpha=0, num_particles=P)``. Where the
    guide has enumerated sites, the log-weight of each particle is first averaged over them
    (exactly; by Jensen's inequality L is still a bound). Weights of KL terms enter the log-weights.

    Reference:
        Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519.

    Raises:
        GMMVAEError: a site is neither reparameterized nor enumerated.
    """

    default_particles = 5

    def combine(self, one: Draw) -> Estimate:
        if one.score is not None:
            raise GMMVAEError(
                "the iwae objective needs sites that are reparameterized or enumerated; use the "
                "objective 'trace'"
            )
        return super().combine(one)

    def pool(self, bounds: list[Tensor]) -> Tensor:
        return torch.logsumexp(torch.stack(bounds), 0) - math.log(len(bounds))
