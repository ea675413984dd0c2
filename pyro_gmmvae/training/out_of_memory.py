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
        if not is_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # and with them the tensors that filled it
        told = f"out of memory on {device}" + (f": {advised}" if (advised := advice()) else "")
        raise OutOfMemoryError(told) from error


def is_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed."""
    # the CPU's allocator and CUDA's libraries have no type for it
    told = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in told)


def fitting_batch(
    objective: Callable[..., Any],
    parameters: Sequence[nn.Parameter],
    batch: Sequence[Tensor],
    *,
    moments: bool,
) -> int:
    """How many of a batch's rows give their gradients without running out of memory.

    Found by halving and trying: what is left of a GPU depends on its other users too.

    Args:
        objective, parameters, batch: of the step that failed.
        moments: leave room for Adam's two, which are not there yet.

    Returns:
        0 where not even two rows do (batch norm can't train on one).
    """
    x, most = batch[0], len(batch[0])
    rows = most
    while rows >= min(2, most):
        for parameter in parameters:
            parameter.grad = None
        if x.device.type == "cuda":
            torch.cuda.empty_cache()
        part = [tensor[:rows] for tensor in batch]
        if _fits(objective, parameters if moments else (), part):
            return rows
        rows //= 2
    return 0


def _fits(objective: Callable[..., Any], beside: Sequence[Tensor], batch: Sequence[Tensor]) -> bool:
    try:
        held = [torch.empty_like(p) for p in beside for _ in range(2)]
        objective(*batch).loss.backward()
        del held
    except RuntimeError as error:
        if not is_of_memory(error):
            raise
        return False
    return True
