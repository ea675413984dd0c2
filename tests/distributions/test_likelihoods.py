"""Likelihoods against torch's distributions, and missing entries that carry no term."""

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from pyro_gmmvae.distributions import (
    BernoulliLikelihood,
    NormalLikelihood,
    positive_scale,
)


def test_bernoulli_is_torchs_on_images() -> None:
    logits, x = torch.randn(5, 1, 4, 4), torch.bernoulli(torch.full((5, 1, 4, 4), 0.5))
    expected = Bernoulli(logits=logits).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(BernoulliLikelihood(logits, event_dim=3).log_prob(x), expected)


def test_bernoulli_on_intensities_is_an_expectation() -> None:
    logits, x = torch.randn(3, 6), torch.rand(3, 6)
    one, zero = (Bernoulli(logits=logits).log_prob(torch.full((3, 6), v)) for v in (1.0, 0.0))
    torch.testing.assert_close(
        BernoulliLikelihood(logits).log_prob(x), (x * one + (1 - x) * zero).sum(-1)
    )


def test_normal_is_torchs() -> None:
    loc, scale, x = torch.randn(5, 3), torch.rand(3) + 0.5, torch.randn(5, 3)
    expected = Normal(loc, scale).log_prob(x).sum(-1)
    torch.testing.assert_close(NormalLikelihood(loc, scale).log_prob(x), expected)


@pytest.mark.parametrize("family", ["bernoulli", "normal"])
def test_missing_entries_carry_no_term_and_no_gradient(family: str) -> None:
    parameter = torch.randn(4, 6, requires_grad=True)
    mask = torch.rand(4, 6) < 0.5
    x = torch.rand(4, 6)

    def score(value: torch.Tensor) -> torch.Tensor:
        if family == "bernoulli":
            return BernoulliLikelihood(parameter, mask=mask).log_prob(value)
        return NormalLikelihood(parameter, torch.ones(6), mask=mask).log_prob(value)

    with_nan = torch.where(mask, x, torch.nan)
    torch.testing.assert_close(score(with_nan), score(x))
    score(with_nan).sum().backward()
    assert parameter.grad is not None
    assert parameter.grad.isfinite().all()
    assert (parameter.grad[~mask] == 0).all()
    assert (parameter.grad[mask] != 0).all()


def test_expand_and_sample() -> None:
    bernoulli = BernoulliLikelihood(torch.randn(6)).expand(torch.Size([3]))
    assert bernoulli.sample().shape == (3, 6)
    assert set(bernoulli.sample().unique().tolist()) <= {0.0, 1.0}
    mask = torch.tensor([True, False])
    normal = NormalLikelihood(torch.zeros(2), torch.ones(2), mask=mask).expand(torch.Size([4, 3]))
    assert normal.log_prob(torch.zeros(4, 3, 2)).shape == (4, 3)
    draws = NormalLikelihood(torch.full((2,), 3.0), torch.full((2,), 0.5)).sample((20_000,))
    torch.testing.assert_close(draws.mean(0), torch.full((2,), 3.0), atol=0.03, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.full((2,), 0.5), atol=0.03, rtol=0)


def test_scale_link() -> None:
    raw = torch.tensor([-1000.0, -10.0, 0.0, 10.0, 1000.0])
    scale = positive_scale(raw)
    assert (scale > 0).all()
    assert (scale.diff() > 0).all()
    assert scale[2].item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("family", ["bernoulli", "normal"])
@pytest.mark.parametrize("masked", [False, True])
def test_nan_is_missing_where_the_option_is_set(family: str, masked: bool) -> None:
    """Like a mask that is false there, also together with a mask, and with a summed-out class."""
    parameter = torch.randn(3, 4, 6, requires_grad=True)
    x, mask = torch.rand(4, 6), torch.rand(4, 6) < 0.7
    gone = torch.rand(4, 6) < 0.4
    gone[1] = True
    known = ~gone & mask if masked else ~gone

    def likelihood(**more: object) -> BernoulliLikelihood | NormalLikelihood:
        if family == "bernoulli":
            return BernoulliLikelihood(parameter, **more)  # type: ignore[arg-type]
        return NormalLikelihood(parameter, torch.full((6,), 0.5), **more)  # type: ignore[arg-type]

    with_nan = torch.where(gone, torch.nan, x)
    one = likelihood(nan_is_missing=True, mask=mask if masked else None)
    found = one.log_prob(with_nan)
    assert found.shape == (3, 4)
    torch.testing.assert_close(found, likelihood(mask=known).log_prob(x))
    assert (found[:, 1] == 0).all()
    torch.testing.assert_close(one.expand(torch.Size([2, 3, 4])).log_prob(with_nan)[1], found)
    found.sum().backward()
    assert parameter.grad is not None
    assert (parameter.grad[:, ~known] == 0).all()
    assert (parameter.grad[:, known] != 0).all()


def test_nan_gives_nan_where_the_option_is_not_set() -> None:
    x = torch.tensor([0.5, torch.nan])
    assert NormalLikelihood(torch.zeros(2), torch.ones(2)).log_prob(x).isnan()
