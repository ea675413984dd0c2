"""Soft labels: the prior of a row's class, in every model that has one."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS, GMVAEDiscrete
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES, Objective
from pyro_gmmvae.training import Batches, Fit, FitSettings, PseudoLabeler

K, D, B = 4, 3, 6
PI = torch.tensor([[0.7, 0.2, 0.1, 0.0], [0.0, 0.5, 0.0, 0.5]])
MIXTURES = ["gmmvae", "gmmvae-factors", "gmvae-discrete"]
# with a y that is summed out
SUMMED = ["m2", "m1m2", "adgm", "sdgm"]


def build(name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"components": K, "latent_dim": D, "factors": {"view": 2}}
    wanted = inspect.signature(MODELS[name]).parameters
    given = {key: value for key, value in sizes.items() if key in wanted}
    return MODELS[name]((5,), **given, options=NetworkOptions(hidden=(8,)), **more)


def objective_of(model: Any, name: str | None = None) -> Objective:
    made: Objective = OBJECTIVES[name or model.default_objective](
        model.model, model.guide, latents=model.latents, label_sites=model.label_sites
    )
    return made


def with_soft_labels(model: Any, pi: Tensor) -> Objective:
    objective = objective_of(model)
    model.set_soft_labels(pi)
    objective.set_soft_labels(pi)
    objective.alpha.fill_(3.0)
    return objective


def terms(objective: Objective, x: Tensor, y: Tensor) -> Any:
    torch.manual_seed(1)
    return objective(x, y)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_certain_soft_label_is_the_label(name: str) -> None:
    model, x = build(name).eval(), torch.rand(B, 5)
    objective = with_soft_labels(model, torch.eye(K))
    hard = torch.tensor([0, 1, 2, 3, -1, 2])
    soft = torch.where(hard >= 0, hard + K, hard)
    one, other = terms(objective, x, hard), terms(objective, x, soft)
    torch.testing.assert_close(other.loss, one.loss)
    torch.testing.assert_close(other.parts["classification"], one.parts["classification"])


@pytest.mark.parametrize("name", ["gmvae-discrete", *SUMMED])
def test_the_bound_has_pi_as_the_prior(name: str) -> None:
    """With y summed out, another prior moves a row's bound by sum_k q_k (log pi_k - log 1/K)."""
    model, x = build(name).eval(), torch.rand(1, 5)
    objective = with_soft_labels(model, PI)
    objective.alpha.fill_(0.0)
    unlabelled, soft = (terms(objective, x, torch.tensor([y])) for y in (-1, K))
    torch.manual_seed(1)
    q = objective.estimate(x, torch.tensor([K])).class_logits[model.label_sites[0]].softmax(-1)
    pi = (1 - 1e-3 * K / (K - 1)) * PI[0] + 1e-3 / (K - 1)
    expected = (q * (pi.log() + torch.tensor(float(K)).log())).sum()
    torch.testing.assert_close(unlabelled.loss - soft.loss, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", [*MIXTURES, *SUMMED, "m2-gumbel"])
def test_classification_is_cross_entropy_with_pi(name: str) -> None:
    model, x = build(name).eval(), torch.rand(3, 5)
    objective = with_soft_labels(model, PI)
    y = torch.tensor([K + 1, 2, -1])
    found = terms(objective, x, y).parts["classification"]
    torch.manual_seed(1)
    logits = objective.estimate(x, y).class_logits[model.label_sites[0]].log_softmax(-1)
    expected = -0.5 * ((PI[1] * logits[0]).sum() + logits[1, 2])
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("guide", ["bayes", "tilted", "low-rank"])
def test_guides_take_soft_labels(guide: str) -> None:
    model = build("gmmvae", guide=GUIDES[guide])
    loss = with_soft_labels(model, PI)(torch.rand(3, 5), torch.tensor([K, K + 1, -1])).loss
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize("name", ["m1", "cvae"])
def test_models_of_given_classes_refuse_soft_labels(name: str) -> None:
    with pytest.raises(GMMVAEError, match="soft"):
        build(name).set_soft_labels(PI)


def test_a_component_beyond_the_classes_keeps_a_little() -> None:
    model = build("gmvae-discrete")
    model.set_soft_labels(torch.tensor([[0.5, 0.5, 0.0, 0.0]]))
    prior = model.prior_of_s(1, torch.tensor([K]))
    assert prior.probs.min() > 1e-4
    torch.testing.assert_close(prior.probs[0, :2].sum(), torch.tensor(1.0), atol=2e-3, rtol=0)


def test_soft_labels_are_not_saved_with_the_weights() -> None:
    model, other = build("m2"), build("m2")
    model.set_soft_labels(PI)
    other.load_state_dict(model.state_dict())
    assert other.label_prior.soft_labels is None


@pytest.mark.parametrize("engine", ["svi", "captured"])
def test_a_fit_moves_a_row_to_its_soft_label(engine: str) -> None:
    """Without any other label, rows of the left and of the right get the classes 2 and 3."""
    torch.manual_seed(0)
    model = GMVAEDiscrete((2,), K, 2, likelihood="normal", options=NetworkOptions(hidden=(8,)))
    x = torch.randn(64, 2) + torch.tensor([3.0, 0.0]) * (torch.arange(64) % 2 * 2 - 1).unsqueeze(1)
    pi = torch.tensor([[0.1, 0.1, 0.6, 0.2], [0.1, 0.1, 0.2, 0.6]])[torch.arange(64) % 2]
    objective, y = with_soft_labels(model, pi), torch.arange(64) + K
    labeler = PseudoLabeler(model, 0.99, 0)
    batches = Batches(x, y, 32, 8, 0, classes=pi.argmax(-1))
    settings = FitSettings(epochs=20, learning_rate=0.02, engine=engine)
    fit = Fit(objective, model, batches, settings, pseudo_labeler=labeler)
    fit.run()
    found = model.eval().classify(x).exp()
    torch.testing.assert_close(found.argmax(-1), pi.argmax(-1))
    torch.testing.assert_close(found.mean(0)[:2], torch.full((2,), 0.1), atol=0.07, rtol=0)
