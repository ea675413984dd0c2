"""Recorded and replayed steps: by CUDA with --device cuda, else by a replacement for recording."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_gmmvae.data.augment import affine
from pyro_gmmvae.models import GMMVAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES
from pyro_gmmvae.training import Batches, Callback, Fit, FitSettings, Preprocessing, PseudoLabeler
from pyro_gmmvae.training.cuda_graphs import WARM_UP, CUDAGraphRecorder, CUDAGraphStep, Launch
from pyro_gmmvae.training.optimizer import Optimizer
from tests.training.test_loop import StopAfter

EPOCHS, ROWS, BATCH = 8, 50, 16  # a last batch of two rows


def recipe(device: torch.device, **settings: Any) -> Fit:
    """A fit with augmentation, pseudo-labels, balanced rows and batch norm."""
    torch.manual_seed(0)
    options = NetworkOptions(hidden=(12,), batch_norm=True, dropout=0.2)
    model = GMMVAE((1, 6, 6), 3, 2, temperature=0.5, options=options).to(device)
    objective = OBJECTIVES["trace"](
        model.model, model.guide, latents=model.latents, label_sites=("s",)
    )
    x = torch.rand(ROWS, 1, 6, 6).round()
    y = torch.where(torch.arange(ROWS) % 5 == 0, torch.arange(ROWS) % 3, -1)
    batches = Batches(x.to(device), y.to(device), BATCH, 4, 0)
    given = {"epochs": EPOCHS, "engine": "captured", "clip_norm": 5.0} | settings
    return Fit(
        objective.to(device),
        model,
        batches,
        FitSettings(**given),
        pseudo_labeler=PseudoLabeler(model, 0.4, 25, balanced_over=3).to(device),
        preprocessing=Preprocessing(affine),
    )


Recorder = Callable[[], Callable[[Launch], Launch]]


def record_for(device: torch.device) -> Callable[[Launch], Launch]:
    """Without CUDA a recording only repeats the step."""
    return CUDAGraphRecorder() if device.type == "cuda" else lambda step: step


def replayed(fit: Fit, recorder: Recorder, verify: bool = True) -> list[str]:
    """Run a fit whose steps are replayed; returns the lines that it logged."""
    lines: list[str] = []
    prepare = fit.prepare

    def prepared() -> str:
        line = prepare()
        fit.cuda_graph_step = CUDAGraphStep(
            fit._update, fit.changed_tensors, lines.append, recorder, verify=verify
        )
        return line

    fit.prepare = prepared  # type: ignore[method-assign]
    torch.manual_seed(1)
    fit.run()
    return lines


def unreplayed(fit: Fit) -> Fit:
    prepare = fit.prepare

    def prepared() -> str:
        line = prepare()
        fit.cuda_graph_step = None
        return line

    fit.prepare = prepared  # type: ignore[method-assign]
    torch.manual_seed(1)
    fit.run()
    return fit


def assert_same(a: Fit, b: Fit) -> None:
    exact = a.device.type == "cpu"
    tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-3, "atol": 1e-3}
    for mine, theirs in zip(a.module.parameters(), b.module.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance)
    for one, two in zip(a.state.history, b.state.history, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=tolerance["rtol"])
    for mine, theirs in zip(a.pseudo_labeler.buffers(), b.pseudo_labeler.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance)


@pytest.mark.parametrize("verify", [True, False])
def test_replayed_steps_equal_direct_steps(device: torch.device, verify: bool) -> None:
    one, other = recipe(device), unreplayed(recipe(device))
    assert replayed(one, lambda: record_for(device), verify) == []
    assert_same(one, other)
    # with and without pseudo-labels, and a last batch that is met too seldom to be recorded twice
    assert len(one.cuda_graph_step._launches) >= 2


def test_each_kind_of_step_is_recorded_once(device: torch.device) -> None:
    recorded: list[Launch] = []
    inner = record_for(device)

    def record(step: Launch) -> Launch:
        recorded.append(step)
        return inner(step)

    fit = recipe(device, epochs=20)
    assert replayed(fit, lambda: record) == []
    assert len(recorded) == 4  # two shapes, with and without pseudo-labels
    assert fit.state.step > 4 * (WARM_UP + 2)


def test_a_step_that_cannot_be_recorded_is_taken_directly(device: torch.device) -> None:
    def record(step: Launch) -> Launch:  # noqa: ARG001
        raise RuntimeError("operation not permitted when stream is capturing.\nmore")

    one, other = recipe(device), unreplayed(recipe(device))
    lines = replayed(one, lambda: record)
    (line,) = lines
    why = "operation not permitted when stream is capturing, at training/test_cuda_graphs.py:"
    assert line.startswith(f"steps are not replayed as a CUDA graph: {why}")
    assert 'raise RuntimeError("operation not permitted' in line
    assert_same(one, other)


def nothing(step: Launch) -> Launch:  # noqa: ARG001
    return lambda: None


def twice(step: Launch) -> Launch:
    def launch() -> None:
        step()
        step()

    return launch


def all_but_one(step: Launch) -> Launch:
    """A bias does not change."""

    def launch() -> None:
        before = BIAS[0].detach().clone()
        step()
        with torch.no_grad():
            BIAS[0].copy_(before)

    return launch


BIAS: list[torch.nn.Parameter] = []


def and_a_draw(step: Launch) -> Launch:
    def launch() -> None:
        step()
        torch.rand(1)

    return launch


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (nothing, "elsewhere"),
        (twice, "elsewhere"),
        (all_but_one, "parameters elsewhere"),
        (and_a_draw, "other random numbers"),
    ],
)
def test_a_replay_with_other_results_is_not_used(record: Any, why: str) -> None:
    cpu = torch.device("cpu")
    one, other = recipe(cpu), unreplayed(recipe(cpu))
    BIAS[:] = [p for n, p in one.module.named_parameters() if n.endswith("bias")][-1:]
    (line,) = replayed(one, lambda: record)
    assert why in line
    assert_same(one, other)


def test_replacing_a_tensor_records_again(device: torch.device) -> None:
    class Replaces(StopAfter):
        """As a validation that replaces a buffer."""

        def on_epoch(self, record: dict[str, float]) -> None:
            if record["epoch"] == EPOCHS // 2:
                fit.pseudo_labeler.shares = fit.pseudo_labeler.shares.clone()

    recorded: list[int] = []

    def recorder() -> Callable[[Launch], Launch]:
        recorded.append(0)
        inner = record_for(device)

        def record(step: Launch) -> Launch:
            recorded[-1] += 1
            return inner(step)

        return record

    fit, other = recipe(device), unreplayed(recipe(device))
    fit.callbacks = [Replaces(10**6)]
    assert replayed(fit, recorder) == []
    assert len(recorded) == 2  # one for what was replaced, with memory of its own
    assert min(recorded) >= 1
    assert_same(fit, other)


class RefusesReads(TorchDispatchMode):
    """Refuses operations that wait for a device, or that make a tensor of a number of the host."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Tensor:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh"):
            raise AssertionError(f"{name} in a step that is to be recorded")
        return func(*args, **(kwargs or {}))


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    if device.type == "cuda":
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
    try:
        with RefusesReads():
            yield
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode(before)


def test_a_step_reads_no_value(device: torch.device) -> None:
    fit = recipe(device)
    # as on CUDA
    fit.optimizer = Optimizer(fit.module, 0.01, 5.0, fit._step_name, deferred=True)
    with fit.switches():
        fit.prepare()
        for labeling in (False, True):
            for x, y in list(fit.batches.epoch()):
                fit.pseudo_labeler.begin(100 if labeling else 0)
                fit._update(x, y)  # whatever is made once
                with no_waiting(device):
                    fit._update(x, y)


def test_reading_a_value_is_refused() -> None:
    with RefusesReads(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        bool(torch.ones(1) > 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_failed_recording_leaves_direct_steps() -> None:
    """A step that reads a value while CUDA records it."""
    device = torch.device("cuda")
    one, other = recipe(device), unreplayed(recipe(device))
    update = one._update

    def looks(x: Tensor, y: Tensor) -> None:
        update(x, y)
        one.means.sums.sum().item()

    one._update = looks  # type: ignore[method-assign]
    stream = torch.cuda.current_stream()
    (line,) = replayed(one, CUDAGraphRecorder)
    assert "stream is capturing" in line
    assert "at training/test_cuda_graphs.py:" in line
    assert line.endswith("(one.means.sums.sum().item())")
    assert torch.cuda.current_stream() == stream
    assert_same(one, other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_line_of_the_objective_that_can_not_be_recorded_is_named() -> None:
    """A captured step has no lines of its own: it is evaluated once more without a graph."""
    fit, lines = recipe(torch.device("cuda")), []
    fit.callbacks = [Lines(lines)]
    objective = fit.objective

    class Copies(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = objective

        def forward(self, x: Tensor, y: Tensor) -> Any:
            return self.inner(x + torch.zeros(1, device="cpu").to(x.device), y)

    fit.objective = Copies()
    fit.run()
    (line,) = (line for line in lines if "CUDA graph" in line)
    assert ", in torch.ops.aten._to_copy.default, at training/test_cuda_graphs.py:" in line
    assert 'torch.zeros(1, device="cpu").to(x.device)' in line


class Lines(Callback):
    """Keeps the lines that a fit logs."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def on_start(self, about: str) -> None:
        self.lines.append(about)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_other_threads_may_use_the_device_while_a_step_is_recorded() -> None:
    """As a logger's, or the one that pins memory."""
    fit = recipe(torch.device("cuda"))
    update, other = fit._update, torch.ones(3, device="cuda")

    def meanwhile(x: Tensor, y: Tensor) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(other.clone).result()
        update(x, y)

    fit._update = meanwhile  # type: ignore[method-assign]
    assert replayed(fit, CUDAGraphRecorder) == []
    assert fit.cuda_graph_step._launches
