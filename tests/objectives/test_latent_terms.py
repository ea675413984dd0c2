"""Terms on z: their values against exact ones of Gaussians, and their place in the loss."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from pyro.distributions import Normal
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import CVAE, GMMVAE, VAE, GMVAEDiscrete, JointVAE
from pyro_gmmvae.objectives import (
    DIP,
    HSIC,
    LATENT_TERMS,
    MMD,
    OBJECTIVES,
    Capacity,
    FreeBits,
    LatentSite,
    TotalCorrelation,
    WithinGroups,
)

B, D, SHAPE = 12, 4, (6,)


def site(loc: Tensor, scale: Tensor | float = 0.5, x: Tensor | None = None) -> LatentSite:
    """z of rows with these posteriors, and p(z) = N(0, I)."""
    q = Normal(loc, torch.as_tensor(scale).expand_as(loc)).to_event(1)
    p = Normal(torch.zeros_like(loc), torch.ones_like(loc)).to_event(1)
    kl = kl_divergence(q, p).mean()
    return LatentSite(q.rsample(), q, p, kl, torch.tensor(1.0), loc if x is None else x)


def correlated(rows: int, correlation: float) -> Tensor:
    """(rows, 2) draws of a Gaussian of unit variances."""
    noise = torch.randn(rows, 2)
    other = correlation * noise[:, 0] + math.sqrt(1 - correlation**2) * noise[:, 1]
    return torch.stack([noise[:, 0], other], -1)


# -- total correlation -------------------------------------------------------------------------


def test_tc_of_all_rows_is_that_of_their_mixture() -> None:
    """With all rows in the batch the stratified estimate is q(z) itself."""
    one = site(torch.randn(B, D), torch.rand(B, D) + 0.2)
    q = one.q.base_dist
    each = torch.stack([Normal(q.loc[j], q.scale[j]).log_prob(one.z) for j in range(B)])
    joint = each.sum(-1).logsumexp(0) - math.log(B)
    marginals = (each.logsumexp(0) - math.log(B)).sum(-1)
    torch.testing.assert_close(TotalCorrelation(B)(one), (joint - marginals).mean())
    pairs = each.unflatten(-1, (2, 2)).sum(-1)
    between = (joint - (pairs.logsumexp(0) - math.log(B)).sum(-1)).mean()
    torch.testing.assert_close(TotalCorrelation(B, groups=2)(one), between)
    # the two levels add up
    within = WithinGroups(B, groups=2)(one)
    torch.testing.assert_close(between + within, (joint - marginals).mean())


def test_tc_of_correlated_gaussians_is_the_closed_form() -> None:
    """-log(1 - r^2) / 2, of z = mean + noise whose covariance is known."""
    noise, correlation = 0.5, 0.9
    covariance = torch.tensor([[1, correlation], [correlation, 1]]) + noise**2 * torch.eye(2)
    r = covariance[0, 1] / covariance[0, 0]
    found = TotalCorrelation(4000)(site(correlated(4000, correlation), noise)).item()
    assert found == pytest.approx(-0.5 * math.log(1 - r**2), abs=0.04)


def test_batches_estimate_the_density_of_all_rows() -> None:
    """The mean over batches of the estimate of q(z) is q(z); without the weights it is not."""
    N, batch = 200, 20
    loc, scale = torch.randn(N, 1), 0.3
    z = loc[0] + 0.1
    exact = Normal(loc, scale).log_prob(z).exp().mean()
    term, found, plain = TotalCorrelation(N), [], []
    for _ in range(3000):
        others = 1 + torch.randperm(N - 1)[: batch - 1]
        rows = loc[torch.cat([torch.zeros(1, dtype=torch.long), others])]
        log_q = Normal(rows, scale).log_prob(z).T.expand(batch, batch)
        found.append(term._log_mean(log_q)[0].exp())
        plain.append(log_q[0].exp().mean())
    standard_error = torch.stack(found).std() / math.sqrt(len(found))
    assert abs(torch.stack(found).mean() - exact) < 4 * standard_error
    assert abs(torch.stack(plain).mean() - exact) > 8 * standard_error


def test_the_weighted_estimate_counts_each_row_alike() -> None:
    one = site(torch.randn(B, D))
    q = one.q.base_dist
    each = torch.stack([Normal(q.loc[j], q.scale[j]).log_prob(one.z) for j in range(B)])
    joint, marginals = each.sum(-1).logsumexp(0), each.logsumexp(0).sum(-1)
    expected = (joint - marginals).mean() + (D - 1) * math.log(100 * B)
    found = TotalCorrelation(100, estimator="weighted")(one)
    torch.testing.assert_close(found, expected)


# -- capacity, free bits, covariance -----------------------------------------------------------


def test_capacity_replaces_the_kl_term() -> None:
    one, term = site(torch.randn(B, D)), Capacity(rate=7.0)
    term.weight.fill_(1.5)
    value = term(one)
    torch.testing.assert_close(value, (one.kl - 1.5).abs())
    torch.testing.assert_close(term.added(value, one), 7 * (one.kl - 1.5).abs())


@pytest.mark.parametrize("labelled_elbo", [1.0, 5.0])
@pytest.mark.parametrize(("name", "key"), [("capacity", "kl_z"), ("class_capacity", "kl_y")])
def test_without_a_rate_it_is_the_loss_without_the_kl_term(
    name: str, key: str, labelled_elbo: float
) -> None:
    model, x = JointVAE(SHAPE, 3, D), torch.rand(B, *SHAPE)
    y = torch.where(torch.arange(B) < 5, torch.arange(B) % 3, -1)
    losses = []
    for names in ([name], []):
        objective = with_terms(model, "categorical", names, labelled_elbo=labelled_elbo)
        objective.get_buffer(key).zero_() if not names else None
        for term in objective.latent_terms.values():
            term.rate = 0.0
        torch.manual_seed(1)
        losses.append(objective(x, y).loss)
    torch.testing.assert_close(*losses)


def test_the_capacity_of_a_class_is_that_of_rows_without_a_label() -> None:
    model, x = JointVAE(SHAPE, 3, D).eval(), torch.rand(B, *SHAPE)
    y = torch.where(torch.arange(B) < 5, torch.arange(B) % 3, -1)
    log_q = model.classify(x[5:])
    expected = (log_q.exp() * log_q).sum(-1).mean() + math.log(3)
    objective = with_terms(model, "categorical", ["class_capacity"])
    objective.scheduled["class_capacity"].zero_()
    torch.testing.assert_close(objective(x, y).parts["class_capacity"], expected)


def test_free_bits_leave_the_kl_above_them() -> None:
    """sum_i max(b, KL_i), in the place of sum_i KL_i."""
    loc = torch.randn(B, D) * torch.tensor([0.0, 0.1, 1.0, 3.0])
    one, term = site(loc, 0.9), FreeBits()
    term.weight.fill_(0.4)
    q = one.q.base_dist
    entries = kl_divergence(q, Normal(torch.zeros(D), torch.ones(D))).mean(0)
    assert (entries < 0.4).any()
    assert (entries > 0.4).any()
    torch.testing.assert_close(term.added(term(one), one) + one.kl, entries.clamp_min(0.4).sum())


def test_dip_is_the_distance_of_a_covariance_from_the_identity() -> None:
    one = site(torch.randn(B, D), torch.rand(B, D) + 0.1)
    q = one.q.base_dist
    of_means = np.cov(q.loc.cpu().numpy().T, bias=True)
    of_z = of_means + np.diag(q.scale.square().mean(0).cpu().numpy())
    for of, covariance, ratio in (("means", of_means, 10.0), ("z", of_z, 1.0)):
        between = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
        expected = between + ratio * ((np.diag(covariance) - 1) ** 2).sum()
        assert DIP(of=of)(one).item() == pytest.approx(expected, rel=1e-4)  # type: ignore[arg-type]
    assert DIP(diagonal=0.0)(one) < DIP()(one)


# -- kernels -----------------------------------------------------------------------------------


def expected_kernel(mean: float, variance: float) -> float:
    """E k(a, b) of the kernel of MMD for one entry, with a - b ~ N(mean, variance)."""
    grid = np.linspace(-12, 12, 20_001)
    density = np.exp(-0.5 * (grid - mean) ** 2 / variance) / math.sqrt(2 * math.pi * variance)
    kernel = sum(2 * c / (2 * c + grid**2) for c in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))
    return float((density * kernel).sum() * (grid[1] - grid[0]))


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_mmd_of_two_gaussians_is_an_integral(mean: float) -> None:
    found = [MMD()(site(torch.full((400, 1), mean), 1.0)).item() for _ in range(40)]
    exact = 2 * expected_kernel(0, 2) - 2 * expected_kernel(mean, 2)
    assert np.mean(found) == pytest.approx(exact, abs=4 * np.std(found) / math.sqrt(len(found)))
    assert np.std(found) < 0.2


def one_hot(values: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(values.long().squeeze(-1), 3).float()


def test_mmd_between_groups_is_that_of_each_group_and_all_rows() -> None:
    x = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0]).unsqueeze(-1)  # the value 2 has no row
    one = site(torch.randn(8, D) + 3 * x, x=x)
    found = MMD(one_hot, of="covariates")(one)
    expected = 0.0
    for value in (0, 1):
        own = one.z[x.squeeze(-1) == value]
        expected += biased_mmd(own, one.z)
    assert found.item() == pytest.approx(expected, rel=1e-4)
    same = site(torch.randn(1, D).expand(8, D), 1e-6, x=x)
    assert MMD(one_hot, of="covariates")(same).item() == pytest.approx(0, abs=1e-4)


def biased_mmd(a: Tensor, b: Tensor) -> float:
    def mean(u: Tensor, v: Tensor) -> float:
        squares = torch.cdist(u.double(), v.double()) ** 2
        scales = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
        return sum(float((2 * D * c / (2 * D * c + squares)).mean()) for c in scales)

    return mean(a, a) + mean(b, b) - 2 * mean(a, b)


def exact_hsic(r: float) -> float:
    """HSIC of a bivariate Gaussian of unit variances and correlation r, with unit kernels.

    E exp(-u'u/2) of u ~ N(0, S) is det(I + S)^(-1/2); differences of two draws have 2 S, and the
    third term is that of two draws' differences to one draw.
    """
    covariance = np.array([[1, r], [r, 1]])
    joint = np.linalg.det(np.eye(2) + 2 * covariance) ** -0.5
    alone = 3.0**-0.5
    # (a - b, c - d) of a pair (a, c), and b, d drawn by themselves
    mixed = np.linalg.det(np.eye(2) + np.array([[2, r], [r, 2]])) ** -0.5
    return float(joint + alone**2 - 2 * mixed)


@pytest.mark.parametrize("r", [0.0, 0.8])
def test_hsic_of_two_gaussians_is_the_closed_form(r: float) -> None:
    found = HSIC()(site(correlated(3000, r), 1e-6)).item()
    assert found == pytest.approx(exact_hsic(r), abs=2e-3)
    assert exact_hsic(0.0) == pytest.approx(0)
    assert exact_hsic(0.8) > 0.02


def test_hsic_with_covariates_needs_them() -> None:
    x = torch.randint(0, 3, (200, 1))
    tied = site(torch.randn(200, D) + 3 * x, x=x)
    free = site(torch.randn(200, D), x=x)
    term = HSIC(one_hot, of="covariates")
    assert term(tied) > 5 * term(free)
    with pytest.raises(GMMVAEError, match="hsic_of=covariates: name the columns"):
        HSIC(of="covariates")
    with pytest.raises(GMMVAEError, match="mmd_of=covariates: name the columns"):
        MMD(of="covariates")


# -- in the objective --------------------------------------------------------------------------


def with_terms(model: Any, objective: str, names: Any, **options: Any) -> Any:
    made = {}
    for name in names:
        given: list[Any] = [B] if name in ("tc", "tc_within") else []
        if name.endswith("adversary"):
            given = [{"z": model.latent_dim, "class": model.components}]
        made[name] = LATENT_TERMS[name](*given)
    return OBJECTIVES[objective](
        model.model,
        model.guide,
        latents=model.latents,
        label_sites=model.label_sites,
        latent_terms=made,
        **options,
    )


OF_ROWS = {"pair_adversary", "x_adversary"}  # see test_row_adversaries


@pytest.mark.parametrize("name", sorted(set(LATENT_TERMS) - OF_ROWS))
@pytest.mark.parametrize("guide", ["product", "mean-field", "conditional", "straight-through"])
def test_the_loss_is_that_without_them_plus_what_they_add(guide: str, name: str) -> None:
    model = GMMVAE(SHAPE, 3, D, guide=GUIDES[guide])
    x = torch.rand(B, *SHAPE)
    objective = with_terms(model, "analytic", [name], particles=2, elbo_scale=0.5)
    assert objective.scheduled[name].item() == 1
    objective.scheduled[name].fill_(2.0)
    torch.manual_seed(1)
    terms = objective(x)
    torch.manual_seed(1)
    plain = with_terms(model, "analytic", [], particles=2, elbo_scale=0.5)(x)
    added = terms.loss - plain.loss
    # draws of p(z) or of permutations move the second particle
    others = ("capacity", "class_capacity", "free_bits", "mmd")
    if name not in others and not name.endswith("adversary"):
        torch.testing.assert_close(added, 0.5 * 2.0 * terms.parts[name], rtol=1e-3, atol=1e-4)
    assert terms.parts[name].isfinite()
    terms.loss.backward()
    assert all(p.grad is not None for p in model.guide.parameters())


def test_terms_are_refused_where_z_has_no_such_parts() -> None:
    x = torch.rand(B, *SHAPE)
    with pytest.raises(GMMVAEError, match="one z for each row"):
        with_terms(GMMVAE(SHAPE, 3, D, guide=GUIDES["enumerated"]), "analytic", ["mmd"])(x)
    with pytest.raises(GMMVAEError, match="tc is of two or more entries of z, and latent_dim is 1"):
        with_terms(VAE(SHAPE, 1), "analytic", ["tc"])(x)
    with pytest.raises(GMMVAEError, match="hsic_groups 2: latent_dim is 3, not a multiple"):
        with_terms(VAE(SHAPE, 3), "analytic", ["hsic"])(x)
    with pytest.raises(GMMVAEError, match="only under a Gaussian"):
        with_terms(VAE(SHAPE, 3, prior="mixture"), "trace", ["free_bits"])(x)
    with pytest.raises(GMMVAEError, match="tc_groups must be at least 2"):
        TotalCorrelation(B, groups=-1)(site(torch.randn(B, D)))
    with pytest.raises(GMMVAEError, match="tc_within_groups 2: each has one entry of the 2"):
        with_terms(VAE(SHAPE, 2), "analytic", ["tc_within"])(x)
    with pytest.raises(GMMVAEError, match="a term on z needs one z for each row"):
        with_terms(GMVAEDiscrete(SHAPE, 3, D), "analytic", ["tc"])(x)
    with pytest.raises(GMMVAEError, match="needs z of all rows"):
        with_terms(CVAE(SHAPE, 3, D), "analytic", ["mmd"])(x, torch.full((B,), -1))
    flow = GMMVAE(SHAPE, 3, D, guide=GUIDES["flow"])
    with pytest.raises(GMMVAEError, match="independent Gaussian entries"):
        with_terms(flow, "trace", ["dip"])(x)
