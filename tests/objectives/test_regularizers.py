"""Regularizers: their values by hand, and their gradients in objectives."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import M2
from pyro_gmmvae.objectives import (
    OBJECTIVES,
    VAT,
    AnalyticObjective,
    Assignment,
    Balance,
    Consistency,
    Entropy,
    Objective,
    Sparsity,
)
from tests.models.test_contract import SHAPE, K, gmmvae, needs_trace

B = 12


def assignment(q: Tensor, p: Tensor | None = None, original: Tensor | None = None) -> Assignment:
    p = torch.full_like(q, 1 / q.shape[-1]) if p is None else p
    first = q if original is None else original
    return Assignment(q.log() + 3.0, p.log() - 1.0, first.log(), torch.rand(B, 4), no_network)


def no_network(_: Tensor) -> Tensor:
    raise AssertionError("only VAT evaluates other rows")


def probs(rows: int = B) -> Tensor:
    return torch.randn(rows, K).softmax(-1)


def test_balance_is_the_kl_of_the_mean_assignment() -> None:
    q, p = probs(), probs(1).expand(B, K)
    found = Balance()(assignment(q, p))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(q.mean(0)), torch.distributions.Categorical(p[0])
    )
    torch.testing.assert_close(found, expected)


def test_balance_of_a_flat_prior_is_log_k_minus_entropy() -> None:
    q = torch.eye(K)[torch.zeros(B, dtype=torch.long)].clamp_min(1e-30)
    assert Balance()(assignment(q)).item() == pytest.approx(math.log(K), abs=1e-5)
    q = torch.eye(K).clamp_min(1e-30)
    assert Balance()(assignment(q)).item() == pytest.approx(0, abs=1e-5)


def test_consistency_is_a_cross_entropy_to_the_sharpened_original() -> None:
    q, original = probs(), probs()
    target = original**1.5 / (original**1.5).sum(-1, keepdim=True)
    found = Consistency()(assignment(q, original=original))
    torch.testing.assert_close(found, -(target * q.log()).sum(-1).mean())


def test_sparsity_and_balance_empty_components_below_the_threshold() -> None:
    """The minimum over pi in the docstring, found by gradient descent."""
    share, weight, sparsity = torch.tensor([0.6, 0.3, 0.09, 0.01]), 99.0, 3.0
    logits = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    rows = torch.eye(4)[torch.multinomial(share, 5, replacement=True)]  # shape alone counts
    for _ in range(1500):
        own = share.log().expand(len(rows), 4)
        one = Assignment(own, logits.expand(len(rows), 4), logits, rows, no_network)
        # b + 1: the ELBO's own KL of s pulls pi to the shares as well
        loss = (weight + 1) * Balance()(one) + sparsity * Sparsity()(one)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    left = (share - sparsity / (weight + 1)).clamp_min(0)
    torch.testing.assert_close(logits.detach().softmax(-1), left / left.sum(), atol=0.01, rtol=0)


def regularized(model: Any, name: str, **options: Any) -> Objective:
    return OBJECTIVES[name](
        model.model,
        model.guide,
        latents=model.latents,
        label_sites=model.label_sites,
        regularizers={"balance": Balance(), "consistency": Consistency()},
        **options,
    )


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_carries_them_under_every_guide(name: str, guide: str) -> None:
    """The loss is that without them plus weight times term, and gradients reach the guide."""
    model = gmmvae(guide)()
    if name != "trace" and needs_trace(model):
        pytest.skip("no closed form")
    x, y = torch.rand(B, *SHAPE), torch.full((B,), -1)
    objective = regularized(model, name)
    batch = (x, y, torch.rand(B, *SHAPE))
    losses = {}
    for balance, consistency in ((0.0, 0.0), (7.0, 3.0)):
        objective.scheduled["balance"].fill_(balance)
        objective.scheduled["consistency"].fill_(consistency)
        torch.manual_seed(1)
        losses[balance] = objective(*batch)
    weighted = losses[7.0]
    added = 7 * weighted.parts["balance"] + 3 * weighted.parts["consistency"]
    torch.testing.assert_close(weighted.loss, losses[0.0].loss + added)
    weighted.loss.backward()
    assert all(p.grad is not None for p in model.guide.parameters())


def test_models_with_a_class_y_have_them_too() -> None:
    model = M2(SHAPE, K, 3)
    terms = regularized(model, "analytic")(torch.rand(B, *SHAPE), None, torch.rand(B, *SHAPE))
    assert terms.parts["balance"] >= 0
    assert terms.parts["consistency"] > 0


def test_the_guide_gets_augmented_rows_and_the_model_explains_the_originals() -> None:
    model = gmmvae("product")().eval()
    x, clean = torch.rand(B, *SHAPE), torch.rand(B, *SHAPE)
    plain: Any = {"latents": model.latents, "label_sites": ("s",)}
    objective = AnalyticObjective(model.model, model.guide, **plain)
    found = {}
    for name, batch in (("both", (x, None, clean)), ("x", (x, None)), ("clean", (clean, None))):
        torch.manual_seed(4)
        found[name] = objective(*batch).parts
    # KL terms are the guide's on x; log p(x|z) is that of the other rows
    for kl in ("kl_s", "kl_z"):
        torch.testing.assert_close(found["both"][kl], found["x"][kl])
        assert not torch.allclose(found["both"][kl], found["clean"][kl])
    assert not torch.allclose(found["both"]["log_px"], found["x"]["log_px"])
    seen = AnalyticObjective(model.model, model.guide, reconstruct="augmented", **plain)
    torch.manual_seed(4)
    torch.testing.assert_close(seen(x, None, clean).parts["log_px"], found["x"]["log_px"])


def test_no_gradient_goes_through_the_original() -> None:
    """With equal rows on both sides, a gradient of the target would be visible."""
    model = gmmvae("product")().eval()
    x = torch.rand(B, *SHAPE)
    logits = model.guide.class_logits(x)
    target = (1.5 * logits.log_softmax(-1)).softmax(-1).detach()
    expected = torch.autograd.grad(
        -(target * logits.log_softmax(-1)).sum(-1).mean(), list(model.guide.parameters())
    )
    objective = AnalyticObjective(
        model.model,
        model.guide,
        latents=model.latents,
        label_sites=("s",),
        regularizers={"consistency": Consistency()},
    )
    torch.manual_seed(0)
    with_term = torch.autograd.grad(objective(x).loss, list(model.guide.parameters()))
    objective.scheduled["consistency"].fill_(0)
    torch.manual_seed(0)
    without = torch.autograd.grad(objective(x).loss, list(model.guide.parameters()))
    for a, b, wanted in zip(with_term, without, expected, strict=True):
        torch.testing.assert_close(a - b, wanted, atol=1e-4, rtol=1e-3)


def test_entropy_is_the_mean_entropy_of_the_assignments() -> None:
    q = probs()
    expected = torch.distributions.Categorical(q).entropy().mean()
    torch.testing.assert_close(Entropy()(assignment(q)), expected)
    assert Entropy()(assignment(torch.eye(K).clamp_min(1e-30))).item() == pytest.approx(0, abs=1e-5)


def assignment_of(network: Callable[[Tensor], Tensor], x: Tensor) -> Assignment:
    logits = network(x)
    return Assignment(logits, torch.zeros_like(logits), logits, x, network)


def test_vat_finds_the_direction_that_changes_the_assignment_most() -> None:
    """Logits depend on one direction alone: the value is that of a step along it."""
    torch.manual_seed(0)
    direction = torch.tensor([3.0, 0.0, 4.0, 0.0]) / 5
    x, radius = torch.randn(B, 4, dtype=torch.float64), 0.7

    def network(x: Tensor) -> Tensor:
        u = x @ direction.double()
        return torch.stack([u, -u], -1)

    found = VAT(radius=radius)(assignment_of(network, x)).item()
    p = network(x).log_softmax(-1)
    steps = [network(x + sign * radius * direction.double()).log_softmax(-1) for sign in (1, -1)]
    each = torch.stack([(p.exp() * (p - q)).sum(-1) for q in steps])
    # the sign is that of a random start
    assert each.min(0).values.mean() - 1e-6 <= found <= each.max(0).values.mean() + 1e-6
    away = network(x + radius * torch.tensor([0.0, 1.0, 0.0, 0.0])).log_softmax(-1)
    torch.testing.assert_close(away, p)  # other directions change nothing


def test_vat_leaves_missing_entries_and_changes_parameters_only_by_its_value() -> None:
    layer = torch.nn.Linear(4, K)
    x = torch.randn(B, 4)
    x[0, 1] = torch.nan
    value = VAT()(assignment_of(lambda x: layer(x.nan_to_num()), x))
    assert layer.weight.grad is None
    value.backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()
    assert layer.weight.grad.abs().sum() > 0


def test_vat_needs_a_class_with_a_gradient_to_x() -> None:
    layer = torch.nn.Linear(4, K)
    with pytest.raises(GMMVAEError, match="no gradient with respect to x; set vat=0"):
        VAT()(assignment_of(lambda x: layer(x.detach()), torch.randn(B, 4)))


def test_without_elbo_the_class_terms_have_the_same_values() -> None:
    """Only terms on classes are left, and their values are those beside an ELBO."""
    model = gmmvae("product")()
    weights = {"balance": Balance(), "entropy": Entropy()}
    x, y = torch.rand(B, *SHAPE), torch.arange(B) % (K + 1) - 1
    values = []
    for scale in (1.0, 0.0):
        objective = AnalyticObjective(
            model.model,
            model.guide,
            latents=model.latents,
            label_sites=model.label_sites,
            regularizers=weights,
            networks=model,
            elbo_scale=scale,
        )
        objective.alpha.fill_(2.0)
        values.append(objective(x, y))
    assert "elbo" in values[0].parts
    assert "elbo" not in values[1].parts
    for name, value in values[1].parts.items():
        torch.testing.assert_close(value, values[0].parts[name])
    parts = values[1].parts
    torch.testing.assert_close(
        values[1].loss.detach(), 2 * parts["classification"] + parts["balance"] + parts["entropy"]
    )
