"""Workers of sweeps and studies: processes of this machine, or tasks of a Ray cluster."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar

import torch

from pyro_gmmvae.errors import GMMVAEError, missing_extra, unknown_name

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
