"""The training loop, with objectives of a few lines instead of models."""

import math
import os
import signal
from dataclasses import dataclass, replace
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.objectives.elbo import labels_of
from pyro_gmmvae.training import (
    Batches,
    Callback,
    Fit,
    FitSettings,
    FitState,
    NonFiniteError,
    PseudoLabeler,
)


@dataclass
class Terms:
    loss: Tensor
    parts: dict[str, Tensor]


class Regression(nn.Module):
    """Noisy least squares: the noise makes the loss depend on the generator's state."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)
        self.register_buffer("weight", torch.tensor(1.0))

    def forward(self, x: Tensor, y: Tensor) -> Terms:  # noqa: ARG002
        x = x + 0.01 * torch.randn_like(x)
        error = (self.linear(x).squeeze(-1) - x.sum(-1)).square().mean()
        return Terms(self.weight * error, {"kl_z": error.detach(), "log_px": -error.detach()})


SETTINGS = FitSettings(epochs=6, learning_rate=0.05)


def build(settings: FitSettings = SETTINGS, **options: Any) -> Fit:
    torch.manual_seed(0)
    module = Regression()
    x = torch.randn(50, 2)
    batches = Batches(x, torch.full((50,), -1), batch_size=16, labelled=0, seed=0)
    torch.manual_seed(1)
    return Fit(module, module, batches, settings, **options)


def history(fit: Fit) -> list[dict[str, float]]:
    return [{k: v for k, v in r.items() if k != "seconds"} for r in fit.state.history]


def reread(state: FitState) -> FitState:
    """The state as a checkpoint gives it back."""
    return FitState.from_dict(state.to_dict(), "training.pt")


class StopAfter(Callback):
    """Sends a signal to this process after a number of steps."""

    def __init__(self, steps: int, number: int = signal.SIGINT) -> None:
        self.steps, self.number = steps, number

    def on_step(self, progress: float) -> None:  # noqa: ARG002
        self.steps -= 1
        if self.steps == 0:
            os.kill(os.getpid(), self.number)


def test_a_regression_is_fitted() -> None:
    fit = build(replace(SETTINGS, epochs=60))
    assert fit.run() == "complete"
    torch.testing.assert_close(
        fit.module.linear.weight.detach(), torch.ones(1, 2), atol=0.05, rtol=0
    )
    assert [r["epoch"] for r in fit.state.history] == list(range(1, 61))


@pytest.mark.parametrize("steps", [1, 4, 7, 8, 23])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_resumed_fit_equals_an_uninterrupted_one_bit_for_bit(steps: int, number: int) -> None:
    """Stopped after some of its 24 steps (4 per epoch), and resumed from a checkpoint."""
    whole = build()
    whole.run()
    saved: list[FitState] = []
    first = build(callbacks=[StopAfter(steps, number)])
    assert first.run(lambda f: saved.append(f.snapshot())) == signal.Signals(number).name
    assert first.state.step == steps
    second = build(state=reread(saved[-1]))
    assert second.run() == "complete"
    assert history(second) == history(whole)
    for a, b in zip(whole.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(a, b)


BAD_STATES = {
    "negative": ({"epoch": -1}, "training.pt is damaged: epoch: .*greater than or equal to 0"),
    "text": ({"step": "many"}, "step: input should be a valid integer.*found 'many'"),
    "beyond": ({"batch": 10**9}, r"training\.pt is damaged: 0 epochs and 1000000000 batches in 0"),
    "endless": ({"seconds": math.inf}, "seconds: input should be a finite number"),
    "history": ({"history": [{"loss": "low"}]}, r"history\.0\.loss: .*a number, found 'low'"),
    "weights": ({"module": {"linear.weight": 1}}, r"module\.linear\.weight: .*Tensor, found 1"),
    "unknown": ({"progress": {}}, "progress: unexpected keyword argument"),
}


def test_a_state_without_an_entry_is_refused_and_not_filled_in() -> None:
    content = build().snapshot().to_dict()
    del content["epoch"]
    with pytest.raises(GMMVAEError, match=r"training\.pt is damaged: it lacks epoch"):
        FitState.from_dict(content, "training.pt")


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_damaged_state_is_one_line(case: str) -> None:
    changes, message = BAD_STATES[case]
    content = build().snapshot().to_dict() | changes
    with pytest.raises(GMMVAEError, match=message) as caught:
        FitState.from_dict(content, "training.pt")
    assert "\n" not in str(caught.value)


def test_a_state_keeps_integers_of_the_history() -> None:
    fit = build(replace(SETTINGS, epochs=1))
    fit.run()
    (record,) = reread(fit.snapshot()).history
    assert record == fit.state.history[0]
    assert [type(record[name]) for name in ("epoch", "step", "loss")] == [int, int, float]


def test_a_state_of_another_module_is_refused() -> None:
    state = build().snapshot()
    state.module = {"other": torch.zeros(1)}
    with pytest.raises(RuntimeError, match="linear"):
        build(state=state)


def test_a_signal_at_the_last_step_loses_no_epoch() -> None:
    whole = build()
    whole.run()
    stopped = build(callbacks=[StopAfter(24)])
    assert stopped.run() == "complete"
    assert history(stopped) == history(whole)


def test_a_second_signal_while_saving_waits() -> None:
    saved: list[int] = []

    def save(fit: Fit) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        saved.append(fit.state.step)

    fit = build(callbacks=[StopAfter(3)])
    assert fit.run(save) == "SIGINT"
    assert saved == [3]


def test_non_finite_weights_are_not_saved() -> None:
    saves: list[int] = []
    fit = build()

    class Break(StopAfter):
        def on_epoch(self, record: dict[str, float]) -> None:  # noqa: ARG002
            fit.module.linear.weight.data.fill_(math.nan)

    fit.settings, fit.callbacks = replace(SETTINGS, epochs=1), [Break(0)]
    with pytest.raises(NonFiniteError, match=r"linear\.weight became non-finite"):
        fit.run(lambda f: saves.append(f.state.step))
    assert saves == []


def test_a_completed_fit_that_runs_again_only_saves() -> None:
    saves: list[int] = []
    fit = build(replace(SETTINGS, epochs=1))
    fit.run()
    before = history(fit)
    assert fit.run(lambda f: saves.append(f.state.step)) == "complete"
    assert history(fit) == before
    assert saves == [4]


def test_signal_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    build().run()
    assert signal.getsignal(signal.SIGINT) is before


def test_schedules_fill_their_buffers() -> None:
    seen: list[float] = []
    fit = build()

    class Look(StopAfter):
        def on_step(self, progress: float) -> None:  # noqa: ARG002
            seen.append(fit.module.weight.item())

    fit.schedules, fit.callbacks = [(fit.module.weight, Schedule(0.0, 1.0, 4))], [Look(0)]
    fit.run()
    assert seen[:6] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_the_cosine_rate_goes_to_zero_and_the_constant_rate_stays() -> None:
    cosine, constant = build(), build(replace(SETTINGS, decay="constant"))
    cosine.run()
    constant.run()
    rates = [r["learning_rate"] for r in cosine.state.history]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert {r["learning_rate"] for r in constant.state.history} == {0.05}


def test_minutes_bound_the_fit() -> None:
    fit = build(replace(SETTINGS, epochs=None, minutes=0.5 / 60))
    fit.run()
    assert 0.5 <= fit.state.seconds < 5
    assert fit.fraction() == 1


def test_early_stopping_and_the_best_weights() -> None:
    values = iter([1.0, 3.0, 2.0, 2.5, 0.0, 9.0])
    weights: list[Tensor] = []

    def validate() -> dict[str, float]:
        weights.append(fit.module.linear.weight.detach().clone())
        return {"val_elbo": next(values)}

    fit = build(replace(SETTINGS, patience=3), validate=validate)
    assert fit.run() == "early-stopped"
    assert fit.state.epoch == 5
    assert fit.state.best_epoch == 2
    assert torch.equal(fit.state.best["linear.weight"], weights[1])


def test_a_non_finite_part_is_named_and_nothing_is_saved() -> None:
    saves: list[int] = []
    fit = build()
    clean = fit.objective

    def broken(x: Tensor, y: Tensor) -> Terms:
        terms = clean(x, y)
        if fit.state.step == 5:
            terms.loss, terms.parts["kl_z"] = terms.loss * math.nan, torch.tensor(math.nan)
            terms.parts["log_px"] = torch.tensor(math.nan)
        return terms

    fit.objective = broken
    with pytest.raises(NonFiniteError, match=r"step 6 .*KL term of site 'z' is nan"):
        fit.run(lambda f: saves.append(f.state.step))
    assert saves == []
    assert all(p.isfinite().all() for p in fit.module.parameters())


def test_a_non_finite_gradient_is_named() -> None:
    fit = build()
    fit.module.linear.weight.register_hook(lambda g: g * math.inf)
    with pytest.raises(NonFiniteError, match=r"gradient .* linear\.weight"):
        fit.run()
    assert all(p.isfinite().all() for p in fit.module.parameters())


def test_clipping_bounds_the_norm_of_the_gradient() -> None:
    fit = build(replace(SETTINGS, clip_norm=1e-3))
    norms: list[float] = []
    step = fit.optimizer.adam.step

    def spy(*args: Any, **options: Any) -> Any:
        norms.append(nn.utils.get_total_norm([p.grad for p in fit.parameters]).item())
        return step(*args, **options)

    fit.optimizer.adam.step = spy  # type: ignore[method-assign]
    fit.run()
    assert 0 < max(norms) <= 1.01e-3


def test_process_wide_switches_are_restored() -> None:
    tiny = torch.tensor([1e-40], dtype=torch.float32)
    seen: dict[str, Any] = {}

    class Look(StopAfter):
        def on_step(self, progress: float) -> None:  # noqa: ARG002
            seen["flushed"] = (tiny * 1).item() == 0
            seen["validation"] = pyro.infer.util.is_validation_enabled()
            seen["deterministic"] = torch.are_deterministic_algorithms_enabled()

    validation = pyro.infer.util.is_validation_enabled()
    build(replace(SETTINGS, deterministic=True), callbacks=[Look(0)]).run()
    assert seen["validation"] is False
    assert seen["deterministic"] is True
    assert pyro.infer.util.is_validation_enabled() is validation
    assert not torch.are_deterministic_algorithms_enabled()
    assert (tiny * 1).item() != 0
    if torch.get_default_device().type == "cpu":
        assert seen["flushed"]


class Classifier(nn.Module):
    """Two classes on a line; the objective is a cross-entropy of the labels it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 2)
        self.received: list[Tensor] = []

    def classify(self, x: Tensor) -> Tensor:
        return self.linear(x).log_softmax(-1)

    def forward(self, x: Tensor, y: Tensor) -> Terms:
        self.received.append(y)
        x = x + 0.1 * torch.randn_like(x)
        y = labels_of(y)
        known = (y >= 0).to(x)
        losses = -self.classify(x).gather(1, y.clamp_min(0)[:, None]).squeeze(-1)
        return Terms((losses * known).sum() / known.sum().clamp_min(1), {})


def build_classifier(settings: FitSettings, **options: Any) -> Fit:
    torch.manual_seed(0)
    module, x = Classifier(), torch.cat([torch.linspace(-3, -1, 20), torch.linspace(1, 3, 20)])
    y = torch.full((40,), -1)
    y[[0, 39]] = torch.tensor([0, 1])
    batches = Batches(x[:, None], y, batch_size=12, labelled=2, seed=0)
    labeler = PseudoLabeler(module, threshold=0.9, from_step=20, decay=0.9)
    torch.manual_seed(1)
    return Fit(module, module, batches, settings, pseudo_labeler=labeler, **options)


PSEUDO = FitSettings(epochs=30, learning_rate=0.05, decay="constant")


def test_a_confident_average_fills_in_labels_and_replaces_none() -> None:
    fit = build_classifier(PSEUDO)
    fit.run()
    assert all((labels_of(y) >= 0).sum() <= 4 for y in fit.module.received[:20])
    late = labels_of(torch.cat(fit.module.received[-4:]))
    assert (late >= 0).float().mean() > 0.9
    x = fit.batches.x
    assert (fit.pseudo_labeler.average.classify(x).argmax(-1) == (x[:, 0] > 0)).all()
    wrong = torch.ones(40, dtype=torch.int64) - (x[:, 0] > 0).long()
    assert torch.equal(fit.pseudo_labeler.relabel(x, wrong), wrong)


def test_the_average_lags_behind_the_model() -> None:
    fit = build_classifier(PSEUDO)
    fit.run()
    averaged = fit.pseudo_labeler.average.linear.weight
    assert averaged.norm() < fit.module.linear.weight.norm()


@pytest.mark.parametrize("steps", [10, 33])
def test_resuming_with_pseudo_labels_is_bit_for_bit(steps: int) -> None:
    whole = build_classifier(PSEUDO)
    whole.run()
    saved: list[FitState] = []
    stopped = build_classifier(PSEUDO, callbacks=[StopAfter(steps)])
    assert stopped.run(lambda f: saved.append(f.snapshot())) == "SIGINT"
    resumed = build_classifier(PSEUDO, state=reread(saved[-1]))
    resumed.run()
    assert history(resumed) == history(whole)


def test_balancing_moves_unequal_shares_towards_equal_ones() -> None:
    """An average that favors class 0 by two nats everywhere is weighted towards class 1."""
    module = Classifier()
    with torch.no_grad():
        module.linear.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        module.linear.bias.copy_(torch.tensor([1.0, -1.0]))
    x = torch.linspace(-2, 2, 101)[:, None]
    unknown = torch.full((101,), -1)
    plain = PseudoLabeler(module, threshold=0.5, from_step=0)
    balanced = PseudoLabeler(module, threshold=0.5, from_step=0, balanced_over=2)
    balanced.begin(0)
    plain.begin(0)
    for _ in range(200):
        labels = labels_of(balanced.relabel(x, unknown))
    before = (labels_of(plain.relabel(x, unknown)) == 1).float().mean()
    after = (labels == 1).float().mean()
    assert before < 0.3
    assert before + 0.08 < after < 0.55


def test_balancing_does_not_change_components_beyond_the_classes() -> None:
    class Fixed(torch.nn.Module):
        def classify(self, x: Tensor) -> Tensor:
            return x.log()

    labeler = PseudoLabeler(Fixed(), 0.6, 0, balanced_over=2)
    labeler.begin(0)
    labeler.shares.copy_(torch.tensor([0.9, 0.1]))
    probs = torch.tensor([[0.05, 0.01, 0.94], [0.6, 0.3, 0.1], [0.6, 0.4, 0.0]])
    labels = labeler.relabel(probs, torch.full((3,), -1))
    assert labels_of(labels).tolist() == [2, 1, 1]
