"""SVAE: the posterior of potentials is exact with one component, and the best one with several."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import ConjugateGuide
from pyro_gmmvae.models import GMMVAE, SVAE
from pyro_gmmvae.networks import NetworkOptions

D = 3


def model(K: int, iterations: int = 50) -> SVAE:
    torch.manual_seed(0)
    made = SVAE(
        (5,),
        K,
        D,
        guide=lambda own: ConjugateGuide(own, iterations=iterations),
        options=NetworkOptions((8,)),
    )
    with torch.no_grad():
        made.mixture.loc.mul_(2)  # type: ignore[union-attr]
    return made


def potential(one: SVAE, x: Tensor) -> Normal:
    loc, raw_scale = one.guide.encoder(x).chunk(2, -1)
    return Normal(loc, positive_scale(raw_scale))


def free_energy(one: SVAE, x: Tensor, q: Normal, r: Tensor) -> Tensor:
    """E_q[ log potential + log p(z|s) p(s) - log q ] of each row, in nats."""
    given = potential(one, x)
    squares = (q.loc - given.loc).square() + q.scale.square()
    of_potential = -squares / (2 * given.scale.square()) - given.scale.log()
    scores = one.mixture.class_scores(q.loc, q.scale)
    entropy = (q.entropy() + of_potential).sum(-1)
    return entropy + (r * (scores - r.log())).sum(-1)


def test_with_one_component_it_is_the_posterior_of_two_gaussians() -> None:
    one, x = model(1), torch.rand(4, 5)
    q, _ = one.guide.posterior(x)
    given, prior = potential(one, x), one.mixture(torch.ones(4, 1))
    precision = given.scale.pow(-2) + prior.stddev.pow(-2)
    torch.testing.assert_close(q.stddev, precision.rsqrt())
    weighted = given.loc * given.scale.pow(-2) + prior.mean * prior.stddev.pow(-2)
    torch.testing.assert_close(q.mean, weighted / precision)


@torch.no_grad()
def test_each_iteration_raises_the_bound_and_no_other_posterior_near_has_a_higher_one() -> None:
    x = torch.rand(6, 5)
    values = []
    for iterations in (1, 2, 4, 50):
        one = model(4, iterations)
        q, logits = one.guide.posterior(x)
        values.append(free_energy(one, x, q.base_dist, logits.softmax(-1)))
    for lower, higher in itertools.pairwise(values):
        assert (higher >= lower - 1e-5).all()
    assert (values[-1] > values[0]).any()
    q, r = q.base_dist, logits.softmax(-1)
    for _ in range(20):
        other = Normal(
            q.loc + 0.05 * torch.randn_like(q.loc), q.scale * torch.rand_like(q.scale).add(0.5)
        )
        moved = (r.log() + 0.1 * torch.randn_like(r)).softmax(-1)
        assert (free_energy(one, x, other, moved) <= values[-1] + 1e-5).all()


def test_a_label_is_the_prior_of_s_and_trains_the_class() -> None:
    one, x = model(3, 3), torch.rand(4, 5)
    torch.testing.assert_close(one.classify(x), one.guide.posterior(x)[1].log_softmax(-1))
    one.classify(x)[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in one.guide.encoder.parameters())


def test_mixtures_and_iterations_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GMMVAEError, match="needs covariance=diagonal"):
        SVAE((5,), 3, D, covariance="full")
    with pytest.raises(GMMVAEError, match="iterations must be from 1 to 1000"):
        GMMVAE((5,), 3, D, guide=lambda own: ConjugateGuide(own, iterations=0))
