"""Tilted against its definition: the prior's density, rejection sampling, finite differences."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import kl_divergence

from pyro_gmmvae.distributions import Concrete, Tilted

PI = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
LOGITS = torch.tensor([-1.0, 2.0, 0.3, 0.0], dtype=torch.float64)
BIAS = 7.0  # of unnormalized logits


def tilted(temperature: float = 0.5, logits: torch.Tensor | None = None) -> Tilted:
    prior = Concrete(temperature, logits=PI.log() + BIAS)
    return Tilted(prior, LOGITS if logits is None else logits)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_density_integrates_to_one(temperature: float) -> None:
    """E_p[q / p] = 1 over draws of the prior, whose classes are Categorical(pi)."""
    q, n = tilted(temperature), 1_000_000
    s = q.prior.rsample((n,))
    ratio = (q.log_prob(s) - q.prior.log_prob(s)).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(n)
    shares = torch.bincount(s.argmax(-1), minlength=4) / n
    torch.testing.assert_close(shares.double(), PI, atol=3e-3, rtol=0)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_the_kl_is_that_of_a_million_draws(temperature: float) -> None:
    q, n = tilted(temperature), 1_000_000
    s = q.sample((n,))
    ratio = q.log_prob(s) - q.prior.log_prob(s)
    kl = kl_divergence(q, q.prior)
    assert abs(ratio.mean() - kl) < 5 * ratio.std() / math.sqrt(n)
    categorical = kl_divergence(
        torch.distributions.Categorical(logits=LOGITS), torch.distributions.Categorical(probs=PI)
    )
    torch.testing.assert_close(kl, categorical)


def test_the_kl_is_bounded() -> None:
    logits = 50 * torch.randn(1000, 4, dtype=torch.float64)
    q = Tilted(Concrete(0.5, logits=PI.log().expand(1000, 4)), logits)
    kl = kl_divergence(q, q.prior)
    assert (kl >= 0).all()
    assert (kl <= -PI.min().log() + 1e-9).all()
    assert kl.max() > 0.99 * -PI.min().log()


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_draws_given_a_class_are_those_of_rejection(temperature: float) -> None:
    """Kolmogorov-Smirnov of every log-coordinate, and of their pairwise differences."""
    n = 4000
    q = Tilted(Concrete(temperature, logits=PI.log().expand(n, 4)), LOGITS.expand(n, 4))
    given = q.enumerate_support(expand=True).log()
    assert given.shape == (4, n, 4)
    prior = Concrete(temperature, logits=PI.log()).sample((40 * n,)).log()
    for c in range(4):
        assert (given[c].argmax(-1) == c).all()
        kept = prior[prior.argmax(-1) == c][:n]
        for i in range(4):
            one, other = given[c][:, i], kept[:, i]
            assert stats.ks_2samp(one.cpu().numpy(), other.cpu().numpy()).pvalue > 1e-4
            for j in range(i):
                one, other = given[c][:, i] - given[c][:, j], kept[:, i] - kept[:, j]
                assert stats.ks_2samp(one.cpu().numpy(), other.cpu().numpy()).pvalue > 1e-4


def test_the_density_of_a_class_is_the_priors_given_it() -> None:
    """With one class certain, q(s) = p(s) / pi_c on its part of the simplex."""
    certain = torch.tensor([-1e9, 0.0, -1e9, -1e9], dtype=torch.float64)
    q = tilted(logits=certain)
    s = q.sample((200,))
    assert (s.argmax(-1) == 1).all()
    torch.testing.assert_close(q.log_prob(s), q.prior.log_prob(s) - PI[1].log())


def test_a_sum_over_classes_has_the_gradient_of_finite_differences() -> None:
    """sum_c q_c f(s_c) with the same noise, in the class logits and in the weights of the prior."""
    goal = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)

    def value(logits: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        q = Tilted(Concrete(0.7, logits=prior), logits)
        s = q.enumerate_support(expand=True)
        weights = q.class_log_prob(s).exp()
        torch.testing.assert_close(weights.sum(), torch.ones_like(weights.sum()))
        total = (weights * (s - goal).square().sum(-1)).sum(0) + kl_divergence(q, q.prior)
        return total + 0.01 * (weights * q.log_prob(s)).sum(0)

    start = [LOGITS.clone().requires_grad_(), (PI.log() + 1).requires_grad_()]
    assert torch.autograd.gradcheck(value, start)


def test_one_drawn_class_has_the_gradient_of_the_concrete() -> None:
    """Straight-through: that of the Concrete of the same noise, for s and for its class."""
    logits = LOGITS.clone().requires_grad_()
    direction = torch.randn(4, dtype=torch.float64)
    torch.manual_seed(5)
    relaxed = Concrete(0.5, logits=logits).rsample()
    (wanted,) = torch.autograd.grad((relaxed * direction).sum(), logits)
    torch.manual_seed(5)
    s = tilted(logits=logits).rsample()
    assert s.argmax() == relaxed.argmax()
    (gradient,) = torch.autograd.grad((s * direction).sum(), logits)
    torch.testing.assert_close(gradient, wanted)


def test_a_low_temperature_stays_finite() -> None:
    q = Tilted(Concrete(0.1, logits=torch.zeros(5000, 10)), 30 * torch.randn(5000, 10))
    for s in (q.rsample(), q.enumerate_support(expand=True)):
        assert q.log_prob(s).isfinite().all()
        assert (s.sum(-1) - 1).abs().max() < 1e-5


def test_shapes_and_refusals() -> None:
    q = Tilted(Concrete(0.5, logits=torch.zeros(3)), torch.zeros(7, 3))
    assert q.batch_shape == (7,)
    assert q.sample((2,)).shape == (2, 7, 3)
    wider = q.expand((5, 7))
    assert wider.log_prob(wider.sample()).shape == (5, 7)
    assert wider.enumerate_support(expand=True).shape == (3, 5, 7, 3)
    with pytest.raises(ValueError, match="4 logits"):
        Tilted(Concrete(0.5, logits=torch.zeros(3)), torch.zeros(4))
    with pytest.raises(NotImplementedError, match="expand=True"):
        q.enumerate_support(expand=False)
