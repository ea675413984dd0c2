"""Objectives against those of Pyro, in expectation, and their refusals."""

import math
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import GMMVAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import (
    AnalyticObjective,
    CategoricalObjective,
    IWAEObjective,
    Objective,
    TraceObjective,
)

K, D = 4, 3


def small_model(guide: str = "product") -> GMMVAE:
    kind: Any = GUIDES[guide]
    if guide == "tilted":  # its sum over classes is not one that Pyro has
        kind = partial(kind, sum_classes=False)
    return GMMVAE((6,), K, D, guide=kind, options=NetworkOptions(hidden=(8,)))


def rows(n: int) -> tuple[Tensor, Tensor]:
    return torch.rand(n, 6), torch.arange(n) % (K + 1) - 1


def build(kind: type[Objective], model: Any, **options: Any) -> Objective:
    return kind(model.model, model.guide, latents=model.latents, label_sites=("s",), **options)


@pytest.mark.parametrize("guide", GUIDES)
def test_trace_is_pyros_trace_elbo(guide: str) -> None:
    """Same seed: loss, every gradient, and the generator's state afterwards."""
    model, (x, y) = small_model(guide), rows(10)
    objective = build(TraceObjective, model)
    reference, posterior = Trace_ELBO(), model.guide
    if not model.guide.relaxed:
        reference, posterior = TraceEnum_ELBO(max_plate_nesting=1), config_enumerate(model.guide)
    found = []
    for loss in (
        lambda: objective(x, y).loss * len(x),
        lambda: reference.differentiable_loss(model.model, posterior, x, y),
    ):
        model.zero_grad()
        torch.manual_seed(1)
        value = loss()
        value.backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        found.append((value.detach(), gradients, torch.get_rng_state()))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)
    assert torch.equal(found[0][2], found[1][2])


@pytest.mark.parametrize("particles", [1, 7])
def test_iwae_is_pyros_renyi_elbo(particles: int) -> None:
    """On one row: Pyro averages particles over the batch, this objective for each row."""
    model, (x, y) = small_model(), rows(1)
    objective = build(IWAEObjective, model, particles=particles)
    reference = RenyiELBO(alpha=0, num_particles=particles)
    found = []

    def ours() -> float:
        loss = objective(x, y).loss
        loss.backward()
        return loss.item()

    for step in (ours, lambda: reference.loss_and_grads(model.model, model.guide, x, y)):
        model.zero_grad()
        torch.manual_seed(1)
        value = torch.tensor(step())
        found.append((value, [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_iwae_is_the_log_mean_weight_per_row() -> None:
    model, (x, y) = small_model().eval(), rows(10)
    torch.manual_seed(1)
    bounds = [-build(TraceObjective, model)(x[:1], y[:1]).loss for _ in range(5)]
    torch.manual_seed(1)
    found = -build(IWAEObjective, model)(x[:1], y[:1]).loss
    expected = torch.stack(bounds).logsumexp(0) - math.log(5)
    torch.testing.assert_close(found, expected)


def test_iwae_tightens_with_particles() -> None:
    model, (x, _) = small_model().eval(), rows(200)
    losses = []
    for particles in (1, 5, 50):
        torch.manual_seed(1)
        with torch.no_grad():
            losses.append(build(IWAEObjective, model, particles=particles)(x).loss.item())
    assert losses[0] > losses[1] > losses[2]


def test_iwae_refuses_a_site_it_cannot_differentiate() -> None:
    def counts(n: int) -> Any:
        return dist.Poisson(torch.ones(n, 2)).to_event(1)

    objective = IWAEObjective(model_of(counts), guide_of(counts), latents=["z"])
    with pytest.raises(GMMVAEError, match="reparameterized or enumerated"):
        objective(torch.zeros(3, 2))


def test_categorical_replaces_only_the_density_ratio_of_s() -> None:
    model, (x, y) = small_model().eval(), rows(10)
    parts = []
    for kind in (AnalyticObjective, CategoricalObjective):
        torch.manual_seed(3)
        parts.append(build(kind, model)(x, y).parts)
    assert parts[0]["log_px"] == parts[1]["log_px"]
    assert parts[0]["kl_z"] == parts[1]["kl_z"]
    q, p = (dist.Categorical(logits=v) for v in (model.classify(x), model.prior_of_s(10, y).logits))
    expected = torch.distributions.kl_divergence(q, p).mean()
    torch.testing.assert_close(parts[1]["kl_s"], expected.detach())


CLOSED_FORM = [name for name, guide in GUIDES.items() if guide.default_objective == "analytic"]


@pytest.mark.parametrize("guide", CLOSED_FORM)
def test_analytic_agrees_with_trace_in_expectation(guide: str) -> None:
    """10,000 draws of one labelled and one unlabelled row: within 3 standard errors."""
    model, draws = small_model(guide).eval(), 10_000
    x, y = rows(2)
    y = torch.tensor([-1, 2])
    copies, labels = x.repeat_interleave(draws, 0), y.repeat_interleave(draws)
    means, variances = [], []
    for kind in (TraceObjective, AnalyticObjective):
        with torch.no_grad():
            estimate = build(kind, model).estimate(copies, labels)
        elbo = (estimate.log_px - sum(estimate.kl.values())).view(2, draws).double()
        means.append(elbo.mean(1))
        variances.append(elbo.var(1) / draws)
    difference = (means[0] - means[1]).abs()
    assert (difference < 3 * (variances[0] + variances[1]).sqrt()).all()


def test_analytic_has_less_gradient_noise_on_the_mixture() -> None:
    model, (x, y) = small_model(), rows(10)
    spread = []
    for kind in (TraceObjective, AnalyticObjective):
        objective, gradients = build(kind, model), []
        for _ in range(100):
            model.zero_grad()
            objective(x, y).loss.backward()
            gradients.append(model.mixture.loc.grad.clone())
        spread.append(torch.stack(gradients).var(0).sum().item())
    assert spread[1] < 0.5 * spread[0]


@pytest.mark.parametrize("kind", [TraceObjective, AnalyticObjective])
def test_weights_scale_the_loss_only(kind: type[Objective]) -> None:
    model, (x, y) = small_model().eval(), rows(10)
    objective = build(kind, model)
    torch.manual_seed(2)
    plain = objective(x, y)
    objective.scheduled["kl_s"].fill_(0.0)
    objective.scheduled["kl_z"].fill_(2.0)
    torch.manual_seed(2)
    weighted = objective(x, y)
    assert plain.parts == weighted.parts
    expected = plain.loss - plain.parts["kl_s"] + plain.parts["kl_z"]
    torch.testing.assert_close(weighted.loss, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [TraceObjective, AnalyticObjective])
def test_alpha_weighs_the_cross_entropy_of_labelled_rows(kind: type[Objective]) -> None:
    model, (x, y) = small_model().eval(), rows(10)
    objective = build(kind, model)
    torch.manual_seed(2)
    plain = objective(x, y)
    objective.scheduled["alpha"].fill_(7.0)
    torch.manual_seed(2)
    weighted = objective(x, y)
    known = y >= 0
    cross_entropy = -model.classify(x)[known].gather(1, y[known, None]).mean()
    torch.testing.assert_close(weighted.parts["classification"], cross_entropy.detach())
    torch.testing.assert_close(weighted.loss, plain.loss + 7 * cross_entropy, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [TraceObjective, AnalyticObjective])
def test_reported_terms_add_up_to_the_elbo(kind: type[Objective]) -> None:
    model, (x, y) = small_model(), rows(10)
    parts = build(kind, model)(x, y).parts
    torch.testing.assert_close(parts["elbo"], parts["log_px"] - parts["kl_s"] - parts["kl_z"])


@pytest.mark.parametrize("kind", [TraceObjective, AnalyticObjective])
def test_a_latent_site_left_out_is_refused(kind: type[Objective]) -> None:
    model = small_model()
    with pytest.raises(GMMVAEError, match=r"built for .*\['z'\]; the guide samples \['s', 'z'\]"):
        kind(model.model, model.guide, latents=["z"])(*rows(4))


def test_particles_average() -> None:
    model, (x, y) = small_model().eval(), rows(10)
    torch.manual_seed(6)
    one = [build(TraceObjective, model)(x, y).loss for _ in range(3)]
    torch.manual_seed(6)
    three = build(TraceObjective, model, particles=3)(x, y).loss
    torch.testing.assert_close(three, torch.stack(one).mean())


# -- programs that the analytic objective must refuse ------------------------------------------


def model_of(prior: Any) -> Any:
    def model(x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG001
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", prior(len(x)))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    return model


def guide_of(posterior: Any) -> Any:
    def guide(x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG001
        with pyro.plate("rows", len(x)):
            pyro.sample("z", posterior(len(x)))

    return guide


def normal(n: int) -> Any:
    return dist.Normal(torch.zeros(n, 2), 1.0).to_event(1)


def test_analytic_refuses_a_missing_kl_by_name() -> None:
    model = model_of(lambda n: dist.StudentT(3.0, torch.zeros(n, 2)).to_event(1))
    objective = AnalyticObjective(model, guide_of(normal), latents=["z"])
    with pytest.raises(GMMVAEError, match="site 'z': no closed-form KL"):
        objective(torch.zeros(3, 2))


def test_analytic_refuses_a_site_without_reparameterization() -> None:
    def counts(n: int) -> Any:
        return dist.Poisson(torch.ones(n, 2)).to_event(1)

    objective = AnalyticObjective(model_of(counts), guide_of(counts), latents=["z"])
    with pytest.raises(GMMVAEError, match="reparameterized"):
        objective(torch.zeros(3, 2))


def test_analytic_refuses_another_order_of_sites() -> None:
    def model(x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG001
        with pyro.plate("rows", len(x)):
            a = pyro.sample("a", normal(len(x)))
            z = pyro.sample("z", dist.Normal(a, 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG001
        with pyro.plate("rows", len(x)):
            pyro.sample("z", normal(len(x)))
            pyro.sample("a", normal(len(x)))

    with pytest.raises(GMMVAEError, match="same order"):
        AnalyticObjective(model, guide, latents=["z", "a"])(torch.zeros(3, 2))


def test_scores_below_a_summed_out_site_are_weighed_value_by_value() -> None:
    """s is summed out, b is sampled given s: the gradient of both must be right on average."""
    logits = {"s": torch.tensor([0.4, -0.2]), "b": torch.tensor([0.3, -1.1])}
    for value in logits.values():
        value.requires_grad_()

    def model(x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG001
        with pyro.plate("rows", len(x)):
            s = pyro.sample("s", dist.OneHotCategorical(logits=torch.zeros(len(x), 2)))
            b = pyro.sample("b", dist.Bernoulli(torch.full((len(x),), 0.5)))
            pyro.sample("x", dist.Normal(b + 3 * s[..., 1], 1.0), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG001
        q = dist.OneHotCategorical(logits=logits["s"].expand(len(x), 2))
        with pyro.plate("rows", len(x)):
            s = pyro.sample("s", q, infer={"sum_out": True})
            pyro.sample("b", dist.Bernoulli(logits=(s * logits["b"]).sum(-1)))

    x = torch.full((100_000,), 0.8)
    TraceObjective(model, guide, latents=["s", "b"])(x).loss.backward()
    sampled = {name: value.grad.clone() for name, value in logits.items()}
    exact = torch.tensor(0.0)
    q_s = logits["s"].softmax(-1)
    for k in range(2):
        for b in range(2):
            q_b = dist.Bernoulli(logits=logits["b"][k]).log_prob(torch.tensor(float(b)))
            log_p = dist.Normal(b + 3.0 * k, 1.0).log_prob(torch.tensor(0.8)) + 2 * math.log(0.5)
            exact = exact - q_s[k] * q_b.exp() * (log_p - q_s[k].log() - q_b)
    for name, found in zip(logits, torch.autograd.grad(exact, list(logits.values())), strict=True):
        torch.testing.assert_close(sampled[name], found, atol=0.02, rtol=0)


def test_trace_keeps_pyros_score_function_terms() -> None:
    """A discrete site, enumerable by hand: the gradient estimate must be right on average."""
    logit = torch.tensor(0.3, requires_grad=True)

    def model(x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG001
        with pyro.plate("rows", len(x)):
            b = pyro.sample("b", dist.Bernoulli(torch.full((len(x),), 0.5)))
            pyro.sample("x", dist.Normal(b, 1.0), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG001
        with pyro.plate("rows", len(x)):
            pyro.sample("b", dist.Bernoulli(logits=logit.expand(len(x))))

    x = torch.full((20_000,), 0.8)
    TraceObjective(model, guide, latents=["b"])(x).loss.backward()
    q = torch.sigmoid(logit.detach())

    def value(b: float) -> float:
        return -0.5 * (0.8 - b) ** 2 + math.log(0.5)

    expected = -(q * (1 - q)) * (value(1) - value(0) - (q.log() - (1 - q).log()))
    assert logit.grad is not None
    assert logit.grad.item() == pytest.approx(expected.item(), abs=0.02)
