"""Errors of a device that runs out of memory, before a fit and within it."""

import math
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError

CONTAINER = Path("/sys/fs/cgroup/memory.max")


class OutOfMemoryError(GMMVAEError):
    """A step needs more memory than the device has."""


def check_memory(needed: float, device: torch.device | str, parts: str, keys: str) -> None:
    """Refuse a fit that needs more bytes than the device has at all.

    The system may grant more than there is, and kills the process when it uses them.

    Args:
        needed: in bytes.
        device: that computes.
        parts, keys: the words of the error for what needs them, and for what to make smaller.

    Raises:
        GMMVAEError: with both sizes.
    """
    if needed > (available := _size(torch.device(device))):
        raise GMMVAEError(
            f"not enough memory: {parts} need {needed / 2**30:.3g} GiB, and the device {device} "
            f"has {available / 2**30:.3g} GiB; make {keys} smaller"
        )


def _size(device: torch.device) -> float:
    """The bytes of memory of a device; infinity if they are not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if device.type != "cpu" or not hasattr(os, "sysconf"):
        return math.inf
    limit = CONTAINER.read_text("utf-8").strip() if CONTAINER.is_file() else "max"
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, math.inf if limit == "max" else int(limit))


@contextmanager
def counted_activations(module: nn.Module) -> Iterator[dict[int, int]]:
    """Count the bytes that a backward pass needs of the operations within a block.

    Yields:
        The bytes of each storage, by its identity, without those of the module's parameters.
    """
    # the identity, not the address of the data, which some devices do not give
    own = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    found = dict[int, int]()

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            found[storage._cdata] = storage.nbytes()
        # an operation that holds its own result, with its graph, is never freed
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        yield found


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
