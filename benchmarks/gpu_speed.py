"""Times of training steps on a device, each beside what the device could do at best.

    python benchmarks/gpu_speed.py steps --out FILE.json

Modes: ceilings measures the device; steps compares stock Pyro with each engine, for three models;
components and batches do so by K and by batch size; memory gives MiB by rows and K. :mod:`gpu` runs
them in stages.

The ceiling of a step is the time of its matrix products and of its Adam alone, each as one CUDA
graph. Numbers of kernels and the least time to launch them are there to compare.
"""

import gc
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyro
import torch
from gpu_fits import Bench, Found, bench_command, build, rounded, seconds_of
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_gmmvae.cli import run
from pyro_gmmvae.training import Fit
from pyro_gmmvae.training.precision import tf32_products

aten = torch.ops.aten
# products of matrices: the places of their two factors among the arguments
PRODUCTS = {aten.mm: 0, aten.bmm: 0, aten.addmm: 1, aten.baddbmm: 1}
ADAM_BYTES = 28  # a parameter: weight, gradient and two moments are read, all but one written


def in_graph(bench: Bench, function: Callable[[], Any]) -> Callable[[], Any]:
    """The function as one CUDA graph; on a CPU as it is."""
    if not bench.is_cuda:
        return function
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def empty(bench: Bench) -> None:
    """Free the memory of earlier cases, and begin to count its peak."""
    gc.collect()
    if bench.is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_mib(bench: Bench) -> float:
    """Peak memory since :func:`empty`, of the device; on a CPU that of the process."""
    if bench.is_cuda:
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ---------------------------------------------------------------------------------- the device


def ceilings(bench: Bench) -> None:
    """Speeds of the device: copies, matrix products, small kernels alone and in a graph."""
    count = 2**12 if bench.quick else 2**29
    bench.measure("memory, TB/s read and written", lambda: _copy(bench, count))
    size = 64 if bench.quick else 8192
    for precision in ("f32", "tf32", "bf16"):
        name = f"product of {size} x {size} matrices, {precision}"
        bench.measure(name, lambda p=precision: _product(bench, size, p))
    for name, launch in (("alone", lambda _, f: f), ("in a graph", in_graph)):
        bench.measure(f"small kernels, {name}", lambda f=launch: _kernels(bench, f))


def _copy(bench: Bench, count: int) -> Found:
    a = torch.randn(count, device=bench.device)
    b = torch.empty_like(a)
    return rounded({"TB/s": 8 * count / seconds_of(bench, lambda: b.copy_(a), 10) / 1e12})


def _product(bench: Bench, size: int, precision: str) -> Found:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    x = torch.randn(size, size, device=bench.device, dtype=dtype)
    with tf32_products(precision == "tf32"):
        seconds = seconds_of(bench, lambda: torch.mm(x, x), 5)
    return rounded({"TFLOP/s": 2 * size**3 / seconds / 1e12})


def _kernels(
    bench: Bench, launch: Callable[[Bench, Callable[[], None]], Callable[[], Any]]
) -> Found:
    """Kernels that wait for each other."""
    count = 10 if bench.quick else 1000
    x = torch.zeros(1000, device=bench.device)

    def kernels() -> None:
        for _ in range(count):
            x.add_(1)

    seconds = seconds_of(bench, launch(bench, kernels), 10) / count
    return rounded({"us": 1e6 * seconds, "launches/s": 1 / seconds})


# ---------------------------------------------------------------------------------- steps


class Products(TorchDispatchMode):
    """Notes shapes and types of the matrix products in a block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[torch.Size, torch.Size, torch.dtype]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        place = PRODUCTS.get(func.overloadpacket)
        if place is not None:
            a, b = args[place : place + 2]
            self.found.append((a.shape, b.shape, a.dtype))
        return func(*args, **(kwargs or {}))


def ceiling(bench: Bench, case: Mapping[str, Any]) -> Found:
    """Milliseconds of a step's matrix products alone and of its Adam alone, each in a graph."""
    fit = build(bench.device, **case, settings={"engine": "svi"})
    noted = Products()
    with fit.switches():
        fit.prepare()
        with noted:
            fit.step(*next(full_batches(fit)))
    make = partial(torch.randn, device=bench.device)
    pairs = [(make(a, dtype=t), make(b, dtype=t)) for a, b, t in noted.found]
    products = in_graph(bench, lambda: [torch.matmul(a, b) for a, b in pairs])
    copies = [p.detach().clone().requires_grad_() for p in fit.parameters]
    for copied in copies:
        copied.grad = torch.zeros_like(copied)
    adam = in_graph(bench, torch.optim.Adam(copies, fused=True, capturable=bench.is_cuda).step)
    times = 2 if bench.quick else 100
    ms = [1e3 * seconds_of(bench, function, times) for function in (products, adam)]
    numbers = sum(p.numel() for p in copies)
    flop = sum(2 * a.numel() * b[-1] for a, b, _ in noted.found)
    return rounded(
        {
            "ms": sum(ms),
            "steps/s": 1e3 / sum(ms),
            "products ms": ms[0],
            "products TFLOP/s": flop / ms[0] / 1e9,
            "Adam ms": ms[1],
            "Adam TB/s": ADAM_BYTES * numbers / ms[1] / 1e9,
        }
    )


def mnist_like(bench: Bench, **more: Any) -> dict[str, Any]:
    """Arguments of :func:`build` of the size of MNIST, or of a toy."""
    case = {"shape": (784,), "components": 10, "latent_dim": 50, "hidden": (500, 500)}
    case |= {"rows": 12_000, "batch": 100, "labelled": 0} | more
    if bench.quick:
        case |= {"shape": (6,), "latent_dim": 2, "hidden": (4,), "rows": 40, "batch": 20}
        case["components"] = min(case["components"], 5)
    return case


def full_batches(fit: Fit) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the usual size without end."""
    size = max(len(x) for x, _ in fit.batches.examples())
    while True:
        yield from (batch for batch in fit.batches.epoch() if len(batch[0]) == size)


def timed(bench: Bench, case: Mapping[str, Any], *, graph: bool = True) -> Found:
    """Milliseconds of a whole step and of its replay alone, seconds to prepare, peak MiB."""
    empty(bench)
    fit, started = build(bench.device, **case), time.perf_counter()
    steps, warm_up = (2, 5) if bench.quick else (100, 12)
    with fit.switches():
        fit.prepare()
        prepared = time.perf_counter() - started
        if not graph:
            fit.cuda_graph_step = None
        rows = full_batches(fit)
        for _ in range(warm_up):
            fit.step(*next(rows))
        step = lambda: fit.step(*next(rows))  # noqa: E731
        ms = 1e3 * statistics.median(seconds_of(bench, step, steps) for _ in range(5))
        found = {"ms": ms, "steps/s": 1e3 / ms}
        launch = launch_of(fit)
        if launch is not None:
            found["replay ms"] = 1e3 * seconds_of(bench, launch, steps)
        fit.optimizer.check()
    found |= {"prepare s": prepared, "MiB": peak_mib(bench)}
    if graph and bench.is_cuda and launch is None and fit.state.engine != "svi":
        return found | {"error": "the step did not become a CUDA graph"}
    return found


def launch_of(fit: Fit) -> Callable[[], Any] | None:
    """The recorded step."""
    step = fit.cuda_graph_step
    return next(iter(step._launches.values()), None) if step is not None else None


def stock(bench: Bench, case: Mapping[str, Any]) -> Found:
    """``pyro.infer.SVI.step`` with ``pyro.optim.Adam``; a class is summed out in parallel."""
    empty(bench)
    pyro.clear_param_store()
    fit = build(bench.device, **case, settings={"engine": "svi"})
    program: Any = fit.module
    guide, elbo = program.guide, Trace_ELBO()
    if case.get("model", "gmmvae") != "gmmvae":
        guide, elbo = config_enumerate(guide), TraceEnum_ELBO(max_plate_nesting=1)
    svi = SVI(program.model, guide, pyro.optim.Adam({"lr": 1e-3}), elbo)
    rows = full_batches(fit)
    step = lambda: svi.step(next(rows)[0])  # noqa: E731
    ms = 1e3 * statistics.median(
        seconds_of(bench, step, 1 if bench.quick else 20) for _ in range(3)
    )
    return {"ms": ms, "steps/s": 1e3 / ms, "MiB": peak_mib(bench)}


ENGINES = {
    "fused Adam": {"engine": "svi"},
    "captured": {"engine": "captured"},
    "captured, tf32": {"engine": "captured", "tf32": True},
    "captured, bf16": {"engine": "captured", "precision": "bf16"},
    "compiled": {"engine": "compiled"},
    "compiled, bf16": {"engine": "compiled", "precision": "bf16"},
}


def compare(bench: Bench, cases: Mapping[str, Mapping[str, Any]]) -> None:
    """Steps of each case by stock Pyro and by each engine, relative to stock and to the ceiling."""
    best: dict[str, Found] = {}
    first: dict[str, Found] = {}
    engines = ("fused Adam", "captured") if bench.quick else tuple(ENGINES)
    for name, case in cases.items():
        best[name] = bench.measure(f"{name}: ceiling", partial(ceiling, bench, case))
        first[name] = bench.measure(f"{name}: stock", lambda c=case: rounded(stock(bench, c)))
    for compiled in (False, True):  # last, as compiling takes long
        for name, case in cases.items():
            for engine in engines:
                if engine.startswith("compiled") == compiled:
                    one = partial(_one, bench, name, engine, case, best, first)
                    bench.measure(f"{name}: {engine}", one)


def _one(
    bench: Bench,
    name: str,
    engine: str,
    case: Mapping[str, Any],
    best: Mapping[str, Found],
    first: Mapping[str, Found],
) -> Found:
    settings = {**ENGINES[engine], "verify": False}
    found = timed(bench, {**case, "settings": settings})
    for word, others in (("times stock", first), ("times ceiling", best)):
        if "ms" in others.get(name, {}):
            found[word] = others[name]["ms"] / found["ms"]
    return rounded(found)


def steps(bench: Bench) -> None:
    """Steps per second of three models at batch 100, by stock Pyro and by each engine."""
    names = ("gmmvae", "m2", "adgm")
    compare(bench, {m: mnist_like(bench, model=m, objective="trace") for m in names})
    bench.measure("gmmvae: kernels of a step", lambda: profile(bench))


def components(bench: Bench) -> None:
    """Steps per second for K = 10, 100 and 1,000."""
    cases = {
        f"K={K}, {guide}": mnist_like(bench, guide=guide, components=K)
        for K in (1000, 100, 10)
        for guide in ("product", "low-rank")
    }
    compare(bench, cases)


def batches(bench: Bench) -> None:
    """Steps per second by batch size."""
    sizes = (1000, 4000, 16_000)
    cases = {f"batch {size}": mnist_like(bench, batch=size, rows=4 * size) for size in sizes}
    compare(bench, cases)


def profile(bench: Bench) -> Found:
    """Kernels of one recorded step, the least time to launch them, and the longest."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    fit, times = build(bench.device, **mnist_like(bench)), 2 if bench.quick else 10
    with fit.switches():
        fit.prepare()
        rows = full_batches(fit)
        for _ in range(6):
            fit.step(*next(rows))
        launch = launch_of(fit) or (lambda: fit.step(*next(rows)))
        kind = ProfilerActivity.CUDA if bench.is_cuda else ProfilerActivity.CPU
        with profiler(activities=[kind]) as events:
            for _ in range(times):
                launch()
            bench.synchronize()
    kernels = sorted(events.key_averages(), key=lambda row: -row.device_time_total)
    count = sum(row.count for row in kernels) / times
    each = _kernels(bench, in_graph)["us"]
    longest = {
        row.key[:60]: [row.count / times, round(row.device_time_total / times, 2)]
        for row in kernels[:25]
    }
    found = {"kernels": count, "us of one small kernel": each, "least ms": count * each / 1e3}
    return rounded(found | {"sum of all, us": sum(v[1] for v in longest.values())}) | {
        "longest: count, us": longest
    }


# ---------------------------------------------------------------------------------- memory


def memory(bench: Bench) -> None:
    """Peak memory by batch size, K and number of rows, and its growth with each."""
    sizes: dict[str, dict[int, dict[str, Any]]] = {
        "row of a batch": {n: {"batch": n, "rows": 16_000} for n in (100, 1000, 4000, 16_000)},
        "component": {K: {"components": K} for K in (10, 100, 1000)},
        "row of the data": {n: {"rows": n, "shape": (16,)} for n in (10**4, 10**5, 10**6, 10**7)},
    }
    settings = {"engine": "captured", "verify": False}
    for name, values in sizes.items():
        peaks = {}
        for size, keys in values.items():
            case = mnist_like(bench, **keys, settings=settings)
            found = bench.measure(f"{size} x {name}", lambda c=case: rounded(timed(bench, c)))
            if "MiB" in found:
                peaks[size] = found["MiB"]
        if len(peaks) > 1:
            growth = np.polyfit(list(peaks), list(peaks.values()), 1)[0]
            bench.add(f"each {name}", rounded({"KiB": float(growth) * 1024}))


MODES: dict[str, Callable[[Bench], None]] = {
    mode.__name__: mode for mode in (ceilings, steps, components, batches, memory)
}
main = bench_command(MODES, __doc__)

if __name__ == "__main__":
    run(main)
