"""Fits of several processes, started by ``torchrun``: each computes a part of every batch."""

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from signal import SIGINT, SIGTERM, Signals
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from pyro_gmmvae.errors import GMMVAEError, LostProcessError
from pyro_gmmvae.training.devices import resolve_device


@dataclass(frozen=True)
class World:
    """The processes of a job, perhaps only one.

    Attributes:
        rank: number of this process.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def shard(self, rows: Tensor) -> Tensor:
        """This process's part of row numbers: contiguous, sizes differing by at most one."""
        return rows if self.size == 1 else rows.tensor_split(self.size)[self.rank]

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Add each tensor up over the processes, in place and in one message."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1).to(tensors[0]) for t in tensors])
        with _waiting():
            dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def labelled_weight(self, y: Tensor) -> float:
        """The factor that makes a mean over this process's labelled rows its part of the mean
        over those of all processes.

        :meth:`average_step` weights each process by its rows, labelled or not.
        """
        labelled, rows = float((y >= 0).sum()), float(len(y))
        counts = torch.tensor([labelled, rows], dtype=torch.float64, device=y.device)
        self.sum_([counts])
        all_labelled, all_rows = counts.tolist()
        return labelled / all_labelled * all_rows / rows if all_labelled else 0.0

    def average_step(
        self,
        parameters: Sequence[nn.Parameter],
        parts: dict[str, Tensor],
        rows: int,
        seconds: float,
        stopping: Signals | None,
    ) -> tuple[float, Signals | None]:
        """Make the gradients and parts of a step those of all processes' rows, in place.

        Args:
            parameters: with this process's gradients.
            parts: its terms, means over its rows.
            rows: the number of its rows.
            seconds: its clock.
            stopping: a signal that it received.

        Returns:
            The first process's clock, and a signal that one of the processes received.
        """
        values = [*(p.grad for p in parameters if p.grad is not None), *parts.values()]
        asked = [stopping == SIGINT, stopping == SIGTERM]
        clock = seconds if self.is_first else 0.0
        message = values[0].new_tensor([rows, clock, *asked], dtype=torch.float64)
        torch._foreach_mul_(values, rows)
        self.sum_([message])
        self.sum_(values)
        total, seconds, interrupted, terminated = message.tolist()
        torch._foreach_div_(values, total)
        return seconds, SIGINT if interrupted else SIGTERM if terminated else None

    def reseed(self, seed: int) -> None:
        """Seed other noise for each process but the first, which draws as a single process."""
        if self.rank:
            # the CPU's generator looks at 32 bits of a seed
            mixed = np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]
            torch.manual_seed(int(mixed))

    def average_buffers(self, module: nn.Module) -> None:
        """Average the running means of batch norm over the processes, in place."""
        if self.size == 1:
            return
        buffers = [b for b in module.buffers() if b.is_floating_point()]
        self.sum_(buffers)
        for buffer in buffers:
            buffer /= self.size

    def gather(self, value: Any) -> list[Any]:
        """Collect a picklable value from each process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with _waiting():
            dist.all_gather_object(values, value)
        return values

    @contextmanager
    def raise_together(self) -> Iterator[None]:
        """Raise an error of one process within the block in all processes, at its end."""
        message = None
        try:
            yield
        except GMMVAEError as error:
            if self.size == 1:
                raise
            message = str(error)
        messages = self.gather(message)
        for rank, text in enumerate(messages):
            if text is not None:
                raise GMMVAEError(text if rank == 0 else f"process {rank}: {text}")


SINGLE_PROCESS = World()


@contextmanager
def process_group(device: str) -> Iterator[tuple[World, torch.device]]:
    """Join the processes that torchrun started; give them and this process's device.

    Processes communicate by gloo on CPUs and by nccl on CUDA, where each uses the GPU of its
    local rank. Of the processes that an error ends, only the first to leave this block reports
    it: the errors of the others get the attribute ``reported_elsewhere``.

    Raises:
        GMMVAEError: a device that this machine does not have, or a job that does not assemble.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        yield SINGLE_PROCESS, resolve_device(device)
        return
    # its functions' defaults hold the group that exists when it is first imported (by torch.optim,
    # late): they would keep the group's threads past the interpreter's end, which aborts
    importlib.import_module("torch.distributed.nn.functional")
    try:
        store, rank, _ = next(rendezvous("env://"))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise GMMVAEError(f"the {size} processes of this job can't connect: {first}") from error
    try:
        yield World(rank, size), _own_device(device)
    except BaseException as error:
        with contextlib.suppress(RuntimeError):  # the store may have died with another process
            error.reported_elsewhere = store.add("errors reported", 1) > 1  # type: ignore[attr-defined]
        raise
    finally:
        dist.destroy_process_group()


def _own_device(name: str) -> torch.device:
    """The device of this process among those on its machine."""
    device = resolve_device(name)
    if device.type != "cuda":
        return device
    if device.index is not None and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise GMMVAEError(
            f"device {name!r}: processes of one machine can't share a GPU; use --device cuda"
        )
    if device.index is None:
        device = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    torch.cuda.set_device(device)
    return device


@contextmanager
def _waiting() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # gloo has no type of its own for a lost connection
        lost = isinstance(error, dist.DistError) or "onnection" in str(error)
        if not lost:
            raise
        raise LostProcessError(
            "another process of this job ended; the last checkpoint is kept, and 'gmmvae resume' "
            "goes on from it"
        ) from error
