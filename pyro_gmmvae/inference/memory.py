"""A device that runs out of memory, and the batch that would have fitted."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError


class OutOfMemoryError(GMMVAEError):
    """The device's memory does not hold a step."""


@contextmanager
def told_of_memory(device: torch.device, advice: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn an allocation that fails within the block into one line.

    Args:
        device: where the block computes.
        advice: what to do about it, in words; called once the block's tensors are gone.

    Raises:
        OutOfMemoryError: in place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # and with them the tensors that filled it
        told = f"out of memory on {device}" + (f": {advised}" if (advised := advice()) else "")
        raise OutOfMemoryError(told) from error


def _is_of_memory(error: RuntimeError) -> bool:
    # the CPU's allocator and CUDA's libraries have no type for it
    told = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in told)


def fitting_batch(
    objective: Callable[[Tensor, Tensor], Any],
    parameters: Sequence[nn.Parameter],
    x: Tensor,
    y: Tensor,
) -> int:
    """How many of a batch's rows give their gradients without running out of memory.

    Found by halving and trying, beside Adam's two moments of each parameter: what is left of a
    GPU depends on its other users too.

    Returns:
        0 where not even one row does.
    """
    rows = len(x) // 2
    while rows:
        for parameter in parameters:
            parameter.grad = None
        if x.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            moments = [torch.empty_like(p) for p in parameters for _ in range(2)]
            objective(x[:rows], y[:rows]).loss.backward()
            del moments
        except RuntimeError as error:
            if not _is_of_memory(error):
                raise
        else:
            break
        rows //= 2
    return rows
