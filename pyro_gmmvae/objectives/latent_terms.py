"""Terms on the posterior of z, for any objective and any model with a continuous site z.

They weigh parts of its KL term differently, or ask more of the aggregate posterior
q(z) = mean_rows q(z|x), which they estimate from the rows of a batch. One is a term of the class.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from pyro_gmmvae.distributions import GaussianProduct
from pyro_gmmvae.errors import GMMVAEError, check_range
from pyro_gmmvae.objectives.draws import Draw

MMD_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class LatentSite:
    """The site z of a batch's rows, at one sample.

    Attributes:
        z: (B, d), a sample of q(z|x).
        q, p: q(z|x) and p(z), of batch shape (B,).
        kl: () the mean over rows of the KL term of z, in nats.
        kl_weight: () its weight in the objective.
        x: (B, *x_shape) the rows that the model explains.
    """

    z: Tensor
    q: TorchDistribution
    p: TorchDistribution
    kl: Tensor
    kl_weight: Tensor
    x: Tensor


class LatentTerm(nn.Module):
    """A term of z, in nats where it has a unit, and its weight in a buffer."""

    weight: Tensor
    site = "z"
    """Of the term."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(1.0))

    def forward(self, site: LatentSite) -> Tensor:
        """The value of the term, ()."""
        raise NotImplementedError

    def added(self, value: Tensor, site: LatentSite) -> Tensor:
        """The summand of the loss, (), from the term's value."""
        del site
        return self.weight * value


class Capacity(LatentTerm):
    """|KL(z) - C|, in the place of the KL term: z carries C nats of information about x.

    ``capacity`` is C, which mostly grows during training.

    Args:
        rate: the weight of the term.

    Reference:
        Burgess et al. 2018, arXiv:1804.03599.
    """

    def __init__(self, *, rate: float = 10.0) -> None:
        super().__init__()
        check_range("capacity_rate", rate, 0 < rate <= 1e6, "positive, and at most 1000000")
        self.rate = rate

    def forward(self, site: LatentSite) -> Tensor:
        return (site.kl - self.weight).abs()

    def added(self, value: Tensor, site: LatentSite) -> Tensor:
        return self.rate * value - site.kl_weight * site.kl


class ClassCapacity(Capacity):
    """|KL(class) - C|, in the place of the KL term of the class, which is a relaxed one.

    ``class_capacity`` is C; more than log K nats are not reached under the objective
    ``categorical``.

    Args:
        rate: the weight of the term.

    Reference:
        Dupont 2018, arXiv:1804.00104.
    """

    site = "class"


class FreeBits(LatentTerm):
    """sum_i max(0, b - KL(z_i)): below b nats the KL term of an entry of z costs nothing.

    ``free_bits`` is b, for the mean over rows of the KL term of each entry. The weight is that of
    the KL term.

    Raises:
        GMMVAEError: a z whose entries have no KL term each.

    Reference:
        Kingma et al. 2016, arXiv:1606.04934, section C.8.
    """

    def forward(self, site: LatentSite) -> Tensor:
        p = independent_entries(site.p)
        if p is None:
            raise GMMVAEError(
                "free_bits: entries of z have a KL term each only under a Gaussian p(z); set "
                "prior=normal, or free_bits=0"
            )
        kl = kl_divergence(_gaussian(site, "free_bits"), p).mean(0)
        return (self.weight - kl).clamp_min(0).sum()

    def added(self, value: Tensor, site: LatentSite) -> Tensor:
        return site.kl_weight * value


class TotalCorrelation(LatentTerm):
    """KL( q(z) || prod_i q(z_i) ): the entries of z are independent over all rows.

    The ELBO holds this term with weight 1 already, so that weight w is the beta = 1 + w of
    beta-TC-VAE.

    Args:
        rows: N, the number of rows to fit.
        estimator: of q(z) from a batch of B rows. stratified: the row that z was drawn for
            counts 1/N, and the others 1 - 1/N together, whose mean over batches is q(z) (in the
            paper one of the others has another weight); weighted: each counts 1 / (N B), so that
            the value is low, and only its gradient is of use.
        groups: of as many entries of z each, between which it is measured; 0: between entries, as
            in the upper level of HFVAE.

    Raises:
        GMMVAEError: a z of one entry or group, or a q(z|x) that is no product of Gaussians.

    Reference:
        Chen et al. 2018, arXiv:1802.04942; Esmaeili et al. 2019, arXiv:1804.02086.
    """

    def __init__(
        self,
        rows: int,
        *,
        estimator: Literal["stratified", "weighted"] = "stratified",
        groups: int = 0,
    ) -> None:
        super().__init__()
        self.rows, self.estimator, self.groups = rows, estimator, groups

    def forward(self, site: LatentSite) -> Tensor:
        groups = group_of_entries(site.z.shape[1], self.groups, "tc")
        log_q = self._log_q(site, groups)
        whole = self._log_mean(log_q.sum(-1))
        return (whole - self._log_mean(log_q).sum(-1)).mean()

    def _log_q(self, site: LatentSite, groups: int) -> Tensor:
        """(B, B, groups) log q(z_g|x) of z of row i (first axis) and x of row j."""
        q = _gaussian(site, "tc")
        one = Normal(q.loc[None], q.scale[None])
        return one.log_prob(site.z[:, None]).unflatten(-1, (groups, -1)).sum(-1)

    def _log_mean(self, log_q: Tensor) -> Tensor:
        """log of the estimate of q(z), (B, ...) from (B, B, ...)."""
        B = len(log_q)
        N = max(self.rows, B)
        if self.estimator == "weighted":
            return log_q.logsumexp(1) - math.log(N * B)
        own = torch.eye(B, device=log_q.device, dtype=log_q.dtype)
        others = (N - 1) / (N * max(1, B - 1))
        log_weights = (own / N + (1 - own) * others).log()
        return (log_q + log_weights.reshape(B, B, *[1] * (log_q.dim() - 2))).logsumexp(1)


class WithinGroups(TotalCorrelation):
    """sum_g KL( q(z_g) || prod_{i in g} q(z_i) ): entries of a group are independent.

    The lower level of HFVAE; ``tc`` with ``tc_groups`` is the upper one. The groups are of as many
    entries of z each.

    Args:
        rows, estimator: as for :class:`TotalCorrelation`.
        groups: their number.

    Raises:
        GMMVAEError: groups of fewer than two entries, or a q(z|x) that is no product of Gaussians.

    Reference:
        Esmaeili et al. 2019, arXiv:1804.02086.
    """

    def __init__(
        self,
        rows: int,
        *,
        estimator: Literal["stratified", "weighted"] = "stratified",
        groups: int = 2,
    ) -> None:
        super().__init__(rows, estimator=estimator, groups=groups)

    def forward(self, site: LatentSite) -> Tensor:
        d = site.z.shape[1]
        groups = group_of_entries(d, self.groups, "tc_within")
        if groups == d:
            raise GMMVAEError(f"tc_within_groups {groups}: each has one entry of the {d} of z")
        log_q = self._log_q(site, d).unflatten(-1, (groups, -1))
        return (self._log_mean(log_q.sum(-1)) - self._log_mean(log_q).sum(-1)).sum(-1).mean()


class DIP(LatentTerm):
    """sum_{i != j} C_ij^2 + r sum_i (C_ii - 1)^2: entries of z are uncorrelated, of variance 1.

    Args:
        of: means: C is the covariance of the means of q(z|x) over rows (DIP-VAE-I); z: that of z
            (DIP-VAE-II).
        diagonal: r; none: 10 of means, and 1 of z, as in the paper.

    Raises:
        GMMVAEError: a q(z|x) that is no product of Gaussians.

    Reference:
        Kumar, Sattigeri, Balakrishnan 2018, arXiv:1711.00848.
    """

    def __init__(
        self, *, of: Literal["means", "z"] = "means", diagonal: float | None = None
    ) -> None:
        super().__init__()
        own = 10.0 if of == "means" else 1.0
        self.of, self.diagonal = of, own if diagonal is None else diagonal
        check_range("dip_diagonal", self.diagonal, 0 <= self.diagonal <= 1e6, "from 0 to 1000000")

    def forward(self, site: LatentSite) -> Tensor:
        q = _gaussian(site, "dip")
        centered = q.loc - q.loc.mean(0)
        covariance = centered.T @ centered / len(centered)
        variances = covariance.diagonal()
        between = covariance.square().sum() - variances.square().sum()
        if self.of == "z":
            variances = variances + q.scale.square().mean(0)
        return between + self.diagonal * (variances - 1).square().sum()


class MMD(LatentTerm):
    """The squared maximum mean discrepancy of q(z) and p(z), or of z between groups of rows.

    The kernel is a sum of inverse multiquadratic ones, k(a, b) = c / (c + |a - b|^2), with c =
    2 d times 0.1, 0.2, 0.5, 1, 2, 5 and 10. With ``kl_z`` below 1 it is InfoVAE.

    Args:
        covariates: from rows to their covariates, (B, w); None: the data has none.
        of: prior: z against draws of p(z), by the unbiased estimate; covariates: z of the rows
            with each value of each category, against z of all rows, as in VFAE.

    Raises:
        GMMVAEError: of=covariates for data without covariates.

    Reference:
        Zhao, Song, Ermon 2019, arXiv:1706.02262; Louizos et al. 2016, arXiv:1511.00830; kernel:
        Tolstikhin et al. 2018, arXiv:1711.01558.
    """

    def __init__(
        self,
        covariates: Callable[[Tensor], Tensor] | None = None,
        *,
        of: Literal["prior", "covariates"] = "prior",
    ) -> None:
        super().__init__()
        # in a tuple: the module belongs to the model, and is no submodule of the term
        self._covariates = (_required(covariates, "mmd_of") if of == "covariates" else None,)

    def forward(self, site: LatentSite) -> Tensor:
        z, covariates = site.z, self._covariates[0]
        own = _multiquadratic(z, z)
        if covariates is not None:
            groups = covariates(site.x).detach()
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
    kernels exp(-|a - b|^2 / m), m the mean of |a - b|^2 over the batch.

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
        self._covariates = (_required(covariates, "hsic_of") if of == "covariates" else None,)

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


def terms_of_sites(
    terms: Sequence[tuple[str, LatentTerm]],
    one: Draw,
    kl: Mapping[str, Tensor],
    kl_weights: Mapping[str, Tensor],
    label_sites: Sequence[str],
) -> dict[str, tuple[Tensor, Tensor]]:
    """The value of each term at a sample, and what it adds to the loss, by the term's name."""
    found = {}
    for name, term in terms:
        own = label_sites[0] if term.site == "class" else "z"
        site = latent_site(one, kl[own], kl_weights[own], own)
        value = term(site)
        found[name] = (value, term.added(value, site))
    return found


def latent_site(one: Draw, kl: Tensor, kl_weight: Tensor, name: str = "z") -> LatentSite:
    """A site of a sample, with its KL term (B,) and the weight of that.

    Raises:
        GMMVAEError: the site has an axis in front of the rows.
    """
    q, p = one.guide[name], one.model[name]["fn"]
    z, observed = q["value"], one.model.get("x", {}).get("value", q["value"])
    if z.dim() != 2:
        raise GMMVAEError(
            f"a term on {name} needs one {name} for each row, and here it has one for each class; "
            "set the guide to product or mean-field, or leave the term out"
        )
    return LatentSite(z, q["fn"], p.expand(z.shape[:1]), kl.mean(), kl_weight, observed)


def independent_entries(distribution: TorchDistribution) -> Normal | None:
    """The Gaussians of the entries of z, batch shape (..., d); None: it has no such entries."""
    if type(distribution) is GaussianProduct:
        return Normal(distribution.mean, distribution.stddev)
    if isinstance(distribution, Independent) and isinstance(distribution.base_dist, Normal):
        return distribution.base_dist
    return None


def _gaussian(site: LatentSite, term: str) -> Normal:
    """q(z|x) as Gaussians of entries, batch shape (B, d).

    Raises:
        GMMVAEError: naming the term.
    """
    q = independent_entries(site.q)
    if q is None:
        raise GMMVAEError(
            f"{term} needs a q(z|x) of independent Gaussian entries, and this guide has another; "
            f"set the guide to product or mean-field, or {term}=0"
        )
    return q


def group_of_entries(d: int, groups: int, term: str) -> int:
    """The number of groups of d entries, where 0 is one for each entry.

    Raises:
        GMMVAEError: fewer than two groups, or groups of different sizes.
    """
    if d < 2:
        raise GMMVAEError(f"{term} is of two or more entries of z, and latent_dim is {d}")
    groups = groups or d
    check_range(f"{term}_groups", groups, groups >= 2, "at least 2")
    if d % groups:
        raise GMMVAEError(f"{term}_groups {groups}: latent_dim is {d}, not a multiple of it")
    return groups


def _required(
    covariates: Callable[[Tensor], Tensor] | None, key: str
) -> Callable[[Tensor], Tensor]:
    """The covariates of the data.

    Raises:
        GMMVAEError: the data has none.
    """
    if covariates is None:
        raise GMMVAEError(f"{key}=covariates: name the columns with --covariates")
    return covariates


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
