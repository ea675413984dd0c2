"""Priors of z without a class."""

import math
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import M1, VAE, priors
from pyro_gmmvae.models.priors import FlowPrior, GaussianMixturePrior
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES
from pyro_gmmvae.runs import default_config, train
from tests.models.test_contract import SHAPE, D

OPTIONS = NetworkOptions(hidden=(7,))
OTHERS = ("mixture", "vamp", "flow")


def vae(prior: str, **keys: Any) -> VAE:
    keys = {"options": OPTIONS, "prior_components": 4} | keys
    return VAE(SHAPE, D, prior=prior, **keys)


def prior_of(model: VAE, rows: int = 3) -> Any:
    return model.prior_of_z(torch.zeros(rows, 0))


@pytest.mark.parametrize("prior", OTHERS)
def test_a_model_that_was_evaluated_can_be_copied_and_pickled(prior: str) -> None:
    model = vae(prior).eval()
    z = torch.randn(3, D)
    value = prior_of(model).log_prob(z)
    value.sum().backward()
    for copy in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(prior_of(copy).log_prob(z), value)


@pytest.mark.parametrize("rounded", [False, True])
def test_densities_as_products_are_those_of_the_mixture(
    rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where products are rounded, which they then avoid."""
    torch.manual_seed(0)
    prior = GaussianMixturePrior(20, 30)
    with torch.no_grad():
        prior.raw_scale.normal_(0, 0.5)
        prior.logits.normal_()
    z = 2 * torch.randn(4, 5, 20)
    if rounded:
        monkeypatch.setattr(priors, "_products_are_rounded", lambda: True)
    p = prior().expand((4, 5))
    loc, scale = prior.loc, positive_scale(prior.raw_scale)
    each = torch.distributions.Normal(loc, scale).log_prob(z.unsqueeze(-2)).sum(-1)
    expected = (prior.logits.log_softmax(-1) + each).logsumexp(-1)
    torch.testing.assert_close(p.log_prob(z), expected, atol=1e-3, rtol=1e-5)
    assert p.sample().shape == z.shape


def test_moments_of_a_flow_are_those_of_its_draws_and_draw_nothing() -> None:
    torch.manual_seed(0)
    flow = FlowPrior(D)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    before = torch.random.get_rng_state()
    p = flow()
    mean, std = p.mean, p.stddev
    assert torch.equal(before, torch.random.get_rng_state())
    draws = p.sample((20_000,))
    torch.testing.assert_close(mean, draws.mean(0), atol=0.15, rtol=0)
    torch.testing.assert_close(std, draws.std(0), atol=0.15, rtol=0)


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_draws_have_the_density_that_is_scored(prior: str) -> None:
    """E_p[ N(z; 0, .49 I) / p(z) ] = 1, which no other density than p gives."""
    torch.manual_seed(0)
    p = prior_of(vae(prior).eval(), 1)
    with torch.no_grad():
        z = p.sample((200_000,)).squeeze(1)
        log_ratio = torch.distributions.Normal(torch.zeros(D), 0.7).log_prob(z).sum(-1)
        found = (log_ratio - p.log_prob(z.unsqueeze(1)).squeeze(1)).exp().mean()
    assert found.item() == pytest.approx(1, abs=0.05)


def test_the_density_of_a_flow_is_that_of_a_change_of_variables() -> None:
    torch.manual_seed(0)
    flow = FlowPrior(3).double()
    normal = torch.distributions.Normal(torch.zeros(3, dtype=torch.float64), 1.0)
    z = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(flow().log_prob(z), normal.log_prob(z).sum(-1))  # at first
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    transforms = flow().transforms  # type: ignore[attr-defined]

    def f(e: torch.Tensor) -> torch.Tensor:
        for transform in transforms:
            e = transform(e)
        return e

    for row in z:
        e = row
        for transform in reversed(transforms):
            e = transform.inv(e)
        torch.testing.assert_close(f(e), row)
        slope = torch.autograd.functional.jacobian(f, e.detach())
        expected = normal.log_prob(e).sum() - torch.linalg.slogdet(slope)[1]
        torch.testing.assert_close(flow().log_prob(row), expected)


def test_a_mixture_of_one_component_is_a_gaussian() -> None:
    model = vae("mixture", prior_components=1)
    z = torch.randn(5, D)
    prior: Any = model.prior
    from pyro_gmmvae.distributions import positive_scale

    one = torch.distributions.Normal(prior.loc, positive_scale(prior.raw_scale))
    torch.testing.assert_close(prior_of(model, 5).log_prob(z), one.log_prob(z).sum(-1))


def test_vamp_is_the_posterior_of_its_pseudo_inputs() -> None:
    model = vae("vamp").eval()
    prior: Any = model.prior
    loc, scale = model.posterior(prior.pseudo_inputs.sigmoid())
    z = torch.randn(5, D)
    each = torch.distributions.Normal(loc, scale).log_prob(z.unsqueeze(1)).sum(-1)
    expected = each.logsumexp(1) - math.log(4)
    torch.testing.assert_close(prior_of(model, 5).log_prob(z), expected)
    names = {name for name, _ in prior.named_parameters()}
    assert names == {"logits", "pseudo_inputs"}  # the encoder is the model's


def test_pseudo_inputs_leave_the_statistics_of_rows_alone() -> None:
    model = vae("vamp", options=NetworkOptions(hidden=(7,), batch_norm=True, dropout=0.5)).train()
    before = {k: v.clone() for k, v in model.named_buffers()}
    one, other = (
        prior_of(model).log_prob(torch.ones(3, D)),
        prior_of(model).log_prob(torch.ones(3, D)),
    )
    torch.testing.assert_close(one, other)  # no dropout
    for name, value in model.named_buffers():
        torch.testing.assert_close(value, before[name])
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("prior", OTHERS)
@pytest.mark.parametrize("name", ["trace", "iwae"])
def test_gradients_reach_the_prior(prior: str, name: str) -> None:
    model = vae(prior)
    objective = OBJECTIVES[name](model.model, model.guide, latents=model.latents)
    objective(torch.rand(6, *SHAPE)).loss.backward()
    assert model.prior is not None
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert any(p.grad.abs().sum() > 0 for p in model.prior.parameters() if p.grad is not None)


@pytest.mark.parametrize("prior", OTHERS)
def test_a_run_is_trained_loaded_and_generates(tmp_path: Path, prior: str) -> None:
    """The objective is trace without being named."""
    keys = {"model": "vae", "prior": prior, "prior_components": 5, "hidden": (16,), "epochs": 2}
    run = train(default_config("digits", keys), tmp_path / "run")
    assert run.config.objective == "trace"
    found = type(run).load(tmp_path / "run")
    assert found.model.generate(3).shape == (3, 1, 8, 8)
    prior_z = found.model.prior_of_z(torch.zeros(2, 0))
    assert prior_z.mean.shape == prior_z.stddev.shape == (2, found.config.latent_dim)


def test_m1_has_them_too() -> None:
    model = M1(SHAPE, 3, D, prior="mixture", prior_components=4, options=OPTIONS)
    assert model.prior is not None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"prior": "vampp"}, "unknown prior 'vampp'; did you mean 'vamp'"),
        ({"prior": "mixture", "prior_components": 0}, "prior_components must be from 1 to"),
        ({"prior": "flow", "latent_dim": 1}, "latent_dim of at least 2"),
        ({"prior": "vamp", "options": NetworkOptions(missing=True)}, "take mixture or flow"),
    ],
)
def test_priors_that_can_not_be_built_are_refused(keys: dict[str, Any], message: str) -> None:
    keys = {"latent_dim": D} | keys
    with pytest.raises(GMMVAEError, match=message):
        VAE(SHAPE, **keys)


def test_a_closed_form_objective_is_refused(tmp_path: Path) -> None:
    keys = {"model": "vae", "prior": "flow", "objective": "analytic", "epochs": 1}
    with pytest.raises(GMMVAEError, match="trace"):
        train(default_config("digits", keys), tmp_path / "run")
