"""Processes of this machine that run functions, each with some threads."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import active_children, get_context, parent_process
from typing import Any, TypeVar

import torch

from pyro_gmmvae.training.signals import (
    ignore_sigint,
    interrupt_processes,
    raise_on_sigint,
    sigterm_as_interrupt,
    terminate_this_process,
)

Result = TypeVar("Result")


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Compute with a number of threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ProcessPool:
    """Processes of this machine."""

    def __init__(self, executor: ProcessPoolExecutor, slots: int) -> None:
        self.executor, self.slots = executor, slots

    def submit(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        with ignore_sigint():  # a process may start here, and imports for seconds
            return self.executor.submit(_in_worker, work, *arguments)

    def interrupt(self) -> None:
        """Do nothing: a terminal sends SIGINT to the processes too."""


@contextlib.contextmanager
def process_pool(jobs: int, threads: int) -> Iterator[ProcessPool]:
    """Start processes with some threads each; SIGTERM interrupts them as Ctrl-C does."""
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    executor = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(threads,)
    )
    try:
        with sigterm_as_interrupt(_interrupt_children), executor:
            yield ProcessPool(executor, jobs)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _interrupt_children() -> None:
    interrupt_processes(child.pid for child in active_children())


def _start_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Stop the fit, which saves, and end the process when the parent was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        terminate_this_process()


def _in_worker(work: Callable[..., Result], *arguments: Any) -> Result:
    parent = parent_process()
    try:
        with raise_on_sigint():
            return work(*arguments)
    finally:
        if parent is not None and not parent.is_alive():
            os._exit(1)  # nothing reads the result, and the pool would wait for more work
