"""Errors of a device that runs out of memory, with the batch size that would fit."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError


class OutOfMemoryError(GMMVAEError):
    """A step needs more memory than the device has."""


@contextmanager
def out_of_memory_advice(
    device: torch.device, advice: Callable[[], str] = lambda: ""
) -> Iterator[None]:
    """Turn an allocation that fails within the block into one line.

    Args:
        device: the device that computes.
        advice: gives the remedy in words; called once the block's tensors are freed.

    Raises:
        OutOfMemoryError: in place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # and with them the tensors that filled it
        text = advice()
        message = f"out of memory on {device}" + (f": {text}" if text else "")
        raise OutOfMemoryError(message) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed."""
    # the CPU's allocator and CUDA's libraries have no exception type for it
    texts = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in texts)


def batch_size_advice(
    objective: Callable[..., Any],
    parameters: Sequence[nn.Parameter],
    batch: Sequence[Tensor],
    *,
    moments: bool,
) -> str:
    """Advice for a step that ran out of memory: the largest part of the batch that fits.

    It is found by halving and trying: the free memory of a GPU depends on its other users too.

    Args:
        objective, parameters, batch: of the step that failed.
        moments: leave room for Adam's two moments, which are not allocated yet.
    """
    size = len(batch[0])
    rows = _largest_batch(objective, parameters, batch, parameters if moments else ())
    if not rows:
        return f"the model does not fit with any batch size (now {size} rows)"
    if rows == size:
        return (
            f"a step on {size} rows fits, but validation or another part of the fit does not "
            "(batch_size)"
        )
    return f"a batch of {size} rows does not fit, one of {rows} does (batch_size)"


def _largest_batch(
    objective: Callable[..., Any],
    parameters: Sequence[nn.Parameter],
    batch: Sequence[Tensor],
    beside: Sequence[Tensor],
) -> int:
    """The number of rows whose gradients fit; 0 if not even two do (batch norm needs two)."""
    x, size = batch[0], len(batch[0])
    rows = size
    while rows >= min(2, size):
        for parameter in parameters:
            parameter.grad = None
        if x.device.type == "cuda":
            torch.cuda.empty_cache()
        if _fits(objective, beside, [tensor[:rows] for tensor in batch]):
            return rows
        rows //= 2
    return 0


def _fits(objective: Callable[..., Any], beside: Sequence[Tensor], batch: Sequence[Tensor]) -> bool:
    try:
        held = [torch.empty_like(p) for p in beside for _ in range(2)]
        objective(*batch).loss.backward()
        del held
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True
