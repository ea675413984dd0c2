"""Checks and timings of training on a GPU: a line per case, then JSON.

    python benchmarks/gpu_smoke.py captured [FILE.json]

Modes: captured, compiled and svi fit each model, objective and guide with that engine; resume
compares a fit that was stopped and resumed with one that was not; ceilings measures the device;
steps, scaling and memory measure training steps. :mod:`gpu` runs them in stages.
"""

import copy
import inspect
import json
import signal
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyro_gmmvae.data import Image, Table
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES, REGULARIZERS
from pyro_gmmvae.training import (
    Batches,
    Callback,
    Fit,
    FitSettings,
    FitState,
    Preprocessing,
    PseudoLabeler,
)

DEVICE = torch.device("cuda", 0)
TRACE_ONLY = ("m1m2", "adgm", "sdgm")  # models without a closed form of the other objectives
ANALYTIC = {"objective": "analytic"}
Case = Mapping[str, Any]
Found = dict[str, Any]


class Lines(Callback):
    """Keeps the lines that a fit logs."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_start(self, about: str) -> None:
        self.lines.append(about)


class StopAfter(Callback):
    """Asks the fit to stop after an epoch, by SIGTERM."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch(self, record: Mapping[str, float]) -> None:
        if record["epoch"] == self.epoch:
            signal.raise_signal(signal.SIGTERM)


def build(
    model: str = "gmmvae",
    objective: str = "trace",
    *,
    guide: str | None = None,
    shape: tuple[int, ...] = (1, 8, 8),
    components: int = 4,
    latent_dim: int = 3,
    rows: int = 40,
    batch: int = 20,
    labelled: int = 4,
    pseudo_labels: bool = False,
    regularizers: tuple[str, ...] = (),
    network: str = "mlp",
    likelihood: str = "bernoulli",
    covariance: str = "diagonal",
    hidden: tuple[int, ...] = (12, 12),
    options: Mapping[str, Any] | None = None,
    augment: str | None = None,
    settings: Mapping[str, Any] | None = None,
    callbacks: tuple[Callback, ...] = (),
    state: FitState | None = None,
) -> Fit:
    """A fit of random rows; the same arguments give the same rows and weights."""
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "x_shape": shape,
        "components": components,
        "latent_dim": latent_dim,
        "network": network,
        "likelihood": likelihood,
        "covariance": covariance,
        "factors": {"view": 3},
        "options": NetworkOptions(hidden=hidden, channels=(4, 8), **(options or {})),
    }
    if guide is not None:
        arguments["guide"] = GUIDES[guide]
    taken = inspect.signature(MODELS[model]).parameters
    chosen = {"epochs": 7, "engine": "captured", "clip_norm": 5.0} | dict(settings or {})
    dtype = torch.float64 if chosen.get("precision") == "f64" else torch.float32
    one = MODELS[model](**{k: v for k, v in arguments.items() if k in taken}).to(DEVICE, dtype)
    loss = OBJECTIVES[objective](
        one.model,
        one.guide,
        latents=one.latents,
        label_sites=one.label_sites,
        regularizers={name: REGULARIZERS[name]() for name in regularizers},
    ).to(DEVICE, dtype)
    labeler = PseudoLabeler(one, 0.3, 4, balanced_over=components) if pseudo_labels else None
    kind = Image(shape) if len(shape) == 3 else Table(shape)
    x, y = _rows(model, rows, shape, components, likelihood, bool((options or {}).get("missing")))
    return Fit(
        loss,
        one,
        Batches(x.to(DEVICE, dtype), y.to(DEVICE), batch, labelled, 0),
        FitSettings(**chosen),
        preprocessing=Preprocessing(kind.augmentation(augment), paired=bool(regularizers)),
        pseudo_labeler=labeler.to(DEVICE, dtype) if labeler else None,
        callbacks=callbacks,
        state=state,
    )


def _rows(
    model: str,
    rows: int,
    shape: tuple[int, ...],
    components: int,
    likelihood: str,
    missing: bool,
) -> tuple[Tensor, Tensor]:
    """(rows, *shape) random numbers, and labels of each third row (-1: none)."""
    numbers = torch.arange(rows)
    x = torch.rand(rows, *shape)
    x = x.round() if likelihood == "bernoulli" else x
    if missing:
        x[::3, ..., 0] = torch.nan
    y = torch.where(numbers % 3 == 0, numbers % components, -1)
    if model == "gmmvae-factors":
        y = torch.stack([y, torch.where(numbers % 2 == 0, numbers % 3, -1)], -1)
    return x, y


# ---------------------------------------------------------------------------------- every case


def cases() -> dict[str, Case]:
    """Arguments of :func:`build` for every model, objective, guide and option, by name."""
    table: dict[str, Case] = {
        f"{model}/{objective}": {"model": model, "objective": objective}
        for model in MODELS
        for objective in OBJECTIVES
        if not (model in TRACE_ONLY and objective in ("analytic", "categorical"))
    }
    for guide in GUIDES:
        table[f"gmmvae:{guide}/trace"] = {"guide": guide}
        if guide != "flow":
            table[f"gmmvae:{guide}/analytic"] = {"guide": guide, **ANALYTIC}
    labels = {"pseudo_labels": True, "augment": "affine"}
    conv = {"batch_norm": True, "dropout": 0.2, "input_noise": 0.1}
    profile = {"likelihood": "normal", "shape": (9,)}
    more: dict[str, Case] = {
        "full covariance": {"covariance": "full"},
        "pseudo-labels, affine": labels,
        "pseudo-labels, affine, deterministic": {**labels, "settings": {"deterministic": True}},
        "regularizers, pairs": {"regularizers": tuple(REGULARIZERS), "augment": "affine"},
        "conv": {"network": "conv", "options": conv},
        "conv-mlp": {"network": "conv-mlp", "options": {"batch_norm": True}},
        "normal, missing": {**profile, "options": {"missing": True}},
        "noise, dropout": {**profile, "augment": "noise,dropout"},
        "bf16": {"settings": {"precision": "bf16"}},
        "f64": {"settings": {"precision": "f64"}},
        "weight decay": {"settings": {"weight_decay": 0.01}},
    }
    return table | {name: ANALYTIC | case for name, case in more.items()}


COMPILED = (
    *("gmmvae/trace", "gmmvae/analytic", "m2/trace", "adgm/trace", "gmmvae:low-rank/analytic"),
    *("conv", "bf16", "pseudo-labels, affine"),
)


def smoke(engine: str, names: tuple[str, ...] = ()) -> Found:
    """Fit each case for a few epochs: ok, BAD (not replayed or not finite), or FAILED."""
    found: Found = {}
    for name, case in cases().items():
        if (engine == "compiled" and name not in COMPILED) or (names and name not in names):
            continue
        started, log = time.perf_counter(), Lines()
        try:
            settings = {**case.get("settings", {}), "engine": engine}
            fit = build(**{**case, "settings": settings, "callbacks": (log,)})
            outcome = fit.run()
            graphs = 0 if fit.cuda_graph_step is None else len(fit.cuda_graph_step._launches)
            finite = all(bool(p.isfinite().all()) for p in fit.module.parameters())
            why = [line for line in log.lines if "not replayed" in line]
            found[name] = {"outcome": outcome, "engine": fit.state.engine, "graphs": graphs}
            found[name] |= {"finite": finite, "why": why}
            good = outcome == "complete" and finite and (engine == "svi" or (graphs and not why))
            word = "ok" if good else "BAD"
        except Exception as error:
            places = [
                line for line in traceback.format_exc().splitlines() if "pyro_gmmvae/" in line
            ]
            found[name] = {"error": _text(error), "where": places[-3:]}
            word = "FAILED"
        seconds = time.perf_counter() - started
        print(
            f"{word:6} {engine} {name}: {json.dumps(found[name])[:400]} {seconds:.1f} s", flush=True
        )
    return found


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def resume(engines: tuple[str, ...] = ("svi", "captured", "compiled")) -> Found:
    """Largest difference of a weight between equal fits, and to a resumed one (0: bit for bit)."""
    found: Found = {}
    options = {"batch_norm": True, "dropout": 0.2}
    for engine in engines:
        for deterministic in (False, True):
            settings = {"engine": engine, "deterministic": deterministic, "epochs": 8}
            case: Case = {
                "pseudo_labels": True,
                "augment": "affine",
                "options": options,
                "settings": settings,
            }

            one, other = _run_whole(case)[0], _run_whole(case)[0]
            states = _run_whole(case, StopAfter(4))[1]
            again = build(**case, state=states[-1])
            again.run()
            name = f"{engine}{' deterministic' if deterministic else ''}"
            found[name] = {"twice": distance(one, other), "resumed": distance(one, again)}
            print(name, found[name], flush=True)
    return found


def _run_whole(case: Case, *callbacks: Callback) -> tuple[Fit, list[FitState]]:
    """A fit that was run, and its checkpoints."""
    fit, states = build(**case, callbacks=callbacks), list[FitState]()
    torch.manual_seed(1)
    fit.run(lambda one: states.append(copy.deepcopy(one.snapshot())))
    return fit, states


def distance(one: Fit, other: Fit) -> float:
    """The largest difference of a weight of two fits."""
    pairs = zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


# ---------------------------------------------------------------------------------- timings


def synchronized(function: Callable[[], Any], times: int) -> float:
    """Mean seconds of a call, after one call that is not counted."""
    function()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        function()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / times


def ceilings() -> Found:
    """Speeds of the device: copies, matrix products, small kernels alone and in a graph."""
    found: Found = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    found["copy TB/s"] = _copied_bytes(2**29) / 1e12
    f32, bf16 = torch.float32, torch.bfloat16
    for name, dtype, tf32 in (("f32", f32, False), ("tf32", f32, True), ("bf16", bf16, False)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        x = torch.randn(8192, 8192, device=DEVICE, dtype=dtype)
        seconds = synchronized(lambda x=x: torch.mm(x, x), 5)  # type: ignore[misc]
        found[f"{name} TFLOP/s"] = 2 * 8192**3 / seconds / 1e12
    torch.backends.cuda.matmul.allow_tf32 = False
    # 1,000 small kernels, each of which waits for the one before
    x = torch.zeros(1000, device=DEVICE)

    def kernels() -> None:
        for _ in range(1000):
            x.add_(1)

    graph = torch.cuda.CUDAGraph()
    x.add_(1)
    with torch.cuda.graph(graph):
        kernels()
    found["us per small kernel in a graph"] = synchronized(graph.replay, 20) * 1e3
    found["us per small kernel, eager"] = synchronized(kernels, 5) * 1e3
    print(json.dumps(found, indent=1), flush=True)
    return found


def _copied_bytes(count: int) -> float:
    """Bytes per second, read and written, of a copy of ``count`` numbers."""
    a = torch.randn(count, device=DEVICE)
    b = torch.empty_like(a)
    return 2 * a.numel() * 4 / synchronized(lambda: b.copy_(a), 10)


def mnist_like(**more: Any) -> dict[str, Any]:
    """Arguments of :func:`build` of the size of MNIST."""
    case = {"shape": (784,), "components": 10, "latent_dim": 50, "hidden": (500, 500)}
    return case | {"rows": 12_000, "labelled": 0} | more


def timed(fit: Fit, steps: int, *, graph: bool = True) -> dict[str, float]:
    """Milliseconds of a whole step and of its replay alone, seconds to prepare, peak MiB."""
    started = time.perf_counter()
    with fit.switches():
        fit.prepare()
        prepared = time.perf_counter() - started
        if not graph:
            fit.cuda_graph_step = None
        rows = _full_batches(fit)
        for _ in range(12):
            fit.step(*next(rows))
        times = [synchronized(lambda: fit.step(*next(rows)), steps) for _ in range(5)]
        found = {"ms": 1e3 * statistics.median(times), "prepare_seconds": prepared}
        launch = _launch(fit)
        if launch is not None:
            found["replay_ms"] = 1e3 * synchronized(launch, steps)
        found["mib"] = torch.cuda.max_memory_allocated() / 2**20
    return {name: round(value, 4) for name, value in found.items()}


def _full_batches(fit: Fit) -> Iterator[tuple[Tensor, Tensor]]:
    size = max(len(x) for x, _ in fit.batches.examples())
    while True:
        yield from (batch for batch in fit.batches.epoch() if len(batch[0]) == size)


def _launch(fit: Fit) -> Callable[[], Any] | None:
    step = fit.cuda_graph_step
    return next(iter(step._launches.values()), None) if step is not None else None


def _measure(found: Found, name: str, case: Case, steps: int = 30, *, graph: bool = True) -> None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        found[name] = timed(build(**case), steps, graph=graph)
    except Exception as error:
        found[name] = {"error": _text(error)}
    print(name, found[name], flush=True)


def steps() -> Found:
    """Costs of a step: by engine with and without a graph, by batch size, with TF32 or not."""
    found: Found = {}
    eager, captured, compiled = ("svi", False), ("captured", False), ("compiled", False)
    graphs = (("captured", True), ("compiled", True))
    for batch in (100, 200, 1000, 4000):
        for engine, graph in (eager, captured, graphs[0], compiled, graphs[1]):
            if engine != "compiled" or batch in (100, 1000):
                case = mnist_like(batch=batch, settings={"engine": engine, "verify": False})
                name = f"batch {batch} {engine}{' graph' if graph else ''}"
                _measure(found, name, case, 50 if engine == "svi" else 200, graph=graph)
    for batch, engine in ((100, "compiled"), (4000, "captured")):
        case = mnist_like(batch=batch, settings={"engine": engine, "precision": "bf16"})
        _measure(found, f"batch {batch} {engine} bf16 graph", case, 100)
    torch.backends.cuda.matmul.allow_tf32 = True
    for batch in (100, 1000, 4000):
        _measure(found, f"batch {batch} captured graph tf32", mnist_like(batch=batch), 100)
    torch.backends.cuda.matmul.allow_tf32 = False
    found["profile"] = profile()
    print(json.dumps(found["profile"])[:1500], flush=True)
    return found


def profile() -> Found:
    """Kernels of one step in its graph, and the microseconds of each kind."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    fit = build(**mnist_like(batch=100))
    timed(fit, 5)
    launch = _launch(fit)
    if launch is None:
        return {"error": "the step was not recorded"}
    with profiler(activities=[ProfilerActivity.CUDA]) as events:
        for _ in range(10):
            launch()
        torch.cuda.synchronize()
    rows = sorted(events.key_averages(), key=lambda row: -row.device_time_total)
    return {
        "kernels": sum(row.count for row in rows) / 10,
        "us": sum(row.device_time_total for row in rows) / 10,
        "largest": [
            (r.key[:80], r.count / 10, round(r.device_time_total / 10, 2)) for r in rows[:25]
        ],
    }


def scaling() -> Found:
    """Costs of a step by number of components, rows and batch size."""
    found: Found = {}
    for guide in ("product", "low-rank"):
        for K in (10, 100, 1000):
            for engine in ("captured", "compiled"):
                settings = {"engine": engine, "verify": False}
                case = mnist_like(guide=guide, components=K, batch=100, settings=settings)
                _measure(found, f"{guide} K={K} {engine}", case)
    for rows in (10**4, 10**6, 10**7):
        case = mnist_like(shape=(16,), hidden=(64, 64), latent_dim=8, rows=rows)
        _measure(found, f"rows {rows}", case)
    for batch in (100, 1000, 10_000, 50_000):
        _measure(found, f"batch {batch}", mnist_like(batch=batch, rows=100_000))
    return found


def memory() -> Found:
    """The error of a batch that does not fit: one line, which names a batch size that fits."""
    large = mnist_like(components=1000, latent_dim=200, batch=60_000, rows=70_000)
    found: Found = {"advice": {"error": "the batch fits"}}
    try:
        build(**large, settings={"epochs": 1}).run()
    except Exception as error:
        found["advice"] = {"text": str(error)}
    print(found, flush=True)
    return found


MODES: dict[str, Callable[[], Found]] = {
    "captured": lambda: smoke("captured"),
    "compiled": lambda: smoke("compiled"),
    "svi": lambda: smoke("svi"),
    "resume": resume,
    "ceilings": ceilings,
    "steps": steps,
    "scaling": scaling,
    "memory": memory,
}


def main(arguments: list[str]) -> int:
    """Run one mode; returns 1 if a case has a complaint."""
    if not arguments or arguments[0] not in MODES:
        print(__doc__)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    warnings.simplefilter("ignore")
    found = MODES[arguments[0]]()
    bad = [k for k, v in found.items() if isinstance(v, dict) and (v.get("error") or v.get("why"))]
    if len(arguments) > 1:
        Path(arguments[1]).write_text(json.dumps(found, indent=1))
    print(f"{len(found)} cases, {len(bad)} with a complaint: {', '.join(bad)[:600]}", flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
