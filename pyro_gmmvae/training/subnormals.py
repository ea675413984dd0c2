"""Subnormal numbers flushed to zero, on every thread that computes, and only for a while."""

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def flushed_subnormals() -> Iterator[None]:
    """Flush subnormals in the calling thread and in torch's pool of threads; restored after.

    Adam's moments of weights that rarely see a gradient become subnormal within epochs, and
    a CPU computes with those many times slower. The switch belongs to each thread, and
    ``torch.set_flush_denormal`` sets that of its caller alone.
    """
    pool = _thread_pool()
    subnormal = torch.tensor([1e-40], dtype=torch.float32, device="cpu")
    flushed = (subnormal * 1).item() == 0
    torch.set_flush_denormal(True)
    pool.take_over_mode()
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)
        pool.take_over_mode()


class _NoPool:
    """Where the threads can't be reached (not Linux, or not GNU OpenMP)."""

    def take_over_mode(self) -> None:
        """Each thread keeps its own."""


class _OpenMPPool(_NoPool):
    """GNU OpenMP's threads, asked to call the C library's ``fesetenv``, one call each."""

    def __init__(self, library: str) -> None:
        self.openmp = ctypes.CDLL(library)
        self.maths = ctypes.CDLL(ctypes.util.find_library("m"))

    def take_over_mode(self) -> None:
        """Give every thread the caller's floating-point environment."""
        environment = ctypes.create_string_buffer(256)  # fenv_t is smaller everywhere
        self.maths.fegetenv(environment)
        threads = ctypes.c_uint(torch.get_num_threads())
        self.openmp.GOMP_parallel(self.maths.fesetenv, environment, threads, ctypes.c_uint(0))


def _thread_pool() -> _NoPool:
    maps = Path("/proc/self/maps")
    if torch.get_num_threads() == 1 or not maps.exists():
        return _NoPool()
    loaded = {line.split()[-1] for line in maps.read_text().splitlines() if "libgomp" in line}
    # other packages (scikit-learn's) may have brought another copy, with threads of its own
    own = {path for path in loaded if Path(torch.__file__).parent in Path(path).parents}
    found = own or loaded
    return _OpenMPPool(found.pop()) if len(found) == 1 else _NoPool()
