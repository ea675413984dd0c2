"""Likelihoods of bounded rows: sums and integrals of 1, torch's distributions, draws, masks."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Binomial, Categorical, ContinuousBernoulli
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_gmmvae.distributions import (
    BinomialLikelihood,
    CategoricalLikelihood,
    ContinuousBernoulliLikelihood,
    DiscretizedLogisticLikelihood,
)

Build = Callable[..., Any]
LEVELS = 5


def binomial(p: Tensor, **more: Any) -> BinomialLikelihood:
    return BinomialLikelihood(p, count=LEVELS - 1, **more)


def categorical(p: Tensor, **more: Any) -> CategoricalLikelihood:
    """Logits of L levels from one number for each entry, of one axis."""
    levels = torch.linspace(-1, 1, LEVELS, dtype=p.dtype)[:, None]
    return CategoricalLikelihood(p.unsqueeze(-2) * levels, levels=LEVELS, **more)


def logistic(p: Tensor, **more: Any) -> DiscretizedLogisticLikelihood:
    scale = torch.full(p.shape[-1:], 0.2, dtype=p.dtype)
    return DiscretizedLogisticLikelihood(p, scale, levels=LEVELS, **more)


INTEGERS = {"binomial": binomial, "categorical": categorical, "discretized-logistic": logistic}
BOUNDED: dict[str, Build] = {**INTEGERS, "continuous-bernoulli": ContinuousBernoulliLikelihood}
every_family = pytest.mark.parametrize("build", BOUNDED.values(), ids=BOUNDED)
every_integer = pytest.mark.parametrize("build", INTEGERS.values(), ids=INTEGERS)
# in units of x for the logistic, logits for the others
PARAMETERS = torch.tensor([-30.0, -3.0, -0.4, 0.0, 1e-4, 0.3, 0.5, 1.0, 2.5, 40.0]).double()


@every_integer
def test_probabilities_of_a_pixel_sum_to_one(build: Build) -> None:
    each = torch.linspace(0, 1, LEVELS).double()[:, None, None]  # (levels, 1, one entry)
    total = build(PARAMETERS[:, None]).log_prob(each).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(len(PARAMETERS)).double())


def test_the_density_of_a_pixel_integrates_to_one() -> None:
    x = torch.linspace(0, 1, 200_001).double()[:, None, None]
    density = ContinuousBernoulliLikelihood(PARAMETERS[:, None]).log_prob(x).exp()
    total = torch.trapezoid(density, x[:, 0], dim=0)
    torch.testing.assert_close(total, torch.ones(len(PARAMETERS)).double(), atol=1e-6, rtol=0)


@every_integer
def test_the_mean_is_that_of_the_probabilities(build: Build) -> None:
    each = torch.linspace(0, 1, LEVELS).double()[:, None, None]
    one = build(PARAMETERS[:, None])
    mean = (one.log_prob(each).exp() * each[..., 0]).sum(0)
    torch.testing.assert_close(one.mean[:, 0], mean)


@every_family
def test_draws_have_the_mean_and_are_of_the_support(build: Build) -> None:
    torch.manual_seed(0)
    one = build(PARAMETERS.float())
    draws = one.sample((20_000,))
    assert draws.shape == (20_000, len(PARAMETERS))
    assert (draws >= 0).all()
    assert (draws <= 1).all()
    torch.testing.assert_close(draws.mean(0), one.mean, atol=0.01, rtol=0)
    if build in INTEGERS.values():
        torch.testing.assert_close(draws * 4, (draws * 4).round())
        found = torch.stack([(draws == k / 4).float().mean(0) for k in range(LEVELS)])
        each = torch.linspace(0, 1, LEVELS)[:, None, None]
        wanted = build(PARAMETERS.float()[:, None]).log_prob(each).exp()
        torch.testing.assert_close(found, wanted, atol=0.015, rtol=0)


def test_draws_of_the_continuous_bernoulli_have_its_distribution() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([-200.0, -2.0, 0.0, 1e-7, 3.0, 200.0])
    draws = ContinuousBernoulliLikelihood(logits).sample((20_000,))
    x = torch.tensor([0.02, 0.3, 0.7, 0.98])[:, None]
    wanted = torch.where(
        logits.abs() < 1e-3, x, torch.expm1(logits.double() * x) / torch.expm1(logits.double())
    )
    wanted[:, -1] = torch.exp(logits[-1] * (x[:, 0] - 1))  # whose exponential overflows
    found = (draws[:, None] <= x).double().mean(0)
    torch.testing.assert_close(found, wanted.double(), atol=0.015, rtol=0)


def test_the_continuous_bernoulli_is_torchs() -> None:
    """Value, mean and gradients, also where the closed form cancels (torch expands it there)."""
    logits = torch.tensor([-6.0, -1.0, -0.51, -0.49, -1e-2, 0.0, 1e-3, 0.2, 0.5, 4.0]).double()
    for x in (0.0, 0.3, 1.0):
        ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
        value = torch.full_like(logits, x)
        log_prob = ContinuousBernoulliLikelihood(ours[:, None]).log_prob(value[:, None])
        other = ContinuousBernoulli(logits=theirs, lims=(0.4999999, 0.5000001))
        torch.testing.assert_close(log_prob, other.log_prob(value), atol=1e-7, rtol=1e-7)
        log_prob.sum().backward()
        other.log_prob(value).sum().backward()
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            ContinuousBernoulliLikelihood(logits).mean, other.mean, atol=1e-6, rtol=1e-6
        )


def test_the_continuous_bernoulli_is_stable_in_single_precision() -> None:
    """Values, means and gradients near 1/2 and far from it are those of double precision."""
    logits = torch.cat([torch.linspace(-1, 1, 2001), torch.tensor([-90.0, 90.0, 1e-30, -1e4])])

    def numbers(dtype: torch.dtype) -> list[Tensor]:
        wide = logits.to(dtype).requires_grad_()
        one = ContinuousBernoulliLikelihood(wide[:, None])
        values, mean = one.log_prob(torch.full_like(wide, 0.25)[:, None]), one.mean
        gradients = [
            torch.autograd.grad(n.sum(), wide, retain_graph=True)[0] for n in (values, mean)
        ]
        return [n.detach().double() for n in (values, mean[:, 0], *gradients)]

    for single, double in zip(numbers(torch.float32), numbers(torch.float64), strict=True):
        assert single.isfinite().all()
        torch.testing.assert_close(single, double, atol=2e-6, rtol=2e-6)


def test_the_series_and_the_closed_form_meet() -> None:
    near = torch.tensor([0.5 - 1e-9, 0.5 + 1e-9, -0.5 - 1e-9, -0.5 + 1e-9]).double()
    one = ContinuousBernoulliLikelihood(near[:, None])
    values = one.log_prob(torch.full((4, 1), 0.5).double())
    torch.testing.assert_close(values, values[:1].expand(4), atol=1e-12, rtol=0)
    torch.testing.assert_close(one.mean[0], one.mean[1], atol=1e-9, rtol=0)


def test_binomial_is_torchs() -> None:
    counts = torch.arange(17.0).double()
    logits = torch.linspace(-9, 9, 17).double().requires_grad_()
    ours = BinomialLikelihood(logits[:, None], count=16).log_prob((counts / 16)[:, None])
    theirs = Binomial(16, logits=logits).log_prob(counts)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(n.sum(), logits)[0] for n in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_binomial_between_counts_differs_from_bernoulli_by_a_constant() -> None:
    """n log Bernoulli, up to a number that does not depend on the logits; finite outside [0, 1]."""
    x, logits = torch.rand(6, 1), torch.randn(2, 6, 1)
    cross = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, x.expand(2, 6, 1), reduction="none"
    )[..., 0]
    rest = BinomialLikelihood(logits, count=16).log_prob(x) + 16 * cross
    torch.testing.assert_close(rest[0], rest[1], atol=1e-4, rtol=1e-4)
    outside = torch.tensor([[-0.2], [1.3]])
    assert BinomialLikelihood(logits[0, :2], count=16).log_prob(outside).isfinite().all()


def test_categorical_is_torchs_and_takes_the_nearest_level() -> None:
    logits, level = torch.randn(3, 7, 2, 2), torch.randint(7, (3, 2, 2))
    theirs = Categorical(logits=logits.movedim(1, -1))
    ours = CategoricalLikelihood(logits, event_dim=2, levels=7)
    wanted = theirs.log_prob(level).sum((1, 2))
    torch.testing.assert_close(ours.log_prob(level / 6), wanted)
    torch.testing.assert_close(ours.log_prob(level / 6 + 0.04), wanted)
    torch.testing.assert_close(ours.mean, (theirs.probs * torch.arange(7) / 6).sum(-1))


def test_the_discretized_logistic_keeps_digits_in_its_tails() -> None:
    """Far from loc the difference of two distribution functions is 0 in single precision."""
    x, loc = torch.tensor([[0.5]]), torch.tensor([[0.9]])
    one = DiscretizedLogisticLikelihood(loc, torch.tensor([0.002]), levels=256)
    h, gap = 0.5 / 255, 0.4
    # log of exp(-(gap - h) / s) - exp(-(gap + h) / s), where both sigmoids are exponentials
    wanted = -(gap - h) / 0.002 + math.log1p(-math.exp(-2 * h / 0.002))
    assert one.log_prob(x).item() == pytest.approx(wanted, rel=1e-5)


@every_family
def test_missing_entries_and_classes_that_are_summed_out(build: Build) -> None:
    parameter = torch.randn(3, 4, 6, requires_grad=True)
    x, gone = torch.randint(0, LEVELS, (4, 6)) / (LEVELS - 1), torch.rand(4, 6) < 0.4
    gone[1] = True
    with_nan = torch.where(gone, torch.nan, x)
    one = build(parameter, nan_is_missing=True)
    found = one.log_prob(with_nan)
    torch.testing.assert_close(found, build(parameter, mask=~gone).log_prob(x))
    assert (found[:, 1] == 0).all()
    wide = one.expand(torch.Size([2, 3, 4]))
    torch.testing.assert_close(wide.log_prob(with_nan)[1], found)
    assert wide.sample().shape == (2, 3, 4, 6)
    found.sum().backward()
    assert parameter.grad is not None
    assert (parameter.grad[:, gone] == 0).all()
    assert (parameter.grad[:, ~gone] != 0).any()


@every_family
def test_the_graph_depends_on_no_value(build: Build) -> None:
    """A recorded log_prob gives other rows and parameters their own numbers."""

    def score(p: Tensor, x: Tensor) -> Tensor:
        return build(p, nan_is_missing=True).log_prob(x)

    graph = make_fx(score, tracing_mode="fake")(torch.randn(4, 6), torch.rand(4, 6).round())
    p, x = 50 * torch.randn(4, 6), torch.randint(0, LEVELS, (4, 6)) / (LEVELS - 1)
    x[0, 0], p[1, :2] = torch.nan, 0
    torch.testing.assert_close(graph(p, x), score(p, x))
