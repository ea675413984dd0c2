"""Precision of a fit: rounding, unsupported devices, and switches that are restored."""

import os
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training import Batches, Fit, check_precision, precision
from pyro_gmmvae.training.precision import (
    WORKSPACE,
    flush_subnormals,
    set_cublas_workspace,
    tf32_products,
    why_not_deterministic,
)
from tests.training.test_loop import SETTINGS, StopAfter, Terms, build

HAS_BF16 = precision._cpu_has_bf16()
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bfloat16 products")


class Product(nn.Module):
    """Large enough that bf16 rounds its matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(256, 64)

    def forward(self, x: Tensor, y: Tensor) -> Terms:  # noqa: ARG002
        error = self.linear(x).square().mean()
        return Terms(error, {"log_px": -error.detach()})


def first_loss(name: str, engine: str) -> float:
    torch.manual_seed(0)
    module = Product()
    batches = Batches(torch.randn(64, 256), torch.full((64,), -1), 64, 0, 0)
    fit = Fit(module, module, batches, replace(SETTINGS, epochs=1, engine=engine, precision=name))
    fit.run()
    return fit.state.history[0]["loss"]


@needs_bf16
@pytest.mark.parametrize("engine", ["svi", "captured"])
def test_bf16_rounds_matrix_products_during_the_fit_only(engine: str) -> None:
    a, b = torch.randn(64, 256), torch.randn(256, 64)
    before = a @ b
    full, rounded = first_loss("f32", engine), first_loss("bf16", engine)
    assert full != rounded
    assert rounded == pytest.approx(full, rel=0.02)
    assert torch.equal(a @ b, before)


@needs_bf16
def test_switches_are_restored_after_an_error() -> None:
    mkldnn: Any = torch.backends.mkldnn
    before = mkldnn.matmul.fp32_precision, mkldnn.conv.fp32_precision

    class Breaks(StopAfter):
        def on_step(self, progress: float) -> None:  # noqa: ARG002
            raise ZeroDivisionError

    fit = build(replace(SETTINGS, precision="bf16"), callbacks=[Breaks(1)])
    with pytest.raises(ZeroDivisionError):
        fit.run()
    assert (mkldnn.matmul.fp32_precision, mkldnn.conv.fp32_precision) == before


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_tf32_is_one_switch_that_is_restored(allowed: bool, before: str) -> None:
    products: Any = (torch.backends.cuda.matmul, torch.backends.cudnn)
    default = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    try:
        found = [kind.allow_tf32 for kind in products]
        with tf32_products(allowed):
            assert [kind.allow_tf32 for kind in products] == [allowed] * 2
        assert [kind.allow_tf32 for kind in products] == found
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(default)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("tf32", "deterministic"), [(True, False), (True, True), (False, False)])
def test_a_fit_sets_tf32(tf32: bool, deterministic: bool) -> None:
    seen = []

    class Look(StopAfter):
        def on_step(self, progress: float) -> None:  # noqa: ARG002
            seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))

    settings = replace(SETTINGS, tf32=tf32, deterministic=deterministic)
    module = Product().to("cuda")
    x, y = torch.randn(64, 256, device="cuda"), torch.full((64,), -1, device="cuda")
    Fit(module, module, Batches(x, y, 64, 0, 0), settings, callbacks=[Look(0)]).run()
    assert seen[0] == (tf32 and not deterministic,) * 2


def test_cublas_is_made_deterministic_before_cuda_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    set_cublas_workspace()
    assert WORKSPACE not in os.environ
    line = why_not_deterministic(torch.device("cuda"))
    assert line.startswith("deterministic: this process used CUDA before CUBLAS_WORKSPACE_CONFIG")
    assert "\n" not in line
    assert why_not_deterministic(torch.device("cpu")) == ""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setenv(WORKSPACE, "")  # so that it is restored
    del os.environ[WORKSPACE]
    set_cublas_workspace()
    assert os.environ[WORKSPACE] == ":4096:8"
    assert why_not_deterministic(torch.device("cuda")) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="threads can be reached on Linux alone")
def test_subnormals_are_flushed_on_every_thread_within_the_block() -> None:
    import sklearn.cluster  # noqa: F401 - brings threads of its own

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        subnormal = torch.full((400_000,), 1e-40)
        with flush_subnormals():
            assert not (subnormal * 1.0).any()
        assert (subnormal * 1.0).all()
    finally:
        torch.set_num_threads(threads)


def test_an_unsupported_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: False)
    with pytest.raises(GMMVAEError, match="precision bf16 is not supported by cpu"):
        build(replace(SETTINGS, precision="bf16"))
    with pytest.raises(GMMVAEError, match="precision f64 is not supported by mps"):
        check_precision("f64", torch.device("mps"))
    with pytest.raises(GMMVAEError, match="unknown precision 'f16'; did you mean"):
        check_precision("f16", torch.device("cpu"))


def test_rounded_products_are_of_bfloat16_and_give_single_precision(device: torch.device) -> None:
    """CUDA's implementation, which runs on every device."""
    a, b = torch.randn(4, 8, device=device), torch.randn(8, 5, device=device)
    bias, image = torch.randn(5, device=device), torch.randn(2, 3, 6, 6, device=device)
    kernel = torch.randn(4, 3, 3, 3, device=device)

    exact = a @ b

    def low(t: Tensor) -> Tensor:
        return t.bfloat16()

    products = [
        lambda r: nn.functional.linear(r(a), r(b).T, r(bias)),
        lambda r: nn.functional.conv2d(r(image), weight=r(kernel), stride=2),
        lambda r: nn.functional.conv_transpose2d(r(image), r(kernel).transpose(0, 1)),
    ]
    for product in products:
        with precision.RoundedLayers():
            found = product(lambda t: t)
        assert found.dtype == torch.float32
        assert torch.equal(found, product(low).float())
        assert not torch.equal(found, product(lambda t: t))
    with precision.RoundedLayers():
        # a density's own products keep their precision, and so do other types
        assert torch.equal(a @ b, exact)
        wide = nn.functional.linear(a.double(), b.T.double())
    assert wide.dtype == torch.float64
    assert torch.equal(wide, a.double() @ b.double())


@pytest.mark.parametrize("engine", ["svi", "captured"])
def test_rounded_products_work_in_each_engine(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """As on CUDA: the captured graph contains the rounding."""
    plain = first_loss("f32", engine)
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: True)
    monkeypatch.setattr(
        "pyro_gmmvae.training.loop.bf16_products", lambda _: precision.RoundedLayers()
    )
    rounded = first_loss("bf16", engine)
    assert rounded != plain
    assert rounded == pytest.approx(plain, rel=0.02)
