"""Precision of a fit, and the process-wide switches that it sets and puts back."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.training.subnormals import flushed_subnormals

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


LAYERS = frozenset(
    {
        F.linear,
        F.conv1d,
        F.conv2d,
        F.conv3d,
        F.conv_transpose1d,
        F.conv_transpose2d,
        F.conv_transpose3d,
    }
)
"""Products of networks; those within a density lose too much to rounding."""


class RoundedLayers(TorchFunctionMode):
    """Layers multiply in bfloat16 and give single precision again.

    Unlike autocast, which leaves activations, means and noise in bfloat16.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func not in LAYERS:
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map(_rounded, (args, kwargs or {}))
        product = func(*args, **kwargs)
        return product.float() if product.dtype == torch.bfloat16 else product


def _rounded(value: Any) -> Any:
    single = isinstance(value, Tensor) and value.dtype == torch.float32
    return value.bfloat16() if single else value


def bf16_products(device: torch.device) -> AbstractContextManager[Any]:
    """Matrix products and convolutions round their operands to bfloat16 within the block."""
    return _rounded_by_onednn() if device.type == "cpu" else RoundedLayers()


@contextmanager
def _rounded_by_onednn() -> Iterator[None]:
    """The CPU's library does it by itself, and faster."""
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
        if deterministic:  # the call itself imports Inductor
            torch.use_deterministic_algorithms(was_deterministic, warn_only=warn_only)
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
