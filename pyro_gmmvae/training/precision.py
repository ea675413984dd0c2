"""Precision of a fit, and process-wide switches that are restored after it."""

import ctypes
import ctypes.util
import functools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from pyro_gmmvae.errors import GMMVAEError, unknown_name

PRECISIONS = ("f32", "bf16", "f64")
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def check_precision(precision: str, device: torch.device) -> None:
    """Check that a device supports a precision.

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


@functools.cache
def _cpu_has_bf16() -> bool:
    """Whether the CPU computes products in bf16; some support the type and do not use it."""
    # torch before 2.9 has no such switch
    switch: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if switch is None or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    x = torch.arange(256 * 256, dtype=torch.float32, device="cpu").reshape(256, 256) / 997
    before = switch.fp32_precision
    try:
        switch.fp32_precision = "ieee"
        exact = x @ x
        switch.fp32_precision = "bf16"
        rounded = x @ x
    finally:
        switch.fp32_precision = before
    # the order of the sums may differ, too
    return bool(((rounded - exact).abs() > 1e-4 * exact.abs()).any())


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
"""Products of networks; those of a density would lose too much to rounding."""


class RoundedLayers(TorchFunctionMode):
    """Makes layers multiply in bfloat16 and return single precision.

    (Autocast leaves activations, means and noise in bfloat16.)
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
    """Round the operands of matrix products and convolutions to bfloat16 within the block."""
    return _rounded_by_onednn() if device.type == "cpu" else RoundedLayers()


@contextmanager
def _rounded_by_onednn() -> Iterator[None]:
    """Use the CPU library's own switch, which is faster."""
    mkldnn: Any = torch.backends.mkldnn  # its stubs lack these two
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
def process_switches(deterministic: bool) -> Iterator[None]:
    """Flush subnormals and optionally require deterministic kernels; restore both."""
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(WORKSPACE)
    if deterministic:
        os.environ.setdefault(WORKSPACE, ":4096:8")  # torch refuses products without it
        torch.use_deterministic_algorithms(True)
    try:
        with flush_subnormals():
            yield
    finally:
        if deterministic:  # this call imports Inductor
            torch.use_deterministic_algorithms(was_deterministic, warn_only=warn_only)
        if workspace is None:
            os.environ.pop(WORKSPACE, None)


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Let CUDA round operands to TF32, 10 bits of mantissa, within the block, or not.

    Torch's own default differs between convolutions and matrix products; here both have the same.
    """
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = allowed
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)


def set_cublas_workspace() -> None:
    """Set what cuBLAS needs for deterministic products, unless CUDA is in use already.

    cuBLAS reads it once in a process, at its first product, so it stays set.
    """
    if not torch.cuda.is_initialized():
        os.environ.setdefault(WORKSPACE, ":4096:8")


def why_not_deterministic(device: torch.device) -> str:
    """Why cuBLAS may not be deterministic in this process, in one line, or nothing."""
    if device.type != "cuda" or WORKSPACE in os.environ:
        return ""
    return (
        f"deterministic: this process used CUDA before {WORKSPACE} was set, so that products may "
        f"differ in their last bits; for equal fits start it with {WORKSPACE}=:4096:8"
    )


# -- quirks of platforms: measured gains of 2x in speed, and of seconds at start -----------------


@contextmanager
def flush_subnormals() -> Iterator[None]:
    """Flush subnormals to zero in the calling thread and in torch's pool of threads.

    Adam's moments of weights that rarely see a gradient become subnormal within epochs, and
    a CPU computes with those many times slower. The switch belongs to each thread, and
    ``torch.set_flush_denormal`` sets that of its caller alone.
    """
    pool = _thread_pool()
    subnormal = torch.tensor([1e-40], dtype=torch.float32, device="cpu")
    flushed = (subnormal * 1).item() == 0
    torch.set_flush_denormal(True)
    pool.copy_mode()
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)
        pool.copy_mode()


class _NoPool:
    """Threads that can't be reached (not Linux, or not GNU OpenMP)."""

    def copy_mode(self) -> None:
        """Do nothing: each thread keeps its own mode."""


class _OpenMPPool(_NoPool):
    """GNU OpenMP's threads, each of which calls the C library's ``fesetenv``."""

    def __init__(self, library: str) -> None:
        self.openmp = ctypes.CDLL(library)
        self.maths = ctypes.CDLL(ctypes.util.find_library("m"))

    def copy_mode(self) -> None:
        """Give every thread the caller's floating-point environment."""
        environment = ctypes.create_string_buffer(256)  # fenv_t is smaller everywhere
        self.maths.fegetenv(environment)
        threads = ctypes.c_uint(torch.get_num_threads())
        self.openmp.GOMP_parallel(self.maths.fesetenv, environment, threads, ctypes.c_uint(0))


def _thread_pool() -> _NoPool:
    maps = Path("/proc/self/maps")
    if torch.get_num_threads() == 1 or not maps.exists():
        return _NoPool()
    loaded = {
        line.split()[-1]
        for line in maps.read_text("utf-8", "replace").splitlines()
        if "libgomp" in line
    }
    # other packages (scikit-learn) may load another copy, with threads of its own
    own = {path for path in loaded if Path(torch.__file__).parent in Path(path).parents}
    libraries = own or loaded
    return _OpenMPPool(libraries.pop()) if len(libraries) == 1 else _NoPool()


@contextmanager
def inductor_probe_in_process() -> Iterator[None]:
    """Let Inductor find in this process the instruction sets that it can compile for.

    At each start it loads a library for each of them, in a new process that imports torch: that
    takes longer than the rest of a warm start. No code of those libraries is run.
    """
    from torch._inductor import cpu_vec_isa

    probing: Any = cpu_vec_isa.VecISA
    original = getattr(probing, "_probe_load", None)
    if original is None:  # another version of torch
        yield
        return
    probing._probe_load = lambda _, library: _loads(library)
    try:
        yield
    finally:
        probing._probe_load = original


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
