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


@dataclass(frozen=True)
class LatentSite:
    """The site z of a batch's rows, at one sample.

    Attributes:
        z: (B, d), a sample of q(z|x).
        q, p: q(z|x) and p(z), of batch shape (B,).
        kl: () the mean over rows of the KL term of z, in nats.
        kl_weight: () its weight in the objective.
        x: (B, *x_shape) the rows that the model explains.
        px: p(x|z) at the sample; None: x is not a site of the model.
    """

    z: Tensor
    q: TorchDistribution
    p: TorchDistribution
    kl: Tensor
    kl_weight: Tensor
    x: Tensor
    px: TorchDistribution | None = None


class LatentTerm(nn.Module):
    """A term of z, in nats where it has a unit, and its weight in a buffer."""

    weight: Tensor
    site = "z"
    """Of the term."""
    replaces_kl = False
    """Whether the objective leaves the KL term of the site out."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(1.0))

    def site_in(self, label_sites: Sequence[str]) -> str:
        """The name of its site, where the sites of labels have these names."""
        return label_sites[0] if self.site == "class" else "z"

    def forward(self, site: LatentSite) -> Tensor:
        """The value of the term, ()."""
        raise NotImplementedError

    def added(self, value: Tensor, site: LatentSite) -> Tensor:
        """The summand of the loss, (), from the term's value."""
        del site
        return self.weight * value

    def summands(self, name: str, site: LatentSite) -> dict[str, tuple[Tensor, Tensor]]:
        """The numbers to report, (), by name, each with its summand of the loss."""
        value = self(site)
        return {name: (value, self.added(value, site))}


class Capacity(LatentTerm):
    """|KL(z) - C|, in the place of the KL term: z carries C nats of information about x.

    ``capacity`` is C, which mostly grows during training. With a high rate, or a C that grows
    fast, the KL term grows by a q(z|x) that is the same for all rows, and z carries less.

    Args:
        rate: the weight of the term.

    Reference:
        Burgess et al. 2018, arXiv:1804.03599.
    """

    replaces_kl = True

    def __init__(self, *, rate: float = 1.0) -> None:
        super().__init__()
        name = "class_capacity_rate" if self.site == "class" else "capacity_rate"
        check_range(name, rate, 0 < rate <= 1e6, "positive, and at most 1000000")
        self.rate = rate

    def forward(self, site: LatentSite) -> Tensor:
        return (site.kl - self.weight).abs()

    def added(self, value: Tensor, site: LatentSite) -> Tensor:
        del site
        return self.rate * value


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
            the value is high by some nats, and only its gradient is of use. Both assume rows that
            are drawn alike: with ``labelled_per_batch`` labelled rows count more.
        groups: of as many entries of z each, between which it is measured; 0: between entries, as
            in the upper level of HFVAE.

    Raises:
        GMMVAEError: a z of one entry or group, or a q(z|x) that is no product of Gaussians.

    Reference:
        Chen et al. 2018, arXiv:1802.04942; Esmaeili et al. 2019, arXiv:1804.02086.
    """

    name = "tc"

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
        groups = group_of_entries(site.z.shape[1], self.groups, self.name)
        log_q = self._log_q(site, groups)
        whole = self._log_mean(log_q.sum(-1))
        return (whole - self._log_mean(log_q).sum(-1)).mean()

    def _log_q(self, site: LatentSite, groups: int) -> Tensor:
        """(B, B, groups) log q(z_g|x) of z of row i (first axis) and x of row j."""
        q = _gaussian(site, self.name)
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

    name = "tc_within"

    def __init__(
        self,
        rows: int,
        *,
        estimator: Literal["stratified", "weighted"] = "stratified",
        groups: int = 2,
    ) -> None:
        check_range("tc_within_groups", groups, groups >= 1, "at least 1")
        super().__init__(rows, estimator=estimator, groups=groups)

    def forward(self, site: LatentSite) -> Tensor:
        d, groups = site.z.shape[1], self.groups
        if groups > 1:
            group_of_entries(d, groups, self.name)
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


def terms_of_sites(
    terms: Sequence[tuple[str, LatentTerm]],
    one: Draw,
    kl: Mapping[str, Tensor],
    kl_weights: Mapping[str, Tensor],
    label_sites: Sequence[str],
) -> dict[str, tuple[Tensor, Tensor]]:
    """The value of each term at a sample, and what it adds to the loss, by name."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, term in terms:
        own = term.site_in(label_sites)
        site = latent_site(one, kl[own], kl_weights[own], own)
        found |= term.summands(name, site)
    return found


def latent_site(one: Draw, kl: Tensor, kl_weight: Tensor, name: str = "z") -> LatentSite:
    """A site of a sample, with its KL term (B,) and the weight of that.

    The KL of a class is the mean over the rows without a label, whose class is inferred.

    Raises:
        GMMVAEError: the site, or its prior, has an axis in front of the rows, or z is there for
            labelled rows alone.
    """
    q, p = one.guide[name], one.model[name]["fn"]
    z, px = q["value"], one.model.get("x", {"value": q["value"], "fn": None})
    if z.dim() != 2 or len(p.batch_shape) > 1 or kl.dim() > 1:
        raise GMMVAEError(
            f"a term on {name} needs one {name} for each row, and here it has one for each class; "
            "leave the term out, or take a guide or a model that does not sum out the class"
        )
    mask = q["mask"]
    if isinstance(mask, Tensor) and name == "z":
        raise GMMVAEError(
            "a term on z needs z of all rows, and this model has it for labelled rows alone; "
            "leave the term out"
        )
    mean = kl.mean()
    if isinstance(mask, Tensor):
        mean = (kl * mask).sum() / mask.sum().clamp_min(1)
    own = p.expand(z.shape[:1])
    return LatentSite(z, q["fn"], own, mean, kl_weight, px["value"], px["fn"])


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
            f"take a guide such as product, a model such as vae, or {term}=0"
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


def required(covariates: Callable[[Tensor], Tensor] | None, key: str) -> Callable[[Tensor], Tensor]:
    """The covariates of the data.

    Raises:
        GMMVAEError: the data has none.
    """
    if covariates is None:
        raise GMMVAEError(f"{key}=covariates: name the columns with --covariates")
    return covariates
