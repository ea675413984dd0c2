"""Laplace and annealed proposals against closed forms, brute force and finite differences."""

import math
from typing import Any
from unittest.mock import patch

import pytest
import torch
from pyro import validation_enabled
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import annealing, draw_by_annealing, draw_by_laplace, laplace, pareto_k
from pyro_gmmvae.evaluation.real_latents import RealLatents
from pyro_gmmvae.param_store import LocalParams
from tests.evaluation.test_proposals import case
from tests.models.test_bounds import K, log_px_by_prior, train
from tests.test_inference_data import LinearGaussian

ONE_CLASS = [
    ("vae", None),
    ("cvae", None),
    ("gmmvae", "product"),
    ("gmmvae", "tilted"),
    ("gmmvae", "straight-through"),
    ("gmmvae", "flow"),
    ("gmmvae", "enumerated"),
    ("gmvae-discrete", "bayes"),
    ("m2", None),
    ("m2-gumbel", None),
]
SEVERAL = [("gmmvae-factors", None), ("m1m2", None), ("adgm", None), ("sdgm", None)]


def rows_of(model: Any, n: int = 3) -> tuple[Tensor, Tensor | None]:
    x = torch.randn(n, 2)
    return x, torch.arange(n) % K if model.given_class else None


def check(log_w: Tensor, exact: Tensor, error: Tensor) -> None:
    """The weights (S, N) have the mean p(x), within 5 standard errors."""
    relative = (log_w.double() - exact).exp()
    spread = relative.std(0) / math.sqrt(len(log_w))
    assert ((relative.mean(0) - 1).abs() < 5 * (spread + error)).all()
    assert (spread < 0.2).all()


@pytest.fixture
def linear() -> tuple[LinearGaussian, Tensor]:
    torch.manual_seed(0)
    of = LinearGaussian(slip=3.0, widen=0.3)
    z = torch.randn(6, of.W.shape[1])
    return of, (z @ of.W.T + 0.7 * torch.randn(6, len(of.W))).detach()


def test_laplace_is_exact_for_a_linear_gaussian(linear: tuple[LinearGaussian, Tensor]) -> None:
    of, x = linear
    log_w = draw_by_laplace(of.model, of.guide, x, None, 400)[0]
    exact = of.log_px(x)
    torch.testing.assert_close(log_w.logsumexp(0) - math.log(400), exact, atol=0.1, rtol=0)
    assert (pareto_k(log_w) < 0.5).all()


def test_annealing_is_exact_for_a_linear_gaussian(linear: tuple[LinearGaussian, Tensor]) -> None:
    """From the prior, so that the guide, which is wrong here, does not matter."""
    of, x = linear
    with patch.object(annealing, "TEMPERATURES", 150):
        log_w, log_px, latents = draw_by_annealing(of.model, of.guide, x, None, 64)
    check(log_w, of.log_px(x).double(), torch.zeros(6))
    exact = of.loc(x).detach()
    weights = log_w.softmax(0).unsqueeze(-1)
    mean = (weights * latents["z"]).sum(0)
    assert ((mean - exact).abs() < 0.6 * of.covariance.diagonal().sqrt()).all()
    assert log_px.shape == (64, 6)


@pytest.mark.parametrize(("name", "guide"), ONE_CLASS)
def test_the_mean_weight_of_laplace_is_px(name: str, guide: str | None) -> None:
    model = case(name, guide)
    x, y = rows_of(model)
    train(model, x, y)
    exact, error = log_px_by_prior(model, x, y)
    with patch.multiple(laplace, STEPS=40, PILOT=200, BRIDGE=6):  # faster, and as exact
        log_w, _, latents = draw_by_laplace(model.model, model.guide, x, y, 300)
    check(log_w, exact, error)
    assert set(latents) == set(model.latents)
    assert all(value.shape[:2] == (300, 3) for value in latents.values())


@pytest.mark.parametrize(("name", "guide"), [("gmmvae", "product"), ("m2", None), *SEVERAL])
def test_the_mean_weight_of_annealing_is_px(name: str, guide: str | None) -> None:
    model = case(name, guide)
    x, y = rows_of(model)
    train(model, x, y)
    exact, error = log_px_by_prior(model, x, y)
    with patch.object(annealing, "TEMPERATURES", 60):
        log_w, _, latents = draw_by_annealing(model.model, model.guide, x, y, 200)
    check(log_w, exact, error)
    assert set(latents) == set(model.latents)


@pytest.mark.parametrize(("name", "guide"), SEVERAL)
def test_laplace_refuses_several_latents(name: str, guide: str | None) -> None:
    model = case(name, guide)
    with pytest.raises(
        GMMVAEError, match=r"'laplace' is for models with one continuous latent.*ais"
    ):
        draw_by_laplace(model.model, model.guide, torch.randn(2, 2), None, 5)


def test_the_real_vector_of_a_relaxed_class_has_its_prior() -> None:
    """s of standard normal entries is a Concrete: its classes and its moments."""
    model = case("gmmvae", "product", class_prior=(0.6, 0.3, 0.1), prior_temperature=0.7)
    n = 40_000
    with LocalParams(), validation_enabled(False), torch.no_grad():
        latents = RealLatents(model.model, model.guide, torch.randn(1, 2), None)
        h = latents.from_prior(torch.zeros(n, dtype=torch.long))
        s = latents.terms(h, torch.zeros(n, dtype=torch.long))[2]["s"]
        drawn = model.prior_of_s(n).sample()
    assert latents.sizes == {"s": K, "z": 2}
    torch.testing.assert_close(s.mean(0), drawn.mean(0), atol=0.01, rtol=0)
    torch.testing.assert_close(s.var(0), drawn.var(0), atol=0.01, rtol=0)
    shares = torch.bincount(s.argmax(-1), minlength=K) / n
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.3, 0.1]), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", ["gmmvae", "m2"])
def test_gradient_and_hessian_are_those_of_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    model, rows = case(name, None).double(), torch.arange(2)
    for module in model.observation.decoder.modules():  # a smooth decoder
        for key, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, key, nn.Softplus())
    x = torch.randn(2, 2, dtype=torch.float64)
    with LocalParams(), validation_enabled(False):
        latents = RealLatents(model.model, model.guide, x, None)
        h = torch.randn(2, latents.dimension, dtype=torch.float64)
        gradient, hessian = latents.gradient(h, rows)[1], latents.hessian(h, rows)
        for i in range(latents.dimension):
            step = torch.zeros_like(h)
            step[:, i] = 1e-5
            above, below = latents.gradient(h + step, rows), latents.gradient(h - step, rows)
            torch.testing.assert_close(
                gradient[:, i], (above[0] - below[0]) / 2e-5, rtol=1e-5, atol=1e-6
            )
            torch.testing.assert_close(
                hessian[:, i], (above[1] - below[1]) / 2e-5, rtol=1e-4, atol=1e-5
            )


def test_the_mixture_of_students_is_a_density() -> None:
    """Draws and density agree: the mean of q'/q over draws of q is 1."""
    torch.manual_seed(0)
    tril = torch.randn(2, 3, 2, 2).tril(-1) + torch.eye(2) * torch.rand(2, 3, 1, 2).add(1)
    weights = torch.randn(2, 3).log_softmax(0)
    q = laplace.StudentMixture(weights, torch.randn(2, 3, 2), tril)
    other = laplace.StudentMixture(weights.flip(0), torch.randn(2, 3, 2), tril.flip(0))
    h = q.sample(200_000)
    ratio = (other.log_prob(h) - q.log_prob(h)).exp()
    assert ((ratio.mean(0) - 1).abs() < 6 * ratio.std(0) / 200_000**0.5).all()
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(q.of_rows(h[7, rows], rows), q.log_prob(h)[7, rows])


def test_weights_that_are_not_numbers_do_not_count() -> None:
    torch.manual_seed(0)
    eye = torch.eye(2).expand(1, 3, 2, 2)
    mixture = laplace.StudentMixture(torch.zeros(1, 3), torch.zeros(1, 3, 2), eye)
    h = mixture.sample(200)
    log_w = torch.zeros(200, 3)
    log_w[:50] = torch.nan
    matched, expected = mixture.matched(h, log_w), mixture.matched(h[50:], log_w[50:])
    torch.testing.assert_close(matched.loc, expected.loc)
    torch.testing.assert_close(matched.tril, expected.tril)
