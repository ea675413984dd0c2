"""Bounds of every model are below log p(x), estimated by brute force from its prior."""

import math
from typing import Any

import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import Tensor

from pyro_gmmvae.evaluation import log_weights
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import M2, MODELS, M2Gumbel
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES, TraceObjective
from tests.models.test_contract import OF_IMAGES

K, D, ROWS = 3, 2, 4
DRAWS = 50_000
OPTIONS = NetworkOptions(hidden=(8,))


def small(name: str, **more: Any) -> Any:
    sizes: dict[str, Any] = {"latent_dim": D}
    sizes |= {"components": K} if MODELS[name].has_classes() else {}
    sizes |= {"factors": {"view": 2}} if name == "gmmvae-factors" else {}
    shape = (1, 1, 2) if name in OF_IMAGES else (2,)
    return MODELS[name](shape, **sizes, likelihood="normal", options=OPTIONS, **more).eval()


CASES = [(name, None) for name in MODELS if MODELS[name].latents]
CASES += [("gmmvae", guide) for guide in GUIDES]
CASES += [("gmvae-discrete", guide) for guide in GUIDES if not GUIDES[guide].relaxed_only]
FULL = [("gmmvae", "product"), ("gmmvae", "bayes"), ("gmvae-discrete", "mean-field")]


@torch.no_grad()
def log_px_by_prior(model: Any, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """log p(x) of each row from draws of the model's own prior, and its standard error."""
    log_p = []
    for row in range(len(x)):
        copies = x[row].expand(DRAWS, *x.shape[1:])
        labels = None if y is None else y[row].expand(DRAWS)
        trace = poutine.trace(model.model).get_trace(copies, labels)
        trace.compute_log_prob(lambda name, site: name == "x")  # noqa: ARG005
        log_p.append(trace.nodes["x"]["log_prob"].double())
    weights = torch.stack(log_p)
    log_mean = weights.logsumexp(1) - math.log(DRAWS)
    relative = (weights - log_mean.unsqueeze(1)).exp()
    return log_mean, relative.std(1) / math.sqrt(DRAWS)


@pytest.mark.parametrize(
    ("name", "guide", "more"),
    [*((*case, {}) for case in CASES), *((*case, {"covariance": "full"}) for case in FULL)],
)
@pytest.mark.parametrize("trained", [False, True])
def test_no_bound_exceeds_log_px(
    name: str, guide: str | None, more: dict[str, Any], trained: bool
) -> None:
    """ELBO <= IWAE <= log p(x), each within 4 standard errors, and IWAE is close to it."""
    model = small(name, **({"guide": GUIDES[guide]} if guide else {}), **more)
    x = torch.randn(ROWS, *model.x_shape)
    y = torch.arange(ROWS) % K if model.given_class else None
    if trained:
        train(model, x, y)
    # a straight-through s is rounded in the guide's draw: its model rounds the prior's too
    if guide == "straight-through":
        model.prior_of_s = rounded(model)
    exact, error = log_px_by_prior(model, x, y)
    samples = 2000
    bounds = log_weights(model.model, model.guide, x, samples, y=y, rows_at_once=100_000)
    noise = bounds.log_w.std(0).double() / math.sqrt(samples)
    assert (bounds.elbo.double() <= exact + 4 * (noise + error)).all()
    relative = (bounds.log_w.double() - exact).exp()
    spread = relative.std(0) / math.sqrt(samples)
    assert (relative.mean(0) <= 1 + 5 * (spread + error)).all()
    if trained:
        assert (exact - bounds.elbo < 4).all()


def train(model: Any, x: Tensor, y: Tensor | None) -> None:
    objective = TraceObjective(
        model.model, model.guide, latents=model.latents, label_sites=model.label_sites
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        objective(
            x.repeat(8, *[1] * (x.dim() - 1)), None if y is None else y.repeat(8)
        ).loss.backward()
        optimizer.step()


def rounded(model: Any) -> Any:
    from pyro_gmmvae.distributions import StraightThroughConcrete

    def prior(rows: int, y: Tensor | None = None) -> Any:  # noqa: ARG001
        mixture = model.mixture
        logits = mixture.log_prior.expand(rows, K)
        return StraightThroughConcrete(mixture.prior_temperature, logits=logits)

    return prior


def explicit_m2(model: M2, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """-ELBO of M2 summed over rows, as Kingma et al. write it, with given noise (K, B, d)."""
    from torch.distributions import Normal, kl_divergence

    def labelled_bound(k: int) -> Tensor:
        s = torch.eye(K)[k].expand(len(x), K)
        loc, scale = model.z_given(x, s)
        log_px = model.observation(loc + scale * noise[k], s).log_prob(x)
        kl = kl_divergence(Normal(loc, scale), Normal(0.0, 1.0)).sum(-1)
        return log_px + math.log(1 / K) - kl

    each = torch.stack([labelled_bound(k) for k in range(K)])
    log_q = model.classifier(x).log_softmax(-1).T
    unlabelled = (log_q.exp() * (each - log_q)).sum(0)
    labelled = each.gather(0, y.clamp_min(0).unsqueeze(0)).squeeze(0)
    return -torch.where(y >= 0, labelled, unlabelled).sum()


def test_m2_is_the_explicit_sum_over_y(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our sum, Pyro's enumeration, and the formula: value and gradients."""
    model = small("m2").double()
    x, y = torch.randn(6, 2).double(), torch.tensor([0, -1, 2, -1, 1, -1])
    noise = torch.randn(K, 6, D).double()
    fixed = lambda shape, *_, **__: noise.expand(shape)  # noqa: E731
    monkeypatch.setattr("torch.distributions.normal._standard_normal", fixed)
    ours = OBJECTIVES["analytic"](
        model.model, model.guide, latents=model.latents, label_sites=model.label_sites
    )
    pyros = TraceEnum_ELBO(max_plate_nesting=1)
    sampled = OBJECTIVES["trace"](model.model, model.guide, latents=model.latents)
    guide = config_enumerate(model.guide)

    def gradients(loss: Tensor) -> list[Tensor]:
        model.zero_grad()
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in model.parameters())]

    expected = gradients(explicit_m2(model, x, y, noise))
    found = gradients(ours(x, y).loss * len(x))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    # with every KL sampled, Pyro's enumeration is the reference
    expected = gradients(pyros.differentiable_loss(model.model, guide, x, y))
    found = gradients(sampled(x, y).loss * len(x))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["m2", "adgm", "sdgm", "m1m2", "gmvae-discrete"])
def test_summing_out_is_pyros_enumeration(name: str) -> None:
    """Same seed, labelled and unlabelled rows: TraceEnum_ELBO's loss and gradients."""
    model = small(name)
    x, y = torch.randn(6, 2), torch.tensor([0, -1, 2, -1, 1, -1])
    ours = TraceObjective(model.model, model.guide, latents=model.latents)
    guide = config_enumerate(model.guide)
    pyros = TraceEnum_ELBO(max_plate_nesting=1)
    found = []
    for loss in (
        lambda: ours(x, y).loss * len(x),
        lambda: pyros.differentiable_loss(model.model, guide, x, y),
    ):
        model.zero_grad()
        torch.manual_seed(4)
        value = loss()
        value.backward()
        gradients = [torch.zeros(1) if p.grad is None else p.grad for p in model.parameters()]
        found.append([value.detach(), *(g.clone() for g in gradients)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["trace", "analytic", "categorical"])
def test_labelled_rows_of_m2_gumbel_use_their_label(name: str) -> None:
    model = M2Gumbel((2,), K, D, likelihood="normal", options=OPTIONS).eval()
    x, y = torch.randn(5, 2), torch.tensor([1, -1, 0, 2, -1])
    seen = []
    model.observation.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    kind = OBJECTIVES[name]
    objective = kind(model.model, model.guide, latents=model.latents, label_sites=("y",))
    estimate = objective.estimate(x, y)
    assert torch.equal(seen[-1][y >= 0], torch.eye(K)[y[y >= 0]])
    torch.testing.assert_close(estimate.kl["y"][y >= 0], torch.full((3,), math.log(K)))
    assert (estimate.kl["y"][y < 0] != 0).all()


def test_the_layer_above_gives_m1_no_gradient() -> None:
    """M1+M2 is stacked: gradients of x and z1 are those of a VAE, and reach only its networks."""
    model, vae = small("m1m2"), small("vae")
    vae.encoder.load_state_dict(model.encoder.state_dict())
    vae.observation.load_state_dict(model.observation.state_dict())
    x, found = torch.randn(6, 2), []
    for module in (model, vae):
        objective = TraceObjective(module.model, module.guide, latents=module.latents)
        torch.manual_seed(4)
        objective(x).loss.backward()
        found.append([p.grad for m in (module.encoder, module.observation) for p in m.parameters()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
