"""Fits side by side as one batched program against the same fits one by one.

    python benchmarks/side_by_side.py --out benchmarks/results/side_by_side.json
    python benchmarks/side_by_side.py --device cuda --fits 4,32 --out OUT.json

Measures time, memory and equality. A fit has random rows of the size of MNIST, K = 10, a batch of
100, and networks of two layers. Times are medians of a step of one fit, taken in turns in one
process; memory is the largest of a process that does nothing else (on CUDA, of the device; else on
Linux only). The differences are those of the loss and the weights after 20 steps. --quick takes toy
sizes, to test this script.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import torch
from gpu_fits import Bench, build

from pyro_gmmvae.cli import run
from pyro_gmmvae.cli.options import NameList
from pyro_gmmvae.training import Fit, resolve_device
from pyro_gmmvae.training.devices import rng_state, set_rng_state
from pyro_gmmvae.training.fit_group import FitGroup
from pyro_gmmvae.training.signals import StopRequest

WIDTHS = {"64-64": ((64, 64), 10), "500-500": ((500, 500), 50)}
TOY = {"4-4": ((4, 4), 2)}


@dataclass(frozen=True)
class Size:
    """Sizes of a measurement.

    Attributes:
        name: of the device.
        fits: their number S.
        hidden, latent_dim: of the networks and of z.
        steps: of an epoch.
    """

    name: str
    fits: int
    hidden: tuple[int, ...]
    latent_dim: int
    steps: int

    @property
    def device(self) -> torch.device:
        return resolve_device(self.name)


def fits_of(size: Size, precision: str = "f32") -> list[Fit]:
    """S fits that differ in weights, order of rows and noise."""
    made = []
    for seed in range(size.fits):
        fit = build(
            size.device,
            shape=(784,),
            components=10,
            latent_dim=size.latent_dim,
            hidden=size.hidden,
            rows=size.steps * 100,
            batch=100,
            labelled=0,
            settings={"precision": precision, "verify": False, "epochs": 1000},
        )
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in fit.module.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        fit.batches.generator.manual_seed(seed)
        made.append(fit)
    return made


def one_by_one(fits: Sequence[Fit]) -> Callable[[], None]:
    """An epoch of each fit, one fit after the other."""
    noise = [rng_state(fit.device) for fit in fits]
    for fit in fits:
        fit.prepare()

    def epoch() -> None:
        for number, fit in enumerate(fits):
            set_rng_state(fit.device, noise[number])
            for x, y in fit.batches.epoch():
                fit.step(x, y)
            noise[number] = rng_state(fit.device)
            fit.state.batch = 0

    return epoch


def together(fits: Sequence[Fit]) -> Callable[[], None]:
    """An epoch of all fits as one program."""
    group = FitGroup(fits, [rng_state(fit.device) for fit in fits])
    group.begin()

    def epoch() -> None:
        group.run_batches(StopRequest())
        for fit in fits:
            fit.state.batch = 0

    return epoch


MODES = {"one by one": one_by_one, "side by side": together}


def seconds_of(device: torch.device, function: Callable[[], None]) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def times(size: Size, rounds: int) -> dict[str, float]:
    """Milliseconds of a step of one fit in each mode, and how much faster all at once are."""
    fits = {name: fits_of(size) for name in MODES}
    with fits["one by one"][0].switches():
        epochs = {name: mode(fits[name]) for name, mode in MODES.items()}
        taken: dict[str, list[float]] = {name: [] for name in MODES}
        for epoch in epochs.values():
            epoch()
        for _ in range(rounds):
            for name, epoch in epochs.items():
                taken[name].append(seconds_of(size.device, epoch))
    steps = size.fits * size.steps
    ms = {f"{name}, ms": 1e3 * statistics.median(t) / steps for name, t in taken.items()}
    ratios = [a / b for a, b in zip(*taken.values(), strict=True)]
    return ms | {"times as fast": statistics.median(ratios)}


def difference(size: Size, precision: str) -> dict[str, float]:
    """The largest relative difference of losses and of weights after an epoch in both modes."""
    fits = {name: fits_of(size, precision) for name in MODES}
    with fits["one by one"][0].switches():
        for name, mode in MODES.items():
            torch.manual_seed(0)  # the same noise for a fit in both modes
            mode(fits[name])()
    loss = weights = 0.0
    for one, other in zip(*fits.values(), strict=True):
        mine, theirs = (fit.means.take(size.steps)["loss"] for fit in (one, other))
        loss = max(loss, abs(mine - theirs) / abs(theirs))
        for a, b in zip(one.module.parameters(), other.module.parameters(), strict=True):
            largest = b.detach().abs().max()
            weights = max(weights, float((a.detach() - b.detach()).abs().max() / largest))
    return {f"loss, {precision}": loss, f"weights, {precision}": weights}


def peak(size: Size, mode: str) -> float:
    """Peak memory of some epochs, MiB."""
    torch.set_num_threads(1)
    fits = fits_of(size)
    with fits[0].switches():
        epoch = MODES[mode](fits)
        for _ in range(2):
            epoch()
    if size.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    # that of getrusage counts the process that started this one, too
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def measured(function: Callable[..., Any], *args: Any) -> Any:
    """The result of a function in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


@click.command(help=__doc__)
@click.option("--device", default="cpu", show_default=True)
@click.option("--fits", type=NameList(), default="1,4,16", show_default=True)
@click.option("--quick", is_flag=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(device: str, fits: Sequence[str], quick: bool, out: Path) -> None:
    """Measure each size and number of fits; the file has all results so far."""
    widths, steps, rounds = (TOY, 2, 1) if quick else (WIDTHS, 20, 7)
    place = resolve_device(device)
    if place.type == "cpu":
        torch.set_num_threads(1)
    about = {"mode": "side by side", "script": "side_by_side"}
    bench = Bench(place, quick=quick, file=out, about=about)
    for network, (hidden, d) in widths.items():
        for S in map(int, fits[:2] if quick else fits):
            size = Size(device, S, hidden, d, steps)
            line = times(size, rounds)
            for mode in MODES:
                line[f"{mode}, MiB"] = round(measured(peak, size, mode))
            for precision in ("f64", "f32"):
                line |= difference(size, precision)
            bench.add(f"{network}, fits: {S}", line)
            gc.collect()


if __name__ == "__main__":
    run(main)
