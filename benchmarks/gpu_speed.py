"""Times of training and prediction on a device, each beside what the device could do at best.

    python benchmarks/gpu_speed.py steps --out FILE.json

Modes: ceilings measures the device; steps compares stock Pyro with each engine, for three models;
components and batches do so by K and by batch size; memory gives MiB by rows and K; answers the
rows per second of evaluate and predict; target the seconds to an accuracy of .985 on MNIST with 100
labels. :mod:`gpu` runs them in stages.

The ceiling of a step is the time of its matrix products and of its Adam alone, each as one CUDA
graph. Numbers of kernels and the least time to launch them are there to compare.
"""

import gc
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from gpu_fits import Bench, Found, bench_command, build
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_gmmvae.cli import run
from pyro_gmmvae.runs import Run, TrainingData, default_config, train
from pyro_gmmvae.training import Callback, Fit

aten = torch.ops.aten
# products of matrices: the places of their two factors among the arguments
PRODUCTS = {aten.mm: 0, aten.bmm: 0, aten.addmm: 1, aten.baddbmm: 1}
GOAL = 0.985  # validation accuracy on MNIST
ADAM_BYTES = 28  # a parameter: weight, gradient and two moments are read, all but one written


def seconds_of(bench: Bench, function: Callable[[], Any], times: int) -> float:
    """Mean seconds of a call, after one call that is not counted."""
    function()
    bench.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        function()
    bench.synchronize()
    return (time.perf_counter() - start) / times


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


def rounded(found: Mapping[str, Any]) -> Found:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()}


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
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        x = torch.randn(size, size, device=bench.device, dtype=dtype)
        seconds = seconds_of(bench, lambda: torch.mm(x, x), 5)
    finally:
        torch.set_float32_matmul_precision(before)
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
    "captured, bf16": {"engine": "captured", "precision": "bf16"},
    "compiled": {"engine": "compiled"},
    "compiled, bf16": {"engine": "compiled", "precision": "bf16"},
}


def compare(bench: Bench, cases: Mapping[str, Mapping[str, Any]], *, with_stock: bool) -> None:
    """Steps of each case by stock Pyro and by each engine, relative to stock and to the ceiling."""
    best: dict[str, Found] = {}
    first: dict[str, Found] = {}
    engines = ("fused Adam", "captured") if bench.quick else tuple(ENGINES)
    for name, case in cases.items():
        best[name] = bench.measure(f"{name}: ceiling", partial(ceiling, bench, case))
        if with_stock:
            first[name] = bench.measure(f"{name}: stock", lambda c=case: rounded(stock(bench, c)))
        for engine in engines:
            if not engine.startswith("compiled"):
                bench.measure(
                    f"{name}: {engine}", partial(_one, bench, name, engine, case, best, first)
                )
    for name, case in cases.items():  # last, as compiling takes long
        for engine in engines:
            if engine.startswith("compiled"):
                bench.measure(
                    f"{name}: {engine}", partial(_one, bench, name, engine, case, best, first)
                )


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
    names = {"gmmvae": "trace", "m2": "trace", "adgm": "trace"}
    cases = {m: mnist_like(bench, model=m, objective=o) for m, o in names.items()}
    compare(bench, cases, with_stock=True)
    bench.measure("gmmvae: kernels of a step", lambda: profile(bench))


def components(bench: Bench) -> None:
    """Steps per second for K = 10, 100 and 1,000."""
    cases = {
        f"K={K}, {guide}": mnist_like(bench, guide=guide, components=K)
        for K in (1000, 100, 10)
        for guide in ("product", "low-rank")
    }
    compare(bench, cases, with_stock=True)


def batches(bench: Bench) -> None:
    """Steps per second by batch size."""
    sizes = (1000, 4000, 16_000)
    cases = {f"batch {size}": mnist_like(bench, batch=size, rows=4 * size) for size in sizes}
    compare(bench, cases, with_stock=True)


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


# ---------------------------------------------------------------------------------- runs


class Reached(Callback):
    """Keeps the seconds of a fit when its validation accuracy first was as high as the goal."""

    def __init__(self, goal: float) -> None:
        self.goal, self.seconds = goal, None

    seconds: float | None

    def on_epoch(self, record: Mapping[str, float]) -> None:
        if self.seconds is None and record["val_accuracy"] >= self.goal:
            self.seconds = record["seconds"]


def target(bench: Bench) -> None:
    """Seconds to an accuracy of .985 on MNIST with 100 labels, by the budget of the fit."""
    budgets = (0.002,) if bench.quick else (1.0, 0.5, 0.25, 2.0)
    for minutes in budgets:
        seeds = (0,) if bench.quick or minutes > 1 else (0, 1)
        for seed in seeds:
            keys = {"preset": "best", "labels": 100, "minutes": minutes, "seed": seed}
            name = f"{60 * minutes:g} s, seed {seed}"
            bench.measure(name, lambda k=keys: rounded(_reach(bench, k)))


def _mnist(bench: Bench, keys: Mapping[str, Any]) -> Any:
    toy = {"validation": 20, "hidden": "8", "latent_dim": 2} if bench.quick else {}
    return default_config(
        "mnist", {**keys, **toy, "engine": "captured", "device": str(bench.device)}
    )


def _reach(bench: Bench, keys: Mapping[str, Any]) -> Found:
    reached, started = Reached(0.0 if bench.quick else GOAL), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = train(_mnist(bench, keys), Path(folder) / "run", callbacks=[reached])
        whole = time.perf_counter() - started
        accuracy = run.evaluate(nll_rows=0, draws=0)["accuracy"]
    found = {"s to .985 of validation": reached.seconds, "s with reading and capture": whole}
    return found | {"test accuracy": accuracy}


def answers(bench: Bench) -> None:
    """Rows per second of a trained run, on the device and on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        out, file = Path(folder) / "run", Path(folder) / "rows.npy"
        config = _mnist(bench, {"preset": "best", "labels": 100, "epochs": 1})
        trained = train(config, out)
        data = TrainingData.from_config(config, trained.schema)
        x, _ = data.tensors(data.split.test, torch.device("cpu"))
        np.save(file, (255 * x).round().byte().numpy())
        for device in dict.fromkeys((str(bench.device), "cpu")):
            run = Run.load(out, device=device)
            rows = x.to(run.device)
            calls: dict[str, Callable[[], Any]] = {
                "class probabilities": lambda r=run, x=rows: r.log_probs(x),
                "z": lambda r=run, x=rows: r.embed(x),
                "ELBO": lambda r=run, x=rows: r.elbo(x),
                "predict": lambda r=run: r.predict(file),
                "evaluate": lambda r=run: _evaluate(bench, r),
            }
            for name, call in calls.items():
                bench.measure(f"{name}, {device}", lambda c=call: _rate(bench, c, len(x)))


def _evaluate(bench: Bench, run: Run) -> Any:
    return run.evaluate(nll_rows=2, samples=2, draws=0) if bench.quick else run.evaluate()


def _rate(bench: Bench, call: Callable[[], Any], rows: int) -> Found:
    seconds = seconds_of(bench, call, 1)
    return rounded({"rows/s": rows / seconds, "s": seconds})


MODES: dict[str, Callable[[Bench], None]] = {
    mode.__name__: mode for mode in (ceilings, steps, components, batches, memory, answers, target)
}
main = bench_command(MODES, __doc__)

if __name__ == "__main__":
    run(main)
