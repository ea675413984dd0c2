"""Adam's step and the check for NaN, with and without waiting for a device."""

import copy
import math

import pytest
import torch
from torch import nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training import NonFiniteError
from pyro_gmmvae.training.optimizer import EpochMeans, Optimizer


def step_name(ago: int) -> str:
    return f"{ago} steps ago"


def built(device: torch.device, deferred: bool) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)).to(device)
    return module, Optimizer(module, 0.1, 0.5, step_name, deferred)


def step(module: nn.Module, optimizer: Optimizer, x: torch.Tensor) -> None:
    optimizer.adam.zero_grad()
    loss = module(x).square().mean()
    loss.backward()
    optimizer.step({"loss": loss.detach(), "kl_z": 2 * loss.detach()})


@pytest.mark.parametrize("deferred", [True, False])
def test_a_step_is_a_clipped_step_of_adam(device: torch.device, deferred: bool) -> None:
    module, optimizer = built(device, deferred)
    plain, _ = built(device, deferred)
    adam = torch.optim.Adam(plain.parameters(), lr=0.1)
    for i in range(5):
        x = 3 * torch.randn(8, 3).to(device)
        rate = 0.1 / (i + 1)
        optimizer.set_learning_rate(rate)
        step(module, optimizer, x)
        adam.param_groups[0]["lr"] = rate
        adam.zero_grad()
        plain(x).square().mean().backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        adam.step()
    optimizer.check()
    for a, b in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_deferred_non_finite_step_and_later_ones_change_nothing(
    device: torch.device, bad: float
) -> None:
    module, optimizer = built(device, True)
    x = torch.randn(8, 3).to(device)
    step(module, optimizer, x)
    before = [p.detach().clone() for p in module.parameters()]
    step(module, optimizer, torch.full_like(x, bad))
    for _ in range(3):
        step(module, optimizer, x)
    for a, b in zip(module.parameters(), before, strict=True):
        assert torch.equal(a, b)
    assert {s["step"].item() for s in optimizer.adam.state.values()} == {1}
    with pytest.raises(NonFiniteError, match="4 steps ago: the KL term of site 'z' is"):
        optimizer.check()


def test_a_non_finite_gradient_is_named(device: torch.device) -> None:
    for deferred in (True, False):
        module, optimizer = built(device, deferred)
        module[1].weight.register_hook(lambda g: g * math.nan)
        with pytest.raises(NonFiniteError, match=r"gradient .* that of 1\.weight"):  # noqa: PT012
            step(module, optimizer, torch.randn(8, 3).to(device))
            optimizer.check()


def test_a_state_is_loaded_with_and_without_deferred_checks(device: torch.device) -> None:
    """As when a run of a CPU is resumed on a GPU: rate and capture are the new ones."""
    states = []
    for deferred in (True, False):
        module, optimizer = built(device, deferred)
        x = torch.ones(8, 3).to(device)
        step(module, optimizer, x)
        states.append(optimizer.state_dict())
    for deferred, state in zip((False, True), states, strict=True):
        module, optimizer = built(device, deferred)
        optimizer.load_state_dict(state)
        optimizer.set_learning_rate(0.0)
        before = [p.detach().clone() for p in module.parameters()]
        step(module, optimizer, torch.ones(8, 3).to(device))
        optimizer.check()
        assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))
        assert {s["step"].item() for s in optimizer.adam.state.values()} == {2}


def test_loading_a_finite_state_ends_the_skipping(device: torch.device) -> None:
    module, optimizer = built(device, True)
    x = torch.ones(8, 3).to(device)
    step(module, optimizer, x)
    good = copy.deepcopy(optimizer.state_dict())
    step(module, optimizer, x * math.nan)
    optimizer.load_state_dict(good)
    before = [p.detach().clone() for p in module.parameters()]
    step(module, optimizer, x)
    optimizer.check()
    assert not any(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


def test_terms_must_keep_their_names() -> None:
    means = EpochMeans()
    means.add({"loss": torch.ones(()), "kl_z": torch.ones(())})
    with pytest.raises(GMMVAEError, match="the same terms at each step: loss, kl_z; now"):
        means.add({"loss": torch.ones(()), "kl_s": torch.ones(())})


def test_means_of_an_epoch_begin_again(device: torch.device) -> None:
    means = EpochMeans()
    assert means.take(1) == {}
    for value in (1.0, 2.0, 4.5):
        means.add({"loss": torch.tensor(value, device=device), "kl": torch.ones((), device=device)})
    other = EpochMeans()
    other.load_state_dict({k: v.clone() for k, v in means.state_dict().items()}, device)
    for each in (means, other):
        assert each.take(3) == {"loss": 2.5, "kl": 1.0}
        each.add({"loss": torch.tensor(3.0, device=device), "kl": torch.zeros((), device=device)})
        assert each.take(1) == {"loss": 3.0, "kl": 0.0}
