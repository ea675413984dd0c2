"""A CUDA device guard and hooks that do nothing, for a build of torch without CUDA.

Built from ``pretend_guard.cpp`` into the folder ``$PRETEND_GUARD``; loaded before torch.
"""

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".cpp")


def load() -> None:
    """Load the guard, and the libraries of torch that it belongs to."""
    if "torch" in sys.modules:
        raise RuntimeError("load the guard before torch")
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    libraries = Path(spec.origin).parent / "lib"
    guard = Path(os.environ["PRETEND_GUARD"]) / "pretend_guard.so"
    for file in (libraries / "libc10.so", libraries / "libtorch_cpu.so", guard):
        ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)


load()
