"""Where the cells of a sweep run: processes of this machine, or the machines of a Ray cluster."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError, missing_extra, unknown_name
from pyro_gmmvae.sweeps.run_cell import run_cell
from pyro_gmmvae.training.signals import (
    ignore_sigint,
    interrupt_processes,
    sigterm_as_interrupt,
    terminate_this_process,
)

Task = Future[dict[str, Any]]
Result = TypeVar("Result")


class Backend(Protocol):
    """Runs cells; ``jobs`` is how many at once."""

    jobs: int

    def submit(self, config: Config, folder: Path) -> Task:
        """Start a cell with its run folder, or put it in a queue."""

    def interrupt(self) -> None:
        """Ask every fit under way to save and stop."""


class LocalBackend:
    """Processes of this machine."""

    def __init__(self, pool: ProcessPoolExecutor, jobs: int) -> None:
        self.pool, self.jobs = pool, jobs

    def submit(self, config: Config, folder: Path) -> Task:
        return self.run(run_cell, config, folder)

    def run(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Start a function of a module, with arguments that can be pickled, or queue it."""
        with ignore_sigint():  # inherited: the process ignores it until its fit handles it
            return self.pool.submit(work, *arguments)

    def interrupt(self) -> None:
        """The fits heard the terminal too."""


@contextlib.contextmanager
def local(jobs: int, threads: int) -> Iterator[LocalBackend]:
    """Fresh processes of some threads each, that a terminated parent stops as Ctrl-C does."""
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_prepare, initargs=(threads,)
    )
    try:
        with sigterm_as_interrupt(_interrupt_children), pool:
            yield LocalBackend(pool, jobs)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _interrupt_children() -> None:
    # a terminal sends them SIGINT, but not SIGTERM
    interrupt_processes(child.pid for child in active_children())


def _prepare(threads: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed tells nobody: stop the fit, which saves, and leave."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        terminate_this_process()


class RayBackend:
    """Tasks of a Ray cluster, which decides how many run at once and where."""

    jobs = 1_000_000

    def __init__(self, ray: Any, threads: int) -> None:
        self.ray, self.threads = ray, threads
        self.refs: list[Any] = []

    def submit(self, config: Config, folder: Path) -> Task:
        wanted = 1 if config.device.startswith("cuda") else 0
        variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))
        task = self.ray.remote(
            num_cpus=self.threads, num_gpus=wanted, runtime_env={"env_vars": variables}
        )(_run_with_threads)
        self.refs.append(task.remote(config, folder.resolve(), self.threads))
        future: Task = self.refs[-1].future()
        return future

    def interrupt(self) -> None:
        for ref in self.refs:
            self.ray.cancel(ref)


@contextlib.contextmanager
def ray_cluster(jobs: int, threads: int) -> Iterator[Backend]:  # noqa: ARG001 - Ray decides
    """The cluster that ``RAY_ADDRESS`` names, or one of this machine alone.

    Every machine needs this package, the data under the same path and, to resume, a shared
    folder of results.

    Raises:
        GMMVAEError: Ray is not installed, or the cluster can't be reached.
    """
    import ray

    begun = not ray.is_initialized()
    try:
        if begun:
            ray.init(log_to_driver=False, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise GMMVAEError(f"the Ray cluster can't be reached: {first}") from error
    try:
        yield RayBackend(ray, threads)
    finally:
        if begun:
            ray.shutdown()


def _run_with_threads(config: Config, folder: Path, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    return run_cell(config, folder)


BACKENDS: dict[str, Callable[[int, int], Any]] = {"local": local, "ray": ray_cluster}


def check_backend(name: str) -> None:
    """Refuse one that is unknown or not installed."""
    if name not in BACKENDS:
        raise unknown_name("backend", name, list(BACKENDS))
    if name == "ray" and find_spec("ray") is None:
        raise missing_extra("--backend ray", "Ray", "ray")
