"""Workers of sweeps and studies: processes of this machine, or tasks of a Ray cluster."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import active_children, get_context, parent_process
from typing import Any, Protocol, TypeVar

import torch

from pyro_gmmvae.errors import GMMVAEError, missing_extra, unknown_name
from pyro_gmmvae.training.signals import (
    ignore_sigint,
    interrupt_processes,
    raise_on_sigint,
    sigterm_as_interrupt,
    terminate_this_process,
)

BACKENDS = ("local", "ray")
Result = TypeVar("Result")


class Pool(Protocol):
    """Workers that run functions; ``slots`` is the number of tasks at once."""

    slots: int

    def submit(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Start or queue a function of a module, with arguments that can be pickled."""

    def interrupt(self) -> None:
        """Ask every fit under way to save and stop."""


def check_backend(name: str) -> None:
    """Refuse a backend that is unknown or not installed."""
    if name not in BACKENDS:
        raise unknown_name("backend", name, list(BACKENDS))
    if name == "ray" and find_spec("ray") is None:
        raise missing_extra("--backend ray", "Ray", "ray")


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


class RayPool:
    """Tasks of a Ray cluster, which decides how many run at once and on which machine."""

    slots = 1_000_000

    def __init__(self, ray: Any, threads: int, gpus: int) -> None:
        variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self.ray, self.threads, self.refs = ray, threads, list[Any]()
        self.remote = ray.remote(
            num_cpus=threads, num_gpus=gpus, runtime_env={"env_vars": variables}
        )(_with_threads)

    def submit(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        self.refs.append(self.remote.remote(self.threads, work, *arguments))
        future: Future[Result] = self.refs[-1].future()
        return future

    def interrupt(self) -> None:
        for ref in self.refs:
            self.ray.cancel(ref)


@contextlib.contextmanager
def ray_pool(threads: int, gpus: int) -> Iterator[RayPool]:
    """Connect to the cluster that ``RAY_ADDRESS`` names, or start one on this machine.

    Every machine needs this package, the data under the same path and, to resume, a shared
    folder of results.

    Raises:
        GMMVAEError: the cluster can't be reached.
    """
    import ray

    started = not ray.is_initialized()
    try:
        if started:
            ray.init(log_to_driver=False, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise GMMVAEError(f"the Ray cluster can't be reached: {first}") from error
    try:
        yield RayPool(ray, threads, gpus)
    finally:
        if started:
            ray.shutdown()


def _with_threads(threads: int, work: Callable[..., Result], *arguments: Any) -> Result:
    torch.set_num_threads(threads)
    return work(*arguments)
