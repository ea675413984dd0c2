"""Checks of training on a device: does it run, and is it right?

    python benchmarks/gpu_smoke.py captured --out FILE.json

Modes: captured, compiled and svi fit each model, objective and guide with that engine; agree
compares losses and gradients with the CPU's, from equal random numbers; resume compares equal fits,
and one that was stopped and resumed, bit for bit; moved stops a run on the device and resumes it on
the CPU, and back; out-of-memory lets the device run out of memory. :mod:`gpu` runs them in stages.
"""

import gc
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from gpu_fits import (
    Bench,
    Case,
    Found,
    Lines,
    StopAfter,
    bench_command,
    build,
    distance,
    run_whole,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from pyro_gmmvae.cli import run
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_json
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.objectives import OBJECTIVES, REGULARIZERS
from pyro_gmmvae.runs import default_config, train
from pyro_gmmvae.runs import resume as resume_run
from pyro_gmmvae.training import Callback

TRACE_ONLY = ("m1m2", "adgm", "sdgm")  # models without a closed form of the other objectives
ANALYTIC = {"objective": "analytic"}
# largest difference to the CPU, relative to the largest entry of each tensor
TOLERANCES = {"f64": 1e-9, "f32": 1e-3}


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


TOY = ("gmmvae/trace", "m2/analytic", "pseudo-labels, affine", "f64")


def chosen_cases(bench: Bench) -> dict[str, Case]:
    """All cases, or some of them at toy size."""
    return {name: case for name, case in cases().items() if not bench.quick or name in TOY}


def smoke(bench: Bench, engine: str) -> None:
    """Fit each case for a few epochs: the outcome, and whether the step became a CUDA graph."""
    for name, case in chosen_cases(bench).items():
        if engine != "compiled" or name in COMPILED[: 1 if bench.quick else None]:
            bench.measure(name, lambda case=case: _fit_once(bench, engine, case))


def _fit_once(bench: Bench, engine: str, case: Case) -> Found:
    log = Lines()
    settings = {**case.get("settings", {}), "engine": engine}
    fit = build(bench.device, **{**case, "settings": settings, "callbacks": (log,)})
    outcome = fit.run()
    graphs = 0 if fit.cuda_graph_step is None else len(fit.cuda_graph_step._launches)
    finite = all(bool(p.isfinite().all()) for p in fit.module.parameters())
    why = [line for line in log.lines if "not replayed" in line]
    if outcome != "complete" or not finite:
        why.append("the fit is not complete, or a weight is not finite")
    if bench.is_cuda and engine != "svi" and not graphs:
        why.append("no step became a CUDA graph")
    return {"outcome": outcome, "engine": fit.state.engine, "graphs": graphs, "why": why}


# ---------------------------------------------------------------------------------- right?


class HostNoise(TorchDispatchMode):
    """Draws all random numbers on the CPU, so that two devices compute from the same ones."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        own = next((a.device for a in args if isinstance(a, Tensor)), kwargs.get("device"))
        moved = tree_map(lambda a: a.cpu() if isinstance(a, Tensor) else a, args)
        here = {"device": "cpu"} if "device" in kwargs else {}
        drawn = func(*moved, **{**kwargs, **here})
        first = func._schema.arguments[0].alias_info
        if first is not None and first.is_write:
            return args[0].copy_(drawn)
        return tree_map(lambda t: t.to(own) if isinstance(t, Tensor) else t, drawn)


def agree(bench: Bench) -> None:
    """The largest relative difference of a loss or gradient between the device and the CPU."""
    for name, case in chosen_cases(bench).items():
        precision = case.get("settings", {}).get("precision")
        if precision != "bf16":
            for type_ in ("f64", "f32"):
                bench.measure(f"{name} {type_}", lambda c=case, t=type_: _difference(bench, c, t))


def _difference(bench: Bench, case: Case, precision: str) -> Found:
    # the two kinds of device have different kernels of dropout, which draw other numbers
    options = {**case.get("options", {}), "dropout": 0.0}
    case = {**case, "options": options, "settings": {"engine": "svi", "precision": precision}}
    here, there = (_loss_and_gradients(d, case) for d in (torch.device("cpu"), bench.device))
    worst = max(
        float((there[name] - value).abs().max() / value.abs().max().clamp_min(1e-30))
        for name, value in here.items()
    )
    found: Found = {"difference": worst, "tolerance": TOLERANCES[precision]}
    good = here.keys() == there.keys() and worst <= TOLERANCES[precision]
    return found if good else found | {"error": "the losses or gradients differ"}


def _loss_and_gradients(device: torch.device, case: Case) -> dict[str, Tensor]:
    fit = build(device, **case)
    with fit.switches():
        fit.prepare()
        x, y = fit.batches.examples()[0]
        torch.manual_seed(1)
        with HostNoise():
            seen, *original = fit.preprocessing(x)
            terms = fit.engine(seen, y, *original)
    found = {"loss": terms.loss.detach(), **terms.parts}
    found |= {n: p.grad for n, p in fit.module.named_parameters() if p.grad is not None}
    return {name: value.double().cpu() for name, value in found.items()}


def resume(bench: Bench, engines: tuple[str, ...] = ("captured", "svi", "compiled")) -> None:
    """Largest difference of a weight between equal fits, and to a resumed one (0: bit for bit)."""
    for engine in engines[: 1 if bench.quick else None]:
        for deterministic in (True, False):
            name = f"{engine}{' deterministic' if deterministic else ''}"
            bench.measure(name, lambda e=engine, d=deterministic: _repeated(bench, e, d))


def _repeated(bench: Bench, engine: str, deterministic: bool) -> Found:
    case: Case = {
        "pseudo_labels": True,
        "augment": "affine",
        "options": {"batch_norm": True, "dropout": 0.2},
        "settings": {"engine": engine, "deterministic": deterministic, "epochs": 8},
    }
    one, other = run_whole(bench.device, case)[0], run_whole(bench.device, case)[0]
    states = run_whole(bench.device, case, StopAfter(4))[1]
    again = build(bench.device, **case, state=states[-1])
    again.run()
    found: Found = {"twice": distance(one, other), "resumed": distance(one, again)}
    if deterministic and any(found.values()):
        found["error"] = "deterministic fits differ"
    return found


def moved(bench: Bench) -> None:
    """Runs that were stopped on one kind of device and resumed on the other."""
    device = str(bench.device)
    for engine in ("svi", "captured"):
        keys = {"engine": engine, **_size_of_run(bench)}
        for first, then in dict.fromkeys(((device, "cpu"), ("cpu", device), (device, device))):
            name = f"{engine}, {first} to {then}"
            bench.measure(name, lambda f=first, t=then, k=keys: _moved(f, t, k))


def _size_of_run(bench: Bench) -> dict[str, Any]:
    return {"epochs": 4, "hidden": "8", "latent_dim": 2} if bench.quick else {"epochs": 20}


def _moved(first: str, then: str, keys: Mapping[str, Any]) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        config = default_config("digits", {**keys, "device": first})
        train(config, out, callbacks=[StopAfter(keys["epochs"] // 2)])
        resumed = resume_run(out, device=then)
        metrics = read_json(out / "metrics.json")
        found: Found = {key: metrics[key] for key in ("outcome", "epochs", "engine")}
        found["val_accuracy"] = metrics["training"]["val_accuracy"]
        found["accuracy"] = resumed.evaluate(nll_rows=0, draws=0)["accuracy"]
    if (found["outcome"], found["epochs"]) != ("complete", keys["epochs"]):
        found["error"] = "the resumed run is not complete"
    return found


# ---------------------------------------------------------------------------------- memory


class FillMemory(Callback):
    """Takes the device's memory away after an epoch."""

    def __init__(self, bench: Bench, epoch: int) -> None:
        self.bench, self.epoch = bench, epoch

    def on_epoch(self, record: Mapping[str, float]) -> None:
        if record["epoch"] == self.epoch:
            _allow(self.bench, 0.0)


def _allow(bench: Bench, share: float) -> None:
    """Allow this process a share of the device's memory, beyond which allocations fail."""
    gc.collect()
    if bench.is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(share)
    elif not share:
        raise torch.OutOfMemoryError("a CPU has no such limit")


def out_of_memory(bench: Bench) -> None:
    """The errors of a device that runs out of memory: at the start, and in the middle of a fit."""
    bench.measure("in the middle of a run", lambda: _runs_out(bench))
    if bench.is_cuda:
        bench.measure("a batch that does not fit", lambda: _too_large(bench))


def _runs_out(bench: Bench) -> Found:
    keys = {"engine": "captured", "device": str(bench.device), **_size_of_run(bench)}
    epochs = keys["epochs"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        config = default_config("digits", keys)
        train(config.replace(epochs=1), out)  # its checkpoint has to stay
        found: Found = {"error": "the memory is enough"}
        try:
            resume_run(out, epochs=epochs, callbacks=[FillMemory(bench, 2)])
        except GMMVAEError as error:
            found = {"text": str(error)}
        _allow(bench, 1.0)
        resume_run(out, epochs=epochs)
        found["outcome"] = read_json(out / "metrics.json")["outcome"]
    return found if "\n" not in found.get("text", "") else found | {"error": "not one line"}


def _too_large(bench: Bench) -> Found:
    large = {"shape": (784,), "components": 1000, "latent_dim": 200, "hidden": (500, 500)}
    large |= {"rows": 70_000, "settings": {"epochs": 1}, "labelled": 0}
    _allow(bench, 0.1)
    try:
        try:
            build(bench.device, **large, batch=60_000).run()
        except GMMVAEError as error:
            text = str(error)
        else:
            return {"error": "the batch fits"}
        gc.collect()
        torch.cuda.empty_cache()
        fits = re.search(r"one of (\d+) does", text)
        if fits is None:
            return {"error": f"no batch size in: {text}"}
        advised = build(bench.device, **large, batch=int(fits[1]))
        return {"text": text, "outcome with that batch": advised.run()}
    finally:
        _allow(bench, 1.0)


MODES: dict[str, Callable[[Bench], None]] = {
    "captured": lambda bench: smoke(bench, "captured"),
    "compiled": lambda bench: smoke(bench, "compiled"),
    "svi": lambda bench: smoke(bench, "svi"),
    "agree": agree,
    "resume": resume,
    "moved": moved,
    "out-of-memory": out_of_memory,
}
main = bench_command(MODES, __doc__)

if __name__ == "__main__":
    run(main)
