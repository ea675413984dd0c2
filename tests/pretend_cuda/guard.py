"""A CUDA device guard and hooks that do nothing, for a build of torch without CUDA.

The compiler builds ``guard.cpp`` once for each version of torch. It is loaded before torch.
"""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")
CACHE = Path(__file__).parents[2] / ".pytest_cache" / "pretend_cuda"


class NoGuardError(Exception):
    """The guard can't be built or loaded here."""


def _torch() -> Path:
    """The folder of torch, which is not imported."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def build() -> Path:
    """The library; compiled where the cache does not have it.

    Raises:
        NoGuardError: this torch has CUDA itself, or there is no compiler that can build it.
    """
    torch = _torch()
    if not (torch / "lib" / "libtorch_cpu.so").is_file():
        raise NoGuardError("the pretended device needs Linux")
    if (torch / "lib" / "libtorch_cuda.so").is_file():
        raise NoGuardError("this build of torch has CUDA itself")
    key = hashlib.sha256(version("torch").encode() + SOURCE.read_bytes()).hexdigest()[:16]
    library = CACHE / f"guard-{key}.so"
    if library.is_file():
        return library
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise NoGuardError("the pretended device needs a C++ compiler (g++)")
    CACHE.mkdir(parents=True, exist_ok=True)
    include = torch / "include"
    folders = [f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}"]
    made = library.with_suffix(f".{os.getpid()}")
    command = [compiler, "-w", "-O1", "-std=c++20", "-shared", "-fPIC", *folders]
    done = subprocess.run(
        [*command, "-o", str(made), str(SOURCE)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise NoGuardError(f"{compiler} can't build the pretended device: {done.stderr[:300]}")
    made.replace(library)  # another process may build it, too
    return library


def load() -> None:
    """Load the guard, and the libraries of torch that it belongs to.

    Raises:
        NoGuardError: see :func:`build`; or torch has been imported.
    """
    if "torch" in sys.modules:
        raise NoGuardError("the pretended device is loaded before torch, which is imported already")
    library, folder = build(), _torch() / "lib"
    for file in (folder / "libc10.so", folder / "libtorch_cpu.so", library):
        ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)
