"""Proposals against brute force: unbiased weights, priors read from programs, a summed-out s."""

import math
from typing import Any

import pytest
import torch
from pyro.distributions import OneHotCategorical, StudentT
from torch import Tensor

from pyro_gmmvae.distributions import Tilted
from pyro_gmmvae.evaluation import draw_tilted, log_weights, pareto_k, posterior_draws
from pyro_gmmvae.evaluation import proposals as module
from pyro_gmmvae.evaluation.latent_draws import split_r_hat
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.param_store import LocalParams
from tests.models.test_bounds import CASES, K, log_px_by_prior, rounded, small, train

SAMPLES = 4000


def case(name: str, guide: str | None, **more: Any) -> Any:
    torch.manual_seed(0)
    model = small(name, **({"guide": GUIDES[guide]} if guide else {}), **more)
    if guide == "straight-through":
        model.prior_of_s = rounded(model)
    return model


@pytest.mark.parametrize(("name", "guide"), CASES)
def test_the_mean_weight_is_px(name: str, guide: str | None) -> None:
    """Against draws of the prior: the weights have the mean p(x), within 5 standard errors."""
    model = case(name, guide)
    x = torch.randn(3, *model.x_shape)
    y = torch.arange(3) % K if model.given_class else None
    train(model, x, y)
    exact, error = log_px_by_prior(model, x, y)
    copies = x.repeat(SAMPLES, *[1] * (x.dim() - 1)), None if y is None else y.repeat(SAMPLES)
    for log_w in (
        draw_tilted(model.model, model.guide, x, y, SAMPLES)[0],
        draw_tilted(model.model, model.guide, *copies)[0].view(SAMPLES, 3),
    ):
        relative = (log_w.double() - exact).exp()
        spread = relative.std(0) / math.sqrt(SAMPLES)
        assert ((relative.mean(0) - 1).abs() < 5 * (spread + error)).all()


@pytest.mark.parametrize(("name", "guide"), CASES)
def test_draws_have_the_shapes_of_the_guide(name: str, guide: str | None) -> None:
    model = case(name, guide)
    x = torch.randn(3, *model.x_shape)
    y = torch.arange(3) % K if model.given_class else None
    log_w, log_px, latents = draw_tilted(model.model, model.guide, x, y, 7)
    assert log_w.shape == log_px.shape == (7, 3)
    assert set(latents) == set(model.latents)
    assert all(value.shape[:2] == (7, 3) for value in latents.values())
    for site in model.label_sites:
        torch.testing.assert_close(latents[site].sum(-1), torch.ones(7, 3))


@pytest.mark.parametrize("name", ["gmmvae", "m2-gumbel", "gmmvae-factors"])
def test_a_confident_guide_is_a_good_proposal_once_tilted(name: str) -> None:
    """Logits of 12 for a class: the Concrete's density ratio ruins the weights, a tilt does not."""
    model, x = case(name, None), torch.randn(6, 2)
    train(model, x, None)
    network = model.guide if name == "gmmvae" else model
    part = network.classifier if name == "m2-gumbel" else network.encoder
    with torch.no_grad():
        list(part.parameters())[-1][0] += 12.0
    by_guide, by_tilt = (
        log_weights(model.model, model.guide, x, 1000, proposal=proposal)
        for proposal in (module.draw_from_guide, draw_tilted)
    )
    assert (pareto_k(by_guide.log_w) > 0.7).mean() > 0.6
    assert (pareto_k(by_tilt.log_w) > 0.7).mean() < 0.2
    assert (by_tilt.iwae > by_guide.iwae).all()


def sites_of(name: str, x: Tensor, y: Tensor | None = None, **more: Any) -> dict[str, Any]:
    """The sites of the guide as the proposal changes it."""
    model, seen = case(name, None, **more), {}
    original = module._weighted

    def spy(_model: Any, _x: Any, _y: Any, proposed: Any) -> Any:
        seen.update(proposed)
        return original(_model, _x, _y, proposed)

    module._weighted, before = spy, module._weighted
    try:
        draw_tilted(model.model, model.guide, x, y)
    finally:
        module._weighted = before
    return seen | {"model": model}


def test_the_prior_is_that_of_the_program() -> None:
    """With its learned or given weights, its temperature, and a floor below the guide's classes."""
    prior = (0.7, 0.2, 0.1)
    x = torch.randn(4, 2)
    sites = sites_of("gmmvae", x, class_prior=prior, prior_temperature=0.3, temperature=0.9)
    q = sites["s"]["fn"]
    assert type(q) is Tilted
    torch.testing.assert_close(q.prior.probs, torch.tensor(prior).expand(4, 3))
    assert q.prior.temperature == torch.tensor(0.3)
    own = sites["model"].classify(x).exp()
    expected = (1 - module.FLOOR) * own + module.FLOOR * torch.tensor(prior)
    torch.testing.assert_close(q.logits.exp(), expected)
    z = sites["z"]["fn"].base_dist
    assert isinstance(z, StudentT)
    assert (z.df == module.DEGREES).all()


def test_a_class_that_x_is_decoded_from_is_drawn_once() -> None:
    decoded = 0

    def count(_module: Any, _inputs: Any, output: Tensor) -> None:
        nonlocal decoded
        decoded += output[..., 0].numel()

    for name in ("m2", "gmvae-discrete"):
        model, x = case(name, None), torch.randn(4, 2)
        model.observation.decoder.register_forward_hook(count)
        decoded = 0
        draw_tilted(model.model, model.guide, x, None, 50)
        assert 50 * 4 <= decoded <= 50 * 4 + K  # and the check of one row


@torch.no_grad()
def test_a_summed_out_class_is_a_draw_of_its_posterior() -> None:
    """s of the draws, by their weights, has the posterior of draws of the prior."""
    model = case("gmvae-discrete", "conditional")
    x = torch.randn(1, 2)
    log_w, _, latents = draw_tilted(model.model, model.guide, x, None, 50_000)
    weights = log_w.softmax(0)[:, 0]
    posterior = (weights.unsqueeze(-1) * latents["s"][:, 0]).sum(0)
    with LocalParams():
        s = OneHotCategorical(logits=torch.zeros(200_000, K)).sample()
        z = model.prior_of_z(s).sample()
        likelihood = model.observation(z).log_prob(x.expand(len(s), 2)).softmax(0)
    expected = (likelihood.unsqueeze(-1) * s).sum(0)
    torch.testing.assert_close(posterior, expected, atol=0.02, rtol=0)


def test_chains_of_a_relaxed_model_mix() -> None:
    model, x = case("gmmvae", "product"), torch.randn(8, 2)
    torch.manual_seed(1)
    train(model, x, None)
    torch.manual_seed(1)
    drawn = posterior_draws(model.model, model.guide, x, 400, 4)
    assert split_r_hat(drawn.latents["z"]).median() < 1.03


def test_split_r_hat_sees_chains_that_disagree() -> None:
    chains = torch.randn(4, 500, 3)
    assert (split_r_hat(chains) < 1.02).all()
    chains[0] += torch.tensor([0.0, 1.0, 3.0])
    assert (split_r_hat(chains)[1:] > torch.tensor([1.1, 1.5], device="cpu")).all()
    drift = torch.linspace(0, 3, 500).view(1, -1, 1)
    drifting = torch.randn(4, 500, 1) + drift
    assert split_r_hat(drifting) > 1.2  # no two chains differ, but their halves do
