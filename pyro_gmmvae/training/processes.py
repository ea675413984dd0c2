"""Processes of this machine that run functions, each with some threads."""

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
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
COMMAND = "GMMVAE_COMMAND"  # the variable in which a pool's processes get the text
_COMMAND_ID = secrets.token_hex(8)


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
    """Processes of this machine. One that is killed fails its own tasks, and is replaced.

    (The processes of one ``ProcessPoolExecutor`` are all ended when one of them is killed.)
    """

    def __init__(self, slots: int, threads: int) -> None:
        self.slots, self.threads = slots, threads
        self._workers: list[tuple[ProcessPoolExecutor, list[Future[Any]]]] = []

    def submit(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Run a function in the process that has the fewest tasks to do."""
        while True:
            self._workers = [one for one in self._workers if not _broken(one[1])]
            if len(self._workers) < self.slots:
                self._workers.append((self._new(), []))
            worker, tasks = min(self._workers, key=lambda one: sum(not t.done() for t in one[1]))
            tasks[:] = [task for task in tasks if not task.done()]
            try:
                with ignore_sigint():  # a process may start here, and imports for seconds
                    future: Future[Result] = worker.submit(_in_worker, work, *arguments)
            except BrokenProcessPool:  # it was killed while it had no task
                self._workers.remove((worker, tasks))
                continue
            tasks.append(future)
            return future

    def _new(self) -> ProcessPoolExecutor:
        spawn, options = get_context("spawn"), (self.threads,)
        return ProcessPoolExecutor(1, mp_context=spawn, initializer=_start_worker, initargs=options)

    def close(self) -> None:
        """Wait for the tasks, and end the processes."""
        for worker, _ in self._workers:
            worker.shutdown()

    def interrupt(self) -> None:
        """Do nothing: a terminal sends SIGINT to the processes too."""


@contextlib.contextmanager
def process_pool(jobs: int, threads: int) -> Iterator[ProcessPool]:
    """Start processes with some threads each; SIGTERM interrupts them as Ctrl-C does."""
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    variables[COMMAND] = command_id()
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        with (
            sigterm_as_interrupt(_interrupt_children),
            contextlib.closing(ProcessPool(jobs, threads)) as pool,
        ):
            yield pool
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _broken(tasks: list[Future[Any]]) -> bool:
    """Whether the process of these tasks was killed."""
    ended = (task.exception() for task in tasks if task.done() and not task.cancelled())
    return any(isinstance(error, BrokenProcessPool) for error in ended)


def command_id() -> str:
    """A text that names the running command, also in a process of its pool."""
    return os.environ.get(COMMAND) or _COMMAND_ID


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
