"""Fits side by side as one program: each is the fit that it is alone."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.random import fork_rng

from pyro_gmmvae.data.augment import affine
from pyro_gmmvae.models import GMMVAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES, REGULARIZERS
from pyro_gmmvae.training import Batches, Callback, Fit, FitSettings, Preprocessing, PseudoLabeler
from pyro_gmmvae.training.batched_step import BatchedStep
from pyro_gmmvae.training.capture import CaptureError
from pyro_gmmvae.training.devices import rng_state, set_rng_state
from pyro_gmmvae.training.fit_group import FitGroup
from pyro_gmmvae.training.fit_state import FitState
from pyro_gmmvae.training.optimizer import NonFiniteError
from tests.training.test_loop import StopAfter

ROWS, BATCH = 24, 16
Noise = dict[str, Tensor]


def recipe(
    seed: int,
    *,
    dropout: float = 0.2,
    alpha: float = 1.0,
    labelled: int = 4,
    from_step: int = 4,
    state: FitState | None = None,
    callbacks: Sequence[Callback] = (),
    **keys: Any,
) -> tuple[Fit, Noise]:
    """A fit in double precision with everything that draws or keeps a state, and its noise."""
    torch.manual_seed(seed)
    options = NetworkOptions(hidden=(8,), batch_norm=True, dropout=dropout)
    model = GMMVAE((1, 6, 6), 3, 2, temperature=0.5, options=options).double()
    objective = OBJECTIVES["trace"](
        model.model,
        model.guide,
        latents=model.latents,
        label_sites=("s",),
        regularizers={name: REGULARIZERS[name]() for name in ("balance", "consistency")},
    ).double()
    objective.alpha.fill_(alpha)
    x = torch.rand(ROWS, 1, 6, 6, dtype=torch.float64).round()
    y = torch.where(torch.arange(ROWS) % 5 == 0, torch.arange(ROWS) % 3, -1)
    settings = FitSettings(**{"epochs": 4, "engine": "svi", "precision": "f64", **keys})
    fit = Fit(
        objective,
        model,
        Batches(x, y, BATCH, labelled, seed),
        settings,
        pseudo_labeler=PseudoLabeler(model, 0.4, from_step, balanced_over=3).double(),
        preprocessing=Preprocessing(affine, paired=True),
        callbacks=callbacks,
        state=state,
    )
    return fit, {"cpu": torch.get_rng_state()}


def ignore(fit: Fit) -> None:
    """Save nothing."""


def together(*made: tuple[Fit, Noise], save: Callable[[Fit], None] = ignore) -> list[Any]:
    fits, noise = zip(*made, strict=True)
    return FitGroup(fits, noise).run([save] * len(fits))


def alone(seed: int, **keys: Any) -> Fit:
    fit, noise = recipe(seed, **keys)
    torch.set_rng_state(noise["cpu"])
    fit.run()
    return fit


def assert_same(one: Fit, other: Fit) -> None:
    for a, b in zip(
        one.module.state_dict().values(), other.module.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert len(one.state.history) == len(other.state.history)
    for mine, theirs in zip(one.state.history, other.state.history, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-9)


def test_each_fit_is_the_one_that_it_is_alone() -> None:
    """Also of fits with other rates, weights and budgets: the last one ends before the others."""
    keys = [{}, {"learning_rate": 0.01, "alpha": 30.0, "clip_norm": 0.5}, {"epochs": 2}]
    made = [recipe(seed, **one) for seed, one in enumerate(keys)]
    assert together(*made) == ["complete"] * 3
    for seed, (one, (fit, _)) in enumerate(zip(keys, made, strict=True)):
        assert_same(fit, alone(seed, **one))
        assert fit.state.engine == "batched"
        assert 0 < fit.state.history[0]["seconds"] < fit.state.seconds


def test_steps_on_a_device_are_replayed_with_each_fits_noise(device: torch.device) -> None:
    """On CUDA as one graph for each kind of step; without it there is none."""
    fits = [on(device, seed, epochs=12) for seed in range(2)]
    noise = [rng_state(device) for _ in fits]
    lines: list[str] = []
    for fit in fits:
        fit.log = lines.append  # type: ignore[method-assign]
    group = FitGroup(fits, noise)
    assert group.run([ignore, ignore]) == ["complete", "complete"]
    assert lines == []
    if device.type == "cuda":
        assert group.cuda_graph_step is not None
        assert len(group.cuda_graph_step._launches) == 2  # with pseudo-labels, and without
    for seed, fit in enumerate(fits):
        other = on(device, seed, epochs=12)
        set_rng_state(device, noise[seed])
        other.run()
        assert_same(fit, other)


def on(device: torch.device, seed: int, **keys: Any) -> Fit:
    """The recipe on a device, in double precision."""
    fit, _ = recipe(seed, **keys)
    assert fit.pseudo_labeler is not None
    x, y = fit.batches.x[:].to(device), fit.batches.y.to(device)
    return Fit(
        fit.objective.to(device),  # type: ignore[attr-defined]
        fit.module.to(device),
        Batches(x, y, BATCH, 4, seed),
        fit.settings,
        pseudo_labeler=fit.pseudo_labeler.to(device),
        preprocessing=Preprocessing(affine, paired=True),
    )


def test_a_fit_with_a_nan_ends_and_the_others_go_on() -> None:
    good, bad = recipe(0), recipe(1)
    with torch.no_grad():
        next(bad[0].module.parameters()).fill_(torch.nan)
    outcome, error = together(good, bad)
    assert outcome == "complete"
    assert isinstance(error, NonFiniteError)
    assert_same(good[0], alone(0))


class Spoiled(Callback):
    """Makes a weight NaN at a step."""

    def __init__(self, step: int) -> None:
        self.steps, self.weight = step, torch.empty(0)

    def on_step(self, progress: float) -> None:  # noqa: ARG002
        self.steps -= 1
        if self.steps == 0:
            self.weight.data.fill_(torch.nan)


def test_a_nan_of_the_first_fit_leaves_the_pseudo_labels_of_the_others() -> None:
    """Also in the rest of the epoch."""
    spoiled = Spoiled(2)  # the first batch of the second epoch is not finite
    bad, good = recipe(0, callbacks=[spoiled], from_step=0), recipe(1, from_step=0)
    assert len(bad[0].batches) == 2
    spoiled.weight = next(bad[0].module.parameters())
    error, outcome = together(bad, good)
    assert isinstance(error, NonFiniteError)
    assert outcome == "complete"
    assert_same(good[0], alone(1, from_step=0))


def test_a_fit_that_ended_keeps_no_memory_of_the_others() -> None:
    short, *_ = made = [recipe(0, epochs=1), recipe(1, epochs=2), recipe(2, epochs=2)]
    together(*made)
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in short[0].module.parameters())


def test_a_stopped_fit_resumes_alone_as_it_would_go_on() -> None:
    """Its checkpoint holds its own tensors, and not those of its neighbors."""
    saved: list[FitState] = []

    def save(fit: Fit) -> None:
        state = fit.snapshot()
        assert state.module is not None
        assert all(t.untyped_storage().nbytes() == t.nbytes for t in state.module.values())
        saved.append(state)

    stopped = recipe(1, callbacks=[StopAfter(3)])
    assert together(recipe(0), stopped, save=save) == ["SIGINT", "SIGINT"]
    again, _ = recipe(1, state=saved[-1])
    assert again.run() == "complete"
    assert_same(again, alone(1))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dropout": 0.3}, "differ in"),
        ({"minutes": 1.0}, "minutes"),
        ({"labelled": 2}, "batches of different sizes"),
        ({"from_step": 6}, "pseudo-labels from different steps"),
    ],
)
def test_fits_of_other_programs_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        together(recipe(0), recipe(1, **keys))


class Draws(nn.Module):
    """A program that draws in one way."""

    def __init__(self, draw: Callable[[Tensor], Tensor], size: int = 3) -> None:
        super().__init__()
        self.weight, self.draw = nn.Parameter(torch.ones(size)), draw

    def forward(self, x: Tensor, y: Tensor) -> Any:
        from pyro_gmmvae.training.capture import StepTerms

        loss = (self.draw(x * self.weight) * self.weight).sum() + y.sum()
        return StepTerms(loss, {"loss": loss})


def stepped(*programs: Draws) -> list[Any]:
    step = BatchedStep(programs, lambda number: fork_rng() if number is None else nullcontext())
    x = torch.rand(8, 3).expand(len(programs), 8, 3)  # the same rows
    return step(x, torch.zeros(len(programs), 8))


def test_draws_that_depend_on_values_are_refused() -> None:
    with pytest.raises(CaptureError, match=r"bernoulli.* depend on values"):
        stepped(*(Draws(lambda x: torch.bernoulli(x.detach().clamp(0, 1))) for _ in range(2)))


def test_tensors_of_other_shapes_are_refused() -> None:
    with pytest.raises(CaptureError, match="weight"):
        stepped(Draws(torch.rand_like), Draws(torch.rand_like, size=1))


class Shifted(Draws):
    """A program that adds a constant of its own."""

    def __init__(self, shift: float) -> None:
        super().__init__(lambda x: x + torch.tensor([shift] * 3))


def test_fits_with_other_constants_are_refused() -> None:
    with pytest.raises(CaptureError, match="differ in constants"):
        stepped(Shifted(0.0), Shifted(1.0))


def test_a_program_that_is_not_that_of_all_fits_is_found() -> None:
    """Where programs are taken as equal, the check finds one that is not."""
    streams: Any = lambda number: fork_rng() if number is None else nullcontext()  # noqa: E731
    step = BatchedStep([Shifted(0.0), Shifted(1.0)], streams, one_program=True)
    with pytest.raises(CaptureError, match="the batched step computes something else"):
        step(torch.rand(2, 4, 3), torch.zeros(2, 4))


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: torch.empty_like(x).uniform_().mul_(2),
        lambda x: x[torch.randperm(len(x))] * torch.arange(8.0).unsqueeze(-1),
        lambda x: torch.native_dropout(x, 0.5, True)[0],  # as on CUDA
    ],
)
def test_each_fit_has_draws_of_its_own(draw: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    one, other = stepped(Draws(draw), Draws(draw))
    assert one.loss.isfinite()
    assert one.loss != other.loss
