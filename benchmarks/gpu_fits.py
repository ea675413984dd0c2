"""Fits of random rows for the checks and timings on a GPU, and the file of their results."""

import copy
import inspect
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from pyro_gmmvae.data import Image, Table
from pyro_gmmvae.files import write_json
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES, REGULARIZERS
from pyro_gmmvae.runs import machine
from pyro_gmmvae.training import (
    Batches,
    Callback,
    Fit,
    FitSettings,
    FitState,
    Preprocessing,
    PseudoLabeler,
    resolve_device,
)

Case = Mapping[str, Any]
Found = dict[str, Any]


class Bench:
    """The device, the size, and the results, which are in the file after each one.

    Args:
        device: where to compute.
        quick: toy sizes, which only show that the code runs.
        file: of the results, or None.
        about: the first entries of the file.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        quick: bool = False,
        file: Path | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.device, self.quick, self.file = device, quick, file
        self.about = dict(about or {}) | {"quick": quick, "machine": machine(device)}
        self.found: Found = {}

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def add(self, name: str, numbers: Any) -> None:
        """Print a result, and write all results: a process that is killed keeps them."""
        self.found[name] = numbers
        word = "BAD " if is_complaint(numbers) else ""
        click.echo(f"{word}{name}: {str(numbers)[:500]}")
        if self.file is not None:
            content = {"complaints": self.complaints(), "found": self.found}
            write_json(self.file, self.about | content)

    def measure(self, name: str, function: Callable[[], Found]) -> Found:
        """Add the result of a function, or its error."""
        try:
            numbers = function()
        except Exception as error:
            lines = traceback.format_exc().splitlines()
            where = [line.strip() for line in lines if "pyro_gmmvae/" in line or "gpu_" in line]
            numbers = {"error": f"{type(error).__name__}: {error}"[:500], "where": where[-3:]}
        self.add(name, numbers)
        return numbers

    def complaints(self) -> list[str]:
        """The names of the results that are an error, or are not as they have to be."""
        return [name for name, numbers in self.found.items() if is_complaint(numbers)]

    def synchronize(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()


def is_complaint(numbers: Any) -> bool:
    return isinstance(numbers, dict) and bool(numbers.get("error") or numbers.get("why"))


def seconds_of(bench: Bench, function: Callable[[], Any], times: int) -> float:
    """Mean seconds of a call, after one call that is not counted."""
    function()
    bench.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        function()
    bench.synchronize()
    return (time.perf_counter() - start) / times


def rounded(found: Mapping[str, Any]) -> Found:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()}


def bench_command(modes: Mapping[str, Callable[[Bench], None]], doc: str) -> click.Command:
    """The command line of a script: MODE, --device, --quick and --out."""

    @click.command(help=doc)
    @click.argument("mode", type=click.Choice(list(modes)))
    @click.option("--device", default="cuda", show_default=True)
    @click.option("--quick", is_flag=True, help="Toy sizes: shows only that the code runs.")
    @click.option("--out", type=click.Path(path_type=Path), help="JSON file of the results.")
    def main(mode: str, device: str, quick: bool, out: Path | None) -> int:
        about = {"mode": mode, "script": Path(inspect.getfile(modes[mode])).stem}
        bench = Bench(resolve_device(device), quick=quick, file=out, about=about)
        modes[mode](bench)
        bad = bench.complaints()
        click.echo(f"{len(bench.found)} results, {len(bad)} with a complaint: {', '.join(bad)}")
        return int(bool(bad))

    return main


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
    device: torch.device,
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
    one = MODELS[model](**{k: v for k, v in arguments.items() if k in taken}).to(device, dtype)
    loss = OBJECTIVES[objective](
        one.model,
        one.guide,
        latents=one.latents,
        label_sites=one.label_sites,
        regularizers={name: REGULARIZERS[name]() for name in regularizers},
    ).to(device, dtype)
    labeler = PseudoLabeler(one, 0.3, 4, balanced_over=components) if pseudo_labels else None
    kind = Image(shape) if len(shape) == 3 else Table(shape)
    x, y = _rows(model, rows, shape, components, likelihood, bool((options or {}).get("missing")))
    return Fit(
        loss,
        one,
        Batches(x.to(device, dtype), y.to(device), batch, labelled, 0),
        FitSettings(**chosen),
        preprocessing=Preprocessing(kind.augmentation(augment), paired=bool(regularizers)),
        pseudo_labeler=labeler.to(device, dtype) if labeler else None,
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


def run_whole(device: torch.device, case: Case, *callbacks: Callback) -> tuple[Fit, list[FitState]]:
    """A fit that was run, and its checkpoints."""
    fit, states = build(device, **case, callbacks=callbacks), list[FitState]()
    torch.manual_seed(1)
    fit.run(lambda one: states.append(copy.deepcopy(one.snapshot())))
    return fit, states


def distance(one: Fit, other: Fit) -> float:
    """The largest difference of a weight of two fits."""
    pairs = zip(one.module.state_dict().values(), other.module.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
