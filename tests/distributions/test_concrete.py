"""Concrete against torch, higher precision, and a million draws at low temperature."""

import math

import mpmath
import pytest
import torch
from pyro.distributions import RelaxedOneHotCategorical
from scipy import stats
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from pyro_gmmvae.distributions import Concrete


def exact_log_prob(temperature: float, logits: list[float], log_s: list[float]) -> float:
    """log p(s) in 60 digits, from the formula in the distribution's docstring."""
    with mpmath.workdps(60):
        t, size = mpmath.mpf(temperature), len(logits)
        scores = [mpmath.mpf(a) - t * mpmath.mpf(b) for a, b in zip(logits, log_s, strict=True)]
        top = max(scores)
        lse = top + mpmath.log(mpmath.fsum(mpmath.exp(v - top) for v in scores))
        value = mpmath.log(mpmath.factorial(size - 1)) + (size - 1) * mpmath.log(t)
        value += mpmath.fsum(scores) - size * lse - mpmath.fsum(mpmath.mpf(b) for b in log_s)
        return float(value)


def test_is_pyros_relaxed_one_hot() -> None:
    assert isinstance(Concrete(0.5, logits=torch.zeros(3)), RelaxedOneHotCategorical)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 2.0])
def test_log_prob_is_torchs_in_float64(temperature: float) -> None:
    logits = torch.randn(7, 5, dtype=torch.float64)
    ours = Concrete(temperature, logits=logits)
    s = ours.rsample((11,))
    theirs = ExpRelaxedCategorical(torch.tensor(temperature, dtype=torch.float64), logits=logits)
    expected = theirs.log_prob(s.log()) - s.log().sum(-1)
    torch.testing.assert_close(ours.log_prob(s), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.01, 0.05, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("gap", [0.0, 5.0, 20.0, 50.0])
def test_log_prob_in_float32_against_60_digits(temperature: float, gap: float) -> None:
    logits = torch.tensor([gap, 0.0, -1.0, gap / 2], dtype=torch.float32)
    s = Concrete(temperature, logits=logits).rsample((50,))
    other = torch.tensor([0.0, 1.0, gap, 0.5], dtype=torch.float32)
    stored = torch.tensor(temperature, dtype=torch.float32).item()
    for scored in (logits, other):  # the guide's own draw, and the prior's view of it
        found = Concrete(temperature, logits=scored).log_prob(s)
        for i in range(len(s)):
            log_s = s._concrete_log_sample[i].tolist()
            exact = exact_log_prob(stored, scored.tolist(), log_s)
            assert abs(found[i].item() - exact) <= 1e-4 * max(abs(exact), 1.0)


def test_any_other_point_is_scored_by_its_logarithm() -> None:
    point = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float32)
    logits = [0.3, -1.0, 2.0]
    found = Concrete(0.7, logits=torch.tensor(logits, dtype=torch.float32)).log_prob(point)
    exact = exact_log_prob(
        torch.tensor(0.7, dtype=torch.float32).item(),
        torch.tensor(logits, dtype=torch.float32).tolist(),
        [math.log(v) for v in point.tolist()],
    )
    assert found.item() == pytest.approx(exact, rel=1e-5)
    vertex = torch.tensor([1.0, 0.0, 0.0])
    assert Concrete(0.5, logits=torch.zeros(3)).log_prob(vertex).isfinite()


def test_a_million_draws_at_low_temperature_stay_finite() -> None:
    logits = torch.tensor([20.0, 0.0, 0.0], dtype=torch.float32, requires_grad=True)
    prior_logits = torch.zeros(3, dtype=torch.float32, requires_grad=True)
    q, p = Concrete(0.05, logits=logits), Concrete(0.05, logits=prior_logits)
    s = q.rsample((1_000_000,))
    log_q, log_p = q.log_prob(s), p.log_prob(s)
    assert s.isfinite().all()
    assert log_q.isfinite().all()
    assert log_p.isfinite().all()
    per_draw = torch.autograd.grad(
        (log_q - log_p).sum() + (s * torch.tensor([1.0, 2.0, 3.0])).sum(), (logits, prior_logits)
    )
    assert all(g.isfinite().all() for g in per_draw)


def test_validation_accepts_draws_and_refuses_other_points() -> None:
    concrete = Concrete(0.3, logits=torch.zeros(1000), validate_args=True)
    concrete.log_prob(concrete.rsample((100,)))
    with pytest.raises(ValueError, match="sum to 1"):
        concrete.log_prob(torch.ones(1000))
    with pytest.raises(ValueError, match="simplex of 1000"):
        concrete.log_prob(torch.ones(3) / 3)


def test_density_integrates_to_one() -> None:
    """K = 2: the simplex is a segment, so a fine sum over s_1 must give 1."""
    s1 = torch.linspace(0, 1, 200_002, dtype=torch.float64)[1:-1]
    points = torch.stack([s1, 1 - s1], -1)
    logits = torch.tensor([0.4, -0.3], dtype=torch.float64)
    for temperature in (0.7, 1.0, 1.5):
        density = Concrete(temperature, logits=logits).log_prob(points).exp()
        assert torch.trapezoid(density, s1).item() == pytest.approx(1, abs=5e-3)


def test_largest_entry_is_the_categorical_of_the_logits() -> None:
    """P(argmax s = k) = softmax(logits)_k at any temperature (the Gumbel-max trick)."""
    logits = torch.tensor([1.0, 0.0, -1.0, 0.5])
    draws = Concrete(0.3, logits=logits).sample((40_000,)).argmax(-1)
    counts = torch.bincount(draws, minlength=4).cpu().numpy()
    expected = (logits.double().softmax(-1) * 40_000).cpu().numpy()
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_marginal_of_two_classes_is_a_logistic() -> None:
    """K = 2: log(s_1 / s_2) = (logits_1 - logits_2 + Logistic(0, 1)) / t."""
    t, gap = 0.5, 1.5
    s = Concrete(t, logits=torch.tensor([gap, 0.0])).sample((20_000,))
    ratio = (s._concrete_log_sample[:, 0] - s._concrete_log_sample[:, 1]).double().cpu().numpy()
    assert stats.kstest(ratio, stats.logistic(gap / t, 1 / t).cdf).pvalue > 1e-3


def test_monte_carlo_kl_agrees_with_a_float64_estimate() -> None:
    logits_q, logits_p = [12.0, 0.0, -2.0], [0.0, 0.0, 0.0]

    def estimate(dtype: torch.dtype) -> tuple[float, float]:
        q = Concrete(0.1, logits=torch.tensor(logits_q, dtype=dtype))
        p = Concrete(0.1, logits=torch.tensor(logits_p, dtype=dtype))
        s = q.rsample((200_000,))
        terms = (q.log_prob(s) - p.log_prob(s)).double()
        return terms.mean().item(), terms.std().item() / math.sqrt(len(terms))

    single, error = estimate(torch.float32)
    double, error64 = estimate(torch.float64)
    assert abs(single - double) < 3 * math.hypot(error, error64)


def test_gradients_in_float64() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    point = torch.rand(3, 4, dtype=torch.float64)
    point = point / point.sum(-1, keepdim=True)
    assert torch.autograd.gradcheck(
        lambda a, t: Concrete(t, logits=a).log_prob(point), (logits, temperature)
    )


def test_expand_and_probs_keep_the_density() -> None:
    probs = torch.tensor([0.2, 0.3, 0.5])
    one = Concrete(torch.tensor(0.5), probs=probs)
    many = one.expand(torch.Size([4, 2]))
    assert isinstance(many, Concrete)
    s = many.rsample()
    assert s.shape == (4, 2, 3)
    torch.testing.assert_close(many.log_prob(s), one.log_prob(s))
    logits = Concrete(torch.tensor(0.5), logits=probs.log() + 3)
    torch.testing.assert_close(logits.log_prob(s), one.log_prob(s), rtol=1e-4, atol=1e-4)


def test_a_temperature_per_row() -> None:
    logits = torch.randn(4, 3)
    temperatures = torch.tensor([[0.2], [0.5], [1.0], [2.0]])
    batch = Concrete(temperatures, logits=logits)
    s = batch.rsample()
    rows = [Concrete(temperatures[i, 0], logits=logits[i]).log_prob(s[i]) for i in range(4)]
    torch.testing.assert_close(batch.log_prob(s), torch.stack(rows), rtol=1e-4, atol=1e-4)
