"""Terms on z that compare its draws by kernels: with draws of the prior, or with covariates."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pyro_gmmvae.errors import check_range
from pyro_gmmvae.objectives.latent_terms import (
    LatentSite,
    LatentTerm,
    group_of_entries,
    required,
)

MMD_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class MMD(LatentTerm):
    """The squared maximum mean discrepancy of q(z) and p(z), or of z between groups of rows.

    The kernel is a sum of inverse multiquadratic ones, k(a, b) = c / (c + |a - b|^2), with c =
    2 d times 0.1, 0.2, 0.5, 1, 2, 5 and 10. With ``kl_z`` below 1 it is InfoVAE.

    Args:
        groups_of: from rows to ones (B, v), of the value of each covariate that a row has; None:
            the data has none.
        of: prior: z against draws of p(z) (of a mixture: of p(z|s) at the draws of s), by the
            unbiased estimate; covariates: z of the rows with each value of each covariate, against
            z of all rows, as in VFAE.

    Raises:
        GMMVAEError: of=covariates for data without covariates.

    Reference:
        Zhao, Song, Ermon 2019, arXiv:1706.02262; Louizos et al. 2016, arXiv:1511.00830; kernel:
        Tolstikhin et al. 2018, arXiv:1711.01558.
    """

    def __init__(
        self,
        groups_of: Callable[[Tensor], Tensor] | None = None,
        *,
        of: Literal["prior", "covariates"] = "prior",
    ) -> None:
        super().__init__()
        # in a tuple: the module belongs to the model, and is no submodule of the term
        self._groups = (required(groups_of, "mmd_of") if of == "covariates" else None,)

    def forward(self, site: LatentSite) -> Tensor:
        z, groups_of = site.z, self._groups[0]
        own = _multiquadratic(z, z)
        if groups_of is not None:
            groups = groups_of(site.x)
            shares = groups / groups.sum(0).clamp_min(1) - 1 / len(z)
            shares = shares * (groups.sum(0) > 0)  # a batch may lack a value
            return (shares * (own @ shares)).sum()
        draws = site.p.rsample() if site.p.has_rsample else site.p.sample()
        other = _multiquadratic(draws, draws)
        pairs = len(z) * (len(z) - 1)
        within = [(k.sum() - k.diagonal().sum()) / max(1, pairs) for k in (own, other)]
        return within[0] + within[1] - 2 * _multiquadratic(z, draws).mean()


class HSIC(LatentTerm):
    """Dependence of groups of entries of z, or of z and covariates: 0 where they are independent.

    The Hilbert-Schmidt independence criterion (of more than two groups: dHSIC), with Gaussian
    kernels exp(-|a - b|^2 / m), m the mean of |a - b|^2 over the batch, at least 0.1 w for
    vectors of w numbers.

    Args:
        covariates: from rows to their covariates, (B, w); None: the data has none.
        of: groups: between groups of z; covariates: between z and the covariates.
        groups: their number, of as many entries of z each.

    Raises:
        GMMVAEError: a z that has no such groups, or of=covariates for data without covariates.

    Reference:
        Lopez et al. 2018, arXiv:1805.08672; Pfister et al. 2018, arXiv:1603.00285.
    """

    def __init__(
        self,
        covariates: Callable[[Tensor], Tensor] | None = None,
        *,
        of: Literal["groups", "covariates"] = "groups",
        groups: int = 2,
    ) -> None:
        super().__init__()
        check_range("hsic_groups", groups, groups >= 2, "at least 2")
        self.groups = groups
        self._covariates = (required(covariates, "hsic_of") if of == "covariates" else None,)

    def forward(self, site: LatentSite) -> Tensor:
        z, covariates = site.z, self._covariates[0]
        if covariates is None:
            parts = z.chunk(group_of_entries(z.shape[1], self.groups, "hsic"), -1)
        else:
            parts = (z, covariates(site.x).detach())
        kernels = torch.stack([_gaussian_kernel(part) for part in parts])
        means = kernels.mean(2)
        joint = kernels.prod(0).mean()
        return joint + means.mean(1).prod() - 2 * means.prod(0).mean()


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2, (B, B), from (B, d) each."""
    return (a[:, None] - b[None]).square().sum(-1)


def _multiquadratic(a: Tensor, b: Tensor) -> Tensor:
    squares, d = _squares(a, b), a.shape[1]
    return sum((2 * d * c / (2 * d * c + squares) for c in MMD_SCALES), torch.zeros_like(squares))


def _gaussian_kernel(a: Tensor) -> Tensor:
    squares = _squares(a, a)
    # far from the width of a kernel it has no gradient
    width = squares.mean().detach().clamp_min(0.1 * a.shape[1])
    return (-squares / width).exp()
