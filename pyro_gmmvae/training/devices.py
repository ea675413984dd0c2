"""Devices by name, the generators that belong to them, and the machine."""

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pyro_gmmvae
from pyro_gmmvae.errors import GMMVAEError

PACKAGES = ("torch", "pyro-ppl", "numpy", "pandas", "scikit-learn", "safetensors")


def resolve_device(name: str) -> torch.device:
    """Resolve the name of a device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".

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
    """Seed torch's global generators for a block, and restore them after it.

    ``torch.manual_seed`` seeds every device there is, so every device is restored.
    """
    used = torch.cuda.is_initialized() or device.type == "cuda"
    mps = rng_state(torch.device("mps")) if torch.backends.mps.is_available() else None
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if used else []):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            if mps is not None:
                set_rng_state(torch.device("mps"), mps)


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """States of the generators a computation on ``device`` uses, by kind of device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_rng_state(device: torch.device, state: Mapping[str, Tensor]) -> None:
    """Restore :func:`rng_state`; a kind of device without a state in it is not changed."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    if device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"].cpu())


def machine(device: torch.device) -> dict[str, Any]:
    """Versions, processor, device and threads, which a measured time depends on."""
    return {
        "pyro_gmmvae": pyro_gmmvae.__version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line for line in info.read_text("utf-8").splitlines() if line.startswith("model name")
        ]
        if names:
            return names[0].split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
