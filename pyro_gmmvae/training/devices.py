"""Devices by name, the generators that belong to them, and the machine."""

import platform
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

import pyro_gmmvae
from pyro_gmmvae.errors import GMMVAEError, GMMVAEWarning

PACKAGES = ("torch", "pyro-ppl", "numpy", "pandas", "scikit-learn", "safetensors")


def resolve_device(name: str) -> torch.device:
    """Resolve the name of a device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".

    Where "auto" takes the CPU because CUDA can't start, a :class:`GMMVAEWarning` says why.

    Raises:
        GMMVAEError: for an unknown name or a device this machine does not have.
    """
    if name == "auto":
        count, why = cuda_devices()
        if count:
            return torch.device("cuda")
        if why:
            warnings.warn(GMMVAEWarning(f"no GPU is used: {why}"), stacklevel=2)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise GMMVAEError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:1 or mps") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise GMMVAEError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:1 or mps")
    if device.type == "cuda":
        count, why = cuda_devices()
        if (device.index or 0) >= count:
            there = f"this machine has {count} CUDA devices"
            if count:
                there += f", cuda:0 to cuda:{count - 1}"
            elif torch.version.cuda is None:
                there += " for this torch, which was built without CUDA"
            raise GMMVAEError(f"device {name!r}: {why or there}; use --device cpu or auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise GMMVAEError("device 'mps' is not available on this machine; use --device cpu or auto")
    return device


def cuda_devices() -> tuple[int, str]:
    """The number of CUDA devices, and why CUDA can't start where a driver is too old for torch."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if torch.cuda.is_available():
                return torch.cuda.device_count(), ""
            texts = [str(one.message) for one in caught]
        except RuntimeError as error:
            texts = [str(error)]
    # torch warns once in a process, with advice and links after the first sentence
    reasons = [text.removeprefix("CUDA initialization: ") for text in texts]
    _REASONS.extend(
        " ".join(text.split()).partition(". ")[0].replace("The ", "the ", 1) for text in reasons
    )
    return 0, _REASONS[0] if _REASONS else ""


_REASONS: list[str] = []
_GENERATORS = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators for a block, and restore them after it.

    ``torch.manual_seed`` seeds every device there is, so every device is restored. A second thread
    waits at the block until the first has left it: the generators, and the handlers of Pyro that
    fits use within the block, are global.
    """
    with _GENERATORS:
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


class Switches(Protocol):
    """Keys of a configuration that change how a device computes."""

    @property
    def tf32(self) -> bool: ...

    @property
    def deterministic(self) -> bool: ...


def uses_tf32(switches: Switches, device: torch.device) -> bool:
    """Whether a fit rounds the operands of products to TF32: on CUDA, if nothing demands more."""
    return switches.tf32 and not switches.deterministic and device.type == "cuda"


def machine(device: torch.device, switches: Switches | None = None) -> dict[str, Any]:
    """Versions, processor, device, threads and TF32, which a measured time depends on."""
    tf32 = switches is not None and uses_tf32(switches, device)
    return {
        "pyro_gmmvae": pyro_gmmvae.__version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "tf32": tf32,
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
