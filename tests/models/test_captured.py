"""The captured step of every model and guide has the numbers of Pyro."""

from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam

from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES
from pyro_gmmvae.training.capture import CapturedStep, CaptureError
from pyro_gmmvae.training.devices import rng_state
from tests.models.test_contract import (
    VARIANTS,
    Build,
    build_objective,
    every_model,
    gmmvae,
    needs_trace,
    rows,
)

NOISY = NetworkOptions(hidden=(16,), channels=(4, 8), batch_norm=True, dropout=0.3, input_noise=0.2)


def evaluate(step: Any, objective: Any, model: Any, *batch: Any) -> dict[str, Any]:
    """Loss, gradients, buffers and generator state after one evaluation, from a fixed seed."""
    torch.manual_seed(7)
    for p in model.parameters():
        p.grad = None
    terms = step(*batch)
    if terms.loss.requires_grad:
        terms.loss.backward()
    left = {"loss": terms.loss.detach()} | terms.parts
    left |= {f"grad {n}": p.grad for n, p in model.named_parameters()}
    left |= {n: b.clone() for n, b in (*model.named_buffers(), *objective.named_buffers())}
    return left | {f"rng {kind}": state for kind, state in rng_state(batch[0].device).items()}


@every_model
@pytest.mark.parametrize("noisy", [False, True])
def test_it_equals_eager_evaluation(build: Build, noisy: bool) -> None:
    """Loss, parts, gradients, running means and the generator's state, with labels."""
    model = build(options=NOISY) if noisy else build()
    objective = build_objective(model, "trace" if needs_trace(model) else "analytic")
    x, y = rows()
    start = {n: b.clone() for n, b in model.named_buffers()}
    with pyro.validation_enabled(False):
        step = CapturedStep(objective, model)
        captured = evaluate(step, objective, model, x, y)
        model.load_state_dict(start, strict=False)
        eager = evaluate(objective, objective, model, x, y)
    assert captured.keys() == eager.keys()
    for name, wanted in eager.items():
        if wanted is None:
            assert captured[name] is None, name
        else:
            torch.testing.assert_close(captured[name], wanted, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("particles", [1, 3])
def test_every_objective_is_captured(objective: str, particles: int) -> None:
    model = gmmvae("product")()
    built = OBJECTIVES[objective](
        model.model, model.guide, latents=model.latents, label_sites=("s",), particles=particles
    )
    x, y = rows()
    with pyro.validation_enabled(False):
        captured = evaluate(CapturedStep(built, model), built, model, x, y)
        eager = evaluate(built, built, model, x, y)
    for name, wanted in eager.items():
        torch.testing.assert_close(captured[name], wanted, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", ["vae", "gmmvae:product", "gmmvae:conditional", "m2-gumbel"])
def test_sixty_steps_are_those_of_stock_svi(name: str) -> None:
    """In double precision, against pyro's SVI, Adam and Trace_ELBO: below 1e-12 everywhere."""
    torch.set_default_dtype(torch.float64)
    x, y = rows(24)
    ends = []
    for captured in (True, False):
        torch.manual_seed(0)
        model = VARIANTS[name]()
        torch.manual_seed(1)
        if captured:
            objective = build_objective(model, "trace")
            step = CapturedStep(objective, model)
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            with pyro.validation_enabled(False):
                for _ in range(60):
                    step(x, y)
                    for p in model.parameters():
                        if p.grad is not None:
                            p.grad.mul_(len(x))  # the objective is a mean over rows, SVI's a sum
                    optimizer.step()
        else:
            svi = SVI(model.model, model.guide, Adam({"lr": 0.01}), Trace_ELBO())
            for _ in range(60):
                svi.step(x, y)
        ends.append([p.detach().clone() for p in model.parameters()])
    assert max((a - b).abs().max().item() for a, b in zip(*ends, strict=True)) < 1e-12


def test_scheduled_values_are_inputs() -> None:
    """Temperatures, weights of terms and parameters are inputs of the graph, not constants."""
    model = gmmvae("product")()
    objective = build_objective(model, "analytic")
    x, y = rows()
    with pyro.validation_enabled(False):
        step = CapturedStep(objective, model)
        step(x, y)
        moved = [*(objective.scheduled | model.scheduled).values(), *model.parameters()]
        for tensor in moved:
            tensor.data.mul_(1.3).add_(0.1)
            captured = evaluate(step, objective, model, x, y)
            eager = evaluate(objective, objective, model, x, y)
            for name, wanted in eager.items():
                torch.testing.assert_close(captured[name], wanted)


def test_a_site_that_is_not_reparameterized_is_refused() -> None:
    def model(x: Any, y: Any) -> None:  # noqa: ARG001
        with pyro.plate("rows", len(x)):
            s = pyro.sample("s", pyro.distributions.Bernoulli(torch.tensor(0.5)))
            pyro.sample("x", pyro.distributions.Normal(s, 1.0), obs=x)

    p = torch.nn.Linear(1, 1, bias=False)

    def guide(x: Any, y: Any) -> None:  # noqa: ARG001
        with pyro.plate("rows", len(x)):
            pyro.sample("s", pyro.distributions.Bernoulli(logits=p.weight.squeeze()))

    objective = OBJECTIVES["trace"](model, guide, latents=["s"])
    x, y = torch.randn(5), torch.full((5,), -1)
    with pytest.raises(CaptureError, match="site 's' is a Bernoulli, which is not reparameter"):
        CapturedStep(objective, p)(x, y)
    pyro.clear_param_store()
