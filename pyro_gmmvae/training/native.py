"""A captured step as native code."""

import ctypes
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from pyro_gmmvae.training.graph import CompileError, StepGraph, first_line


def compiled(graph: StepGraph, inputs: list[Tensor]) -> StepGraph:
    """The graph as native code. Inductor keeps it on disk and finds it again in later processes.

    Random numbers stay those of eager kernels.

    Raises:
        CompileError: no compiler on this machine, or one that fails.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Inductor's imports use what torch has deprecated
            import torch._inductor as inductor

            # without symbols for shapes Inductor does not look into its cache on disk
            fakes = FakeTensorMode(shape_env=ShapeEnv())
            with tracing(TracingContext(fakes)), _probed_here():
                run = inductor.compile(graph.run, inputs, options={"fallback_random": True})  # type: ignore[arg-type]
    except Exception as error:
        # compilers fail in many ways, and each has the same way out
        raise CompileError(
            f"the captured step can't be compiled on this machine: {first_line(error)}; "
            "--engine captured needs no compiler"
        ) from error
    return StepGraph(run, graph.parts, graph.has_gradient)


@contextmanager
def _probed_here() -> Iterator[None]:
    """Let Inductor see in this process which instruction sets it can compile for.

    At each start it loads a library for each of them, in a process of its own that imports torch
    for that: longer than all the rest of a warm start. No code of those libraries is run.
    """
    from torch._inductor import cpu_vec_isa

    probing: Any = cpu_vec_isa.VecISA
    elsewhere = getattr(probing, "_probe_load", None)
    if elsewhere is None:  # another version of torch
        yield
        return
    probing._probe_load = lambda _, library: _loads(library)
    try:
        yield
    finally:
        probing._probe_load = elsewhere


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
