"""Devices by name, and the process-wide switches that a fit sets and puts back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pyro_gmmvae.errors import GMMVAEError


def resolve_device(name: str) -> torch.device:
    """The device a name asks for: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".

    Raises:
        GMMVAEError: for an unknown name or a device this machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise GMMVAEError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:1 or mps") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise GMMVAEError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:1 or mps")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise GMMVAEError(
                f"device {name!r}: this machine has {count} CUDA devices; use --device cpu or auto"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise GMMVAEError("device 'mps' is not available on this machine; use --device cpu or auto")
    return device


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Run a block on torch's global generators seeded with ``seed``, and restore them after."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def fit_switches(deterministic: bool) -> Iterator[None]:
    """Flush subnormals, and demand deterministic kernels where asked; both restored after.

    Adam's moments of weights that rarely see a gradient become subnormal within epochs, and
    a CPU computes with those many times slower.
    """
    flushed = bool((torch.tensor([1e-40]) * 1).item() == 0)
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    torch.set_flush_denormal(True)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)
        torch.use_deterministic_algorithms(was_deterministic, warn_only=warn_only)
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
