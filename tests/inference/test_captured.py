"""The captured step and the choice of an engine, with objectives of a few lines."""

import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.inference import engines
from pyro_gmmvae.inference.captured import CapturedStep, CaptureError, CompileError
from pyro_gmmvae.inference.engines import STEPS_TO_CAPTURE, STEPS_TO_COMPILE, choose
from tests.inference.test_svi import SETTINGS, Regression, StopAfter, Terms, build, history


class ReadsValues(Regression):
    """Control flow that depends on the data."""

    def forward(self, x: Tensor, y: Tensor) -> Terms:
        return super().forward(x if x.sum() > 0 else -x, y)


class BakesIn(Regression):
    """A number that changes from call to call and is no tensor."""

    calls = 0

    def forward(self, x: Tensor, y: Tensor) -> Terms:
        self.calls += 1
        return super().forward(x * self.calls, y)


def fit(module: Any, engine: str, **settings: Any) -> Any:
    fitted = build(replace(SETTINGS, engine=engine, **settings))
    fitted.objective = fitted.module = module
    fitted.parameters = list(module.parameters())
    fitted.optimizer = torch.optim.Adam(fitted.parameters, lr=0.05)
    return fitted


def run(engine: str) -> Any:
    fitted = build(replace(SETTINGS, engine=engine))
    fitted.run()
    return fitted


class Listener(StopAfter):
    def __init__(self) -> None:
        super().__init__(-1)
        self.about: list[str] = []

    def on_start(self, about: str) -> None:
        self.about.append(about)


def test_a_fit_is_the_same_by_every_engine() -> None:
    """An odd last batch included (50 rows by 16)."""
    svi, captured = run("svi"), run("captured")
    for a, b in zip(history(svi), history(captured), strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    torch.testing.assert_close(svi.module.linear.weight, captured.module.linear.weight)


def test_a_captured_fit_resumes_bit_for_bit() -> None:
    settings = replace(SETTINGS, engine="captured")
    whole = build(settings)
    whole.run()
    saved: list[dict[str, Any]] = []
    first = build(settings, callbacks=[StopAfter(7)], save=lambda f: saved.append(f.state_dict()))
    first.run()
    second = build(settings)
    second.load_state_dict(saved[-1])
    second.run()
    assert history(second) == history(whole)


def test_preparing_leaves_no_trace() -> None:
    module = Regression()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    step = CapturedStep(module, module)
    step.prepare(torch.randn(4, 2, generator=torch.Generator()), torch.full((4,), -1))
    assert torch.equal(before, torch.get_rng_state())
    assert module.linear.weight.grad is None


@pytest.mark.parametrize("engine", ["captured", "compiled"])
def test_what_depends_on_data_is_refused_or_fitted_by_svi(engine: str) -> None:
    with pytest.raises(CaptureError, match="can't be captured"):
        fit(ReadsValues(), engine).run()
    listener = Listener()
    automatic = fit(ReadsValues(), "auto", epochs=STEPS_TO_CAPTURE)
    automatic.callbacks = [listener]
    automatic.settings = replace(automatic.settings, patience=1)
    automatic.run()
    assert automatic.engine_name == "svi"
    assert len(listener.about) == 1
    assert "engine: svi (the step can't be captured: " in listener.about[0]
    assert "\n" not in listener.about[0]


def test_verification_finds_what_was_baked_in() -> None:
    with pytest.raises(CaptureError, match=r"the loss differs by .* fit with --engine svi"):
        fit(BakesIn(), "captured").run()
    assert fit(BakesIn(), "captured", verify=False).run() == "complete"


def test_a_budget_decides() -> None:
    assert choose(STEPS_TO_CAPTURE - 1, None)[0] == "svi"
    assert choose(STEPS_TO_CAPTURE, None)[0] == "captured"
    assert choose(STEPS_TO_COMPILE, None)[0] == "compiled"
    assert choose(None, 1.0)[0] == "captured"
    assert choose(None, 10.0)[0] == "compiled"
    assert choose(STEPS_TO_CAPTURE - 1, 10.0)[0] == "svi"
    assert choose(STEPS_TO_COMPILE, 1.0)[0] == "captured"


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(GMMVAEError, match=r"unknown engine 'compild'.*compiled"):
        fit(Regression(), "compild").run()


def test_without_a_compiler_auto_goes_on_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setattr(engines, "STEPS_TO_COMPILE", 0)
    with pytest.raises(CompileError, match=r"can't be compiled on this machine: .*captured"):
        fit(Regression(), "compiled").run()
    automatic = fit(Regression(), "auto", epochs=STEPS_TO_CAPTURE, patience=1)
    automatic.run()
    assert automatic.engine_name == "captured"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler on this machine")
def test_a_compiled_fit_is_that_of_svi() -> None:
    svi, native = run("svi"), run("compiled")
    for a, b in zip(history(svi), history(native), strict=True):
        assert a == pytest.approx(b, rel=1e-4)
