"""JMVAE: its bound term by term, and each view from the other."""

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Categorical, Normal
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import JMVAE
from pyro_gmmvae.objectives import OBJECTIVES

K, D, SHAPE = 3, 4, (12,)


def rows(n: int = 12) -> tuple[Tensor, Tensor]:
    """K prototypes; the second half of the rows has no label."""
    y = torch.arange(n) % K
    prototypes = torch.rand(K, *SHAPE, generator=torch.Generator(y.device).manual_seed(1)).round()
    return prototypes[y], torch.where(torch.arange(n) < n // 2, y, -1)


def bound(model: JMVAE, x: Tensor, y: Tensor | None) -> Tensor:
    """Each row of the ELBO at one sample, from the trace of the program."""
    guide = poutine.trace(model.guide).get_trace(x, y)
    trace = poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(x, y)
    for one in (guide, trace):
        one.compute_log_prob()
    sites = [s["log_prob"] for s in trace.nodes.values() if s["type"] == "sample" and s["name"]]
    values = [value for value in sites if value.dim() == 1 and len(value) == len(x)]
    return sum(values) - guide.nodes["z"]["log_prob"]  # type: ignore[no-any-return]


def test_the_bound_is_the_sum_of_the_formulas() -> None:
    model, (x, y) = JMVAE(SHAPE, K, D, match=0.7, label_weight=5.0), rows()
    features = model.encoder(x)
    of_x, both, of_y = model._of_x(features), model._of_both(features, y), model._of_y(y)
    torch.manual_seed(1)
    found = bound(model, x, y)
    torch.manual_seed(1)
    noise = torch.randn(len(x), D)
    prior = Normal(torch.zeros(D), torch.ones(D)).to_event(1)
    for row in range(len(x)):
        q = both if y[row] >= 0 else of_x
        z = q.mean + q.stddev * noise
        value = model.observe(z).log_prob(x) + prior.log_prob(z) - q.log_prob(z)
        if y[row] >= 0:
            log_py = Categorical(logits=model.to_y(z)[0]).log_prob(y.clamp_min(0))
            between = kl_divergence(both, of_x) + kl_divergence(both, of_y)
            value = value + 5.0 * log_py - 0.7 * between
        torch.testing.assert_close(found[row], value[row], rtol=1e-4, atol=1e-4)


def test_without_labels_it_is_a_vae() -> None:
    """In evaluation, too, there is no weight and no further term."""
    model, (x, y) = JMVAE(SHAPE, K, D).eval(), rows()
    torch.manual_seed(1)
    alone = bound(model, x, None)
    torch.manual_seed(1)
    torch.testing.assert_close(bound(model, x, torch.full_like(y, -1)), alone)
    objective = OBJECTIVES["analytic"](model.model, model.guide, latents=model.latents)
    prior = Normal(torch.zeros(D), torch.ones(D)).to_event(1)
    exact = kl_divergence(model._of_x(model.encoder(x)), prior).mean()
    torch.testing.assert_close(objective(x).parts["kl_z"], exact.detach())


def test_each_view_gives_the_other() -> None:
    pyro.set_rng_seed(0)
    model, (x, y) = JMVAE(SHAPE, K, D), rows(60)
    svi = SVI(model.model, model.guide, Adam({"lr": 0.01}), Trace_ELBO())
    for _ in range(300):
        svi.step(x, y)
    model.eval()
    assert model.classify(x[30:]).argmax(-1).tolist() == [n % K for n in range(30, 60)]
    for label in range(K):
        drawn = model.generate(20, label).round()
        assert (drawn == x[label]).float().mean() > 0.9
    with pytest.raises(GMMVAEError, match="class 3 is out of range"):
        model.generate(2, 3)
