"""Precision of a fit, and the process-wide switches that it sets and puts back."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.inference.subnormals import flushed_subnormals

PRECISIONS = ("f32", "bf16", "f64")


def dtype_of(precision: str) -> torch.dtype:
    """The type of parameters and rows; bf16 rounds the operands of matrix products."""
    return torch.float64 if precision == "f64" else torch.get_default_dtype()


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse what a device can't compute.

    Raises:
        GMMVAEError: naming device and precision.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, list(PRECISIONS))
    able = {
        ("f64", "mps"): False,
        ("bf16", "mps"): False,
        ("bf16", "cpu"): _cpu_has_bf16(),
        ("bf16", "cuda"): device.type == "cuda" and torch.cuda.is_bf16_supported(),
    }
    if not able.get((precision, device.type), True):
        raise GMMVAEError(
            f"precision {precision} is not supported by {device.type} on this machine; use "
            "--precision f32"
        )


def _cpu_has_bf16() -> bool:
    # torch before 2.9 has no such switch
    switch = hasattr(torch.backends.mkldnn, "matmul")
    return switch and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Autocast(nn.Module):
    """An objective under CUDA's autocast: layers compute, and give their outputs, in bfloat16."""

    def __init__(self, objective: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, x: Tensor, y: Tensor) -> Any:
        with torch.autocast("cuda", torch.bfloat16):
            return self.objective(x, y)


@contextmanager
def bf16_products() -> Iterator[None]:
    """Matrix products and convolutions of the CPU round their operands to bfloat16."""
    mkldnn: Any = torch.backends.mkldnn  # its stubs don't know these two
    switches = (mkldnn.matmul, mkldnn.conv)
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "bf16"
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value


@contextmanager
def fit_switches(deterministic: bool) -> Iterator[None]:
    """Flush subnormals, and demand deterministic kernels where asked; both restored after."""
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        with flushed_subnormals():
            yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic, warn_only=warn_only)
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
