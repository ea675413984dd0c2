"""The captured step and the choice of an engine, with objectives of a few lines."""

import contextlib
import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config as inductor_config
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training import capture, engines
from pyro_gmmvae.training.capture import (
    CapturedStep,
    CaptureError,
    CompileError,
    StepGraph,
)
from pyro_gmmvae.training.engines import (
    STEPS_TO_CAPTURE,
    STEPS_TO_COMPILE,
    choose,
    shared_graphs,
)
from pyro_gmmvae.training.optimizer import Optimizer
from pyro_gmmvae.training.precision import inductor_probe_in_process
from tests.training.test_loop import SETTINGS, Regression, StopAfter, Terms, build, history


class ReadsValues(Regression):
    """Control flow that depends on the data."""

    def forward(self, x: Tensor, y: Tensor) -> Terms:
        return super().forward(x if x.sum() > 0 else -x, y)


class CountsCalls(Regression):
    """A number that changes from call to call and is not a tensor."""

    calls = 0

    def forward(self, x: Tensor, y: Tensor) -> Terms:
        self.calls += 1
        return super().forward(x * self.calls, y)


def fit(module: Any, engine: str, **settings: Any) -> Any:
    fitted = build(replace(SETTINGS, engine=engine, **settings))
    fitted.objective = fitted.module = module
    fitted.parameters = list(module.parameters())
    fitted.optimizer = Optimizer(module, 0.05, 0, fitted._step_name)
    return fitted


def run(engine: str) -> Any:
    fitted = build(replace(SETTINGS, engine=engine))
    fitted.run()
    return fitted


class Awkward(Regression):
    """Gradients that are transposed, shared by two parameters, or expanded; one does not exist."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_oi = nn.Parameter(torch.randn(3, 2))
        self.a, self.b = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))
        self.c, self.unused = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(2))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.tied = self.linear

    def forward(self, x: Tensor, y: Tensor) -> Terms:
        outer = torch.einsum("bi,oi->bo", x, self.weight_oi) * self.frozen + (self.a + self.b)
        terms = super().forward(x, y)
        extra = outer.square().mean() + self.c.sum() + self.tied(x).mean()
        return Terms(terms.loss + extra, terms.parts)


class Replaces(Regression):
    """A running mean that is another tensor in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor, y: Tensor) -> Terms:
        self.mean = 0.9 * self.mean + 0.1 * x.mean().detach()
        terms = super().forward(x, y)
        return Terms(terms.loss * (1 + self.mean), terms.parts)


class Normalizes(Regression):
    """A running mean that is changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: Tensor, y: Tensor) -> Terms:
        return super().forward(self.norm(x), y)


class Listener(StopAfter):
    def __init__(self) -> None:
        super().__init__(-1)
        self.about: list[str] = []

    def on_start(self, about: str) -> None:
        self.about.append(about)


def test_engines_give_the_same_fit() -> None:
    """With a smaller last batch (50 rows in batches of 16)."""
    svi, replayed = run("svi"), run("captured")
    for a, b in zip(history(svi), history(replayed), strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    torch.testing.assert_close(svi.module.linear.weight, replayed.module.linear.weight)


def test_a_captured_fit_resumes_bit_for_bit() -> None:
    settings = replace(SETTINGS, engine="captured")
    whole = build(settings)
    whole.run()
    first = build(settings, callbacks=[StopAfter(7)])
    first.run()
    second = build(settings, state=first.snapshot())
    second.run()
    assert history(second) == history(whole)


class NormalizesAndReads(Normalizes, ReadsValues):
    """It can't be captured, and has states to restore."""


@pytest.mark.parametrize("kind", [Normalizes, NormalizesAndReads])
def test_preparing_restores_every_state(kind: type[Regression]) -> None:
    module = kind()
    x = torch.randn(4, 2)
    state, before = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    with contextlib.suppress(CaptureError):
        CapturedStep(module, module).prepare(x, torch.full((4,), -1))
    assert torch.equal(before, torch.get_rng_state())
    assert module.linear.weight.grad is None
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_gradients_have_the_layout_and_memory_of_backward() -> None:
    """The parameter's layout, and memory of their own: they are clipped in place."""
    fits = []
    for engine in ("svi", "captured"):
        torch.manual_seed(0)
        module = Awkward()
        one = fit(module, engine, clip_norm=0.01)
        torch.manual_seed(1)
        one.run()
        fits.append(one)
        assert module.unused.grad is None
    svi, replayed = (one.module for one in fits)
    for (name, a), b in zip(svi.named_parameters(), replayed.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda m, n=name: f"{n}: {m}")
        if b.grad is not None:
            assert b.grad.stride() == b.stride()


def test_a_buffer_that_is_replaced_is_refused() -> None:
    with pytest.raises(CaptureError, match="mean is replaced in each step"):
        fit(Replaces(), "captured").run()


def test_freezing_a_layer_captures_again() -> None:
    module = Awkward()
    step = CapturedStep(module, module)
    x, y = torch.randn(4, 2), torch.full((4,), -1)
    step(x, y)
    module.a.requires_grad_(False)
    step.refresh()
    step(x, y)
    assert module.a.grad is None
    assert module.b.grad is not None


@pytest.mark.parametrize("engine", ["svi", "captured"])
def test_a_parameter_frozen_between_epochs_does_not_change(engine: str) -> None:
    values = []

    class Freezes(StopAfter):
        def on_epoch(self, record: dict[str, float]) -> None:  # noqa: ARG002
            fitted.module.linear.bias.requires_grad_(False)
            values.append(fitted.module.linear.bias.item())

    fitted = build(replace(SETTINGS, engine=engine), callbacks=[Freezes(10**6)])
    start = fitted.module.linear.bias.item()
    fitted.run()
    assert values[0] != start
    assert set(values) == {values[0]}
    assert fitted.module.linear.bias.item() == values[0]


def test_reported_terms_are_verified() -> None:
    class Counts(Regression):
        calls = 0

        def forward(self, x: Tensor, y: Tensor) -> Terms:
            self.calls += 1
            terms = super().forward(x, y)
            return Terms(terms.loss, terms.parts | {"kl_z": terms.loss.detach() * self.calls})

    with pytest.raises(CaptureError, match="kl_z differs"):
        fit(Counts(), "captured").run()


@pytest.mark.parametrize("engine", ["captured", "compiled"])
def test_control_flow_on_data_is_refused_or_fitted_by_svi(engine: str) -> None:
    with pytest.raises(CaptureError, match="can't be captured"):
        fit(ReadsValues(), engine).run()
    listener = Listener()
    automatic = fit(ReadsValues(), "auto", epochs=STEPS_TO_CAPTURE)
    automatic.callbacks = [listener]
    automatic.settings = replace(automatic.settings, patience=1)
    automatic.run()
    assert automatic.state.engine == "svi"
    assert len(listener.about) == 1
    assert listener.about[0].startswith("engine: svi (the step can't be captured: ")
    assert "\n" not in listener.about[0]


def test_verification_finds_a_number_that_became_a_constant() -> None:
    with pytest.raises(CaptureError, match=r"the loss differs by .* fit with --engine svi"):
        fit(CountsCalls(), "captured").run()
    assert fit(CountsCalls(), "captured", verify=False).run() == "complete"


def test_the_budget_chooses_the_engine() -> None:
    assert choose(STEPS_TO_CAPTURE - 1, None)[0] == "svi"
    assert choose(STEPS_TO_CAPTURE, None)[0] == "captured"
    assert choose(STEPS_TO_COMPILE, None)[0] == "compiled"
    assert choose(None, 1.0)[0] == "captured"
    assert choose(None, 10.0)[0] == "compiled"
    assert choose(STEPS_TO_CAPTURE - 1, 10.0)[0] == "svi"
    assert choose(STEPS_TO_COMPILE, 1.0)[0] == "captured"


def test_fits_that_share_graphs_capture_once_and_stay_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    captured, same = [], Regression().state_dict()
    original = capture.capture

    def counting(*arguments: Any) -> StepGraph:
        captured.append(1)
        return original(*arguments)

    monkeypatch.setattr(capture, "capture", counting)

    def regression() -> Regression:
        module = Regression()
        module.load_state_dict(same)
        return module

    alone = fit(regression(), "captured", epochs=2)
    alone.run()
    shapes = len(captured)
    captured.clear()
    with shared_graphs(2):
        first, second = (fit(regression(), "auto", epochs=STEPS_TO_CAPTURE // 8) for _ in range(2))
        first.run()
        assert first.state.engine == "captured"  # for the steps of both
        second.run()
        again = fit(regression(), "captured", epochs=2)
        again.run()
    assert len(captured) == shapes
    fit(regression(), "captured", epochs=2).run()
    assert len(captured) == 2 * shapes  # after the block it is as before
    torch.testing.assert_close(again.module.linear.weight, alone.module.linear.weight)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(GMMVAEError, match=r"unknown engine 'compild'.*compiled"):
        fit(Regression(), "compild").run()


def test_without_a_compiler_auto_uses_captured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(engines, "STEPS_TO_COMPILE", 0)
    absent = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    with inductor_config.patch(absent):
        with pytest.raises(CompileError, match=r"can't be compiled on this machine: .*captured"):
            fit(Regression(), "compiled").run()
        automatic = fit(Regression(), "auto", epochs=STEPS_TO_CAPTURE, patience=1)
        automatic.run()
    assert automatic.state.engine == "captured"


def test_compiled_code_with_other_results_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(graph: StepGraph, inputs: list[Tensor]) -> StepGraph:  # noqa: ARG001
        return replace(graph, run=lambda *t: [v * 1.01 for v in graph.run(*t)])

    def broken(graph: StepGraph, inputs: list[Tensor]) -> StepGraph:  # noqa: ARG001
        return replace(graph, run=lambda *t: t[1 // 0])

    for compiler, words in ((wrong, "the loss differs by"), (broken, "by zero")):
        monkeypatch.setattr(capture, "compile_graph", compiler)
        with pytest.raises(CompileError, match=f"the compiled step fails: .*{words}"):
            fit(Regression(), "compiled").run()
        monkeypatch.setattr(engines, "STEPS_TO_COMPILE", 0)
        automatic = fit(Regression(), "auto", epochs=STEPS_TO_CAPTURE, patience=1)
        automatic.run()
        assert automatic.state.engine == "captured"


def test_a_resumed_fit_keeps_its_engine() -> None:
    first = build(replace(SETTINGS, engine="captured"), callbacks=[StopAfter(3)])
    first.run()
    second = build(replace(SETTINGS, engine="auto"), state=first.snapshot())
    second.run()
    assert second.state.engine == "captured"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler on this machine")
def test_a_compiled_fit_equals_that_of_svi() -> None:
    svi, native = run("svi"), run("compiled")
    for a, b in zip(history(svi), history(native), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_the_probe_of_instruction_sets_is_patched_within_the_block(tmp_path: Path) -> None:
    from torch._inductor.cpu_vec_isa import VecISA

    if not hasattr(VecISA, "_probe_load"):
        pytest.skip("this torch probes in another way")
    before = VecISA._probe_load
    (tmp_path / "broken.so").write_text("no library")
    with contextlib.suppress(ZeroDivisionError), inductor_probe_in_process():
        assert not VecISA()._probe_load(str(tmp_path / "broken.so"))
        assert VecISA()._probe_load(torch._C.__file__)
        raise ZeroDivisionError
    assert VecISA._probe_load is before
