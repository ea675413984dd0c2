"""The analytic objective with a categorical KL in the place of the Concrete's density ratio."""

from pyro.distributions import RelaxedOneHotCategorical
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from pyro_gmmvae.objectives.analytic import AnalyticObjective
from pyro_gmmvae.objectives.draw import Draw


class CategoricalObjective(AnalyticObjective):
    """Analytic, with KL(s) = sum_i q_i (log q_i - log p_i), q and p the Concretes' classes.

    It has no sampling noise and is bounded where p is flat (by log K), as in Jang, Gu, Poole
    2017, arXiv:1611.01144. What is optimised (and what it reports as ``elbo`` while fitting) is
    then no bound of the relaxed model, whose KL is the density ratio; ``evaluate`` measures
    that one.
    """

    def site_kl(self, site: str, one: Draw) -> Tensor:
        guide_fn, model_fn = one.guide[site]["fn"], one.model[site]["fn"]
        if not isinstance(guide_fn, RelaxedOneHotCategorical):
            return super().site_kl(site, one)
        log_q, log_p = guide_fn.logits.log_softmax(-1), model_fn.logits.log_softmax(-1)
        kl = (log_q.exp() * (log_q - log_p)).sum(-1)
        return scale_and_mask(kl, scale=one.guide[site]["scale"], mask=one.guide[site]["mask"])
