"""A device without memory: one line, before the fit or with the batch size that fits."""

import gc
import math
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyro_gmmvae import train
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import assembly, default_config
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.training import Batches, Fit, out_of_memory
from pyro_gmmvae.training.out_of_memory import (
    OutOfMemoryError,
    counted_activations,
    out_of_memory_advice,
)
from tests.training.test_loop import SETTINGS, Regression, StopAfter, Terms


class Heavy(Regression):
    """Runs out of memory above a number of rows, with torch's error."""

    def __init__(self, rows: int, error: type[RuntimeError], message: str) -> None:
        super().__init__()
        self.rows, self.error, self.message = rows, error, message

    def forward(self, x: Tensor, y: Tensor) -> Terms:
        if len(x) > self.rows:
            raise self.error(self.message)
        return super().forward(x, y)


CUDA = (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
CPU = (RuntimeError, "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to")


def heavy(rows: int, error: Any, **settings: Any) -> Fit:
    module = Heavy(rows, *error)
    batches = Batches(torch.randn(64, 2), torch.full((64,), -1), 64, 0, 0)
    return Fit(module, module, batches, replace(SETTINGS, **settings))


@pytest.mark.parametrize("error", [CUDA, CPU])
@pytest.mark.parametrize(("room", "fits"), [(20, 16), (2, 2), (63, 32)])
def test_the_error_has_the_batch_size_that_fits(error: Any, room: int, fits: int) -> None:
    line = f"^out of memory on cpu: a batch of 64 rows does not fit, one of {fits} does"
    with pytest.raises(OutOfMemoryError, match=line):
        heavy(room, error).run()


def test_the_error_says_that_no_batch_size_fits() -> None:
    with pytest.raises(OutOfMemoryError, match="the model does not fit with any batch size"):
        heavy(1, CUDA).run()


def test_the_error_says_that_the_step_fits() -> None:
    fit = heavy(64, CUDA)

    def validate() -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    fit.validate = validate
    with pytest.raises(
        OutOfMemoryError, match="a step on 64 rows fits, but validation or another part"
    ):
        fit.run()


def test_the_last_checkpoint_is_kept() -> None:
    """Another program takes the memory in the middle of a fit."""
    saved: list[int] = []

    class Fills(StopAfter):
        def on_epoch(self, record: dict[str, float]) -> None:
            if record["epoch"] == 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    fit = heavy(64, CUDA, checkpoint_seconds=0.0)
    fit.callbacks = [Fills(0)]
    with pytest.raises(OutOfMemoryError) as error:
        fit.run(lambda one: saved.append(one.state.epoch))
    assert saved == [1, 2]
    assert str(error.value).endswith("(batch_size)")
    assert "\n" not in str(error.value)


def test_running_out_of_memory_is_not_a_compile_error() -> None:
    """The comparison with eager evaluation is the first to need memory."""
    from pyro_gmmvae.training import capture

    module, shape = Regression(), torch.Size([4, 2])
    step = capture.CapturedStep(module, module, compiled_shape=shape)

    def no_memory(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture, "capture", lambda *_: None)
        patch.setattr(capture, "compile_graph", lambda *_: None)
        patch.setattr(step, "_verify", no_memory)
        with pytest.raises(torch.OutOfMemoryError):
            step.prepare(torch.zeros(4, 2), torch.zeros(4))


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(RuntimeError, match="a shape"):
        heavy(3, (RuntimeError, "a shape is wrong")).run()


def test_advice_is_computed_after_the_tensors_are_freed() -> None:
    import weakref

    seen: list[Any] = []

    def full() -> None:
        large = torch.zeros(10)
        seen.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory")

    def advice() -> str:
        seen.append(seen[0]())
        return "less"

    with (
        pytest.raises(OutOfMemoryError, match=r"^out of memory on cpu: less$"),
        out_of_memory_advice(torch.device("cpu"), advice),
    ):
        full()
    assert seen[1] is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_full_gpu() -> None:
    device = torch.device("cuda")
    total = torch.cuda.mem_get_info()[1]
    with (
        pytest.raises(OutOfMemoryError, match="out of memory on cuda"),
        out_of_memory_advice(device),
    ):
        torch.empty(2 * total, dtype=torch.uint8, device=device)


def test_activations_are_counted_once_and_without_weights() -> None:
    network = nn.Sequential(nn.Linear(3, 50), nn.Tanh(), nn.Linear(50, 1))
    x = torch.randn(20, 3)
    with counted_activations(network) as found:
        network(x).square().sum()
    # the input, the output of tanh, which two operations need, and that of the network
    assert sum(found.values()) == 4 * 20 * (3 + 50 + 1)


def test_counted_activations_are_freed() -> None:
    """An operation whose result is packed as it is holds itself, which no collector sees."""
    with counted_activations(nn.Linear(1, 1)) as found:
        result = torch.zeros(3, requires_grad=True).tanh()
    reference = weakref.ref(result)
    del result
    gc.collect()
    assert reference() is None, "the result of tanh was not freed"
    assert sum(found.values()) == 12


def test_a_fit_beyond_the_memory_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = default_config("digits", {"hidden": "64", "steps": 1, "particles": 20})
    monkeypatch.setattr(assembly, "SMALL_MEMORY", 0)
    monkeypatch.setattr(out_of_memory, "_size", lambda device: 10 * 2**20)  # noqa: ARG005
    with pytest.raises(GMMVAEError, match=r"rows need 0.0\d+ GiB.* has 0.00977 GiB.*particles"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(config.replace(particles=1), tmp_path / "run")


@pytest.mark.parametrize("validation", [1, 100])
@pytest.mark.parametrize("changes", [{}, {"particles": 30}, {"guide": "enumerated"}])
def test_the_estimate_is_that_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, validation: int, changes: dict[str, object]
) -> None:
    needed: list[float] = []
    monkeypatch.setattr(assembly, "SMALL_MEMORY", 0)
    monkeypatch.setattr(assembly, "check_memory", lambda *given: needed.append(given[0]))
    keys = {"hidden": "64", "validation": validation, "augment": None, **changes}
    config = resolve(default_config("digits", keys))
    data = TrainingData.from_config(config)
    parts = assembly.build(config, data, torch.device("cpu"))
    for processes in (1, 2):
        parts.dry_run(processes)
        x = data.tensors(data.training_rows[: config.batch_size // processes])[0]
        with counted_activations(parts.model) as found:
            parts.objective(x, torch.full((len(x),), -1)).loss.item()
        weights = 16 * sum(p.numel() for p in parts.model.parameters())
        assert needed[-1] - weights == pytest.approx(sum(found.values()), rel=0.1)


def test_a_fit_on_another_device_is_not_held_to_this_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assembly, "SMALL_MEMORY", 0)
    monkeypatch.setattr(out_of_memory, "_size", lambda device: 2**17)  # noqa: ARG005
    config = resolve(default_config("digits", {"hidden": "8"}))
    parts = assembly.build(config, TrainingData.from_config(config), torch.device("cpu"))
    with pytest.raises(GMMVAEError, match="not enough memory"):
        parts.dry_run()
    replace(parts, config=config.replace(device="cuda:0")).dry_run()


def test_the_memory_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(out_of_memory, "CONTAINER", limit)
    cpu = torch.device("cpu")
    machine = out_of_memory._size(cpu)
    limit.write_text("max\n")
    assert out_of_memory._size(cpu) == machine
    limit.write_text("1048576\n")
    assert out_of_memory._size(cpu) == 2**20
    assert out_of_memory._size(torch.device("mps")) == math.inf
