"""Milliseconds of a training step, by every engine and its peers, interleaved in one process.

python benchmarks/speed.py --quick --out speed.json
python benchmarks/speed.py --data-dir DIR --out benchmarks/results/speed.json     # on MNIST's rows

A timed step is a whole one: fetching the batch, loss, gradients, optimizer. The contenders:

    stock          pyro.infer.SVI.step, pyro.optim.Adam, a DataLoader: the README of Pyro
    svi_fused      Trace_ELBO under Pyro's handlers, one fused Adam, rows indexed in memory
    raw            the same ELBO hand-written in PyTorch, one fused Adam, rows indexed in memory
    captured, compiled, compiled_bf16    this package's loop with that engine
    pyro_vae, pyro_m2    the structure of Pyro's examples at the same sizes, as stock

    raw_compiled   the hand-written module under torch.compile, with the same Adam (not in --quick)
    numpyro        the same model in NumPyro, jitted, on a CPU and where it is installed

"stock", "raw" and "svi_fused" run as usual: subnormal numbers are not flushed, and Pyro validates;
this package's loop flushes them and does not validate. "prepare_seconds" is the time to capture or
compile before the first step. The process is pinned to as many cores as it has threads, because XLA
has no option for it.

Each takes some steps in turn, round after round; the medians over all steps count (on a GPU, where
steps queue up, the medians over rounds, which are waited for). Before the timing the hand-written
loss and its gradients are compared with Trace_ELBO's on the same seed. "third_epoch" starts all
from the weights and Adam moments of 1,200 steps at batch 100, when the moments of rarely lit pixels
have become subnormal numbers.
"""

import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import pyro
import torch
from peers import PIXELS, HandWritten, PyroM2, PyroVAE
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from pyro_gmmvae.cli import run
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import GMMVAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES
from pyro_gmmvae.runs import machine
from pyro_gmmvae.training import Batches, Fit, FitSettings, resolve_device
from pyro_gmmvae.training.cuda_graphs import WARM_UP

K, TEMPERATURE, RATE = 10, 0.5, 1e-3
NETS = {"": ((500, 500), 50), "tiny_": ((32,), 8)}
AGE_STEPS = 1200


def main_rows(data_dir: str | None, n: int) -> Tensor:
    """MNIST's rows, or as many black ones with pixels lit as rarely as MNIST's rarest."""
    if data_dir is not None:
        from pyro_gmmvae.data import DataOptions
        from pyro_gmmvae.datasets import load_data

        x = load_data("mnist", DataOptions(data_dir=Path(data_dir))).x[:n]
        return torch.from_numpy(x).float().reshape(-1, PIXELS) / 255
    generator = torch.Generator().manual_seed(0)
    away = (torch.arange(28) - 13.5).abs() / 14
    # from a half in the middle to a millionth in the corners
    probs = 0.5 * torch.exp(-13 * (away[:, None].square() + away.square()) / 2)
    return torch.bernoulli(probs.flatten().expand(n, PIXELS), generator=generator)


class Contender:
    """A contender, which takes training steps.

    Args:
        device: where it computes.
        module: owns the parameters, in the order of ``GMMVAE``'s where they are to be aged.
        batches: endless batches.
        step: takes one.
        optimizers: hold the parameters' Adam moments.
        switches: entered around its steps.
    """

    def __init__(
        self,
        device: torch.device,
        module: nn.Module,
        batches: Iterator[Any],
        step: Callable[..., Any],
        optimizers: Callable[[], list[torch.optim.Optimizer]] = list,
        switches: Callable[[], Any] = nullcontext,
    ) -> None:
        self.device, self.module = device, module
        self.batches, self.step = batches, step
        self.optimizers, self.switches = optimizers, switches
        self.prepare_seconds: float | None = None

    def run(self, steps: int) -> list[float]:
        """Seconds of each of some steps; on a GPU, of their mean."""
        seconds = []
        waits = self.device.type == "cuda"
        with self.switches():
            for _ in range(1 if waits else steps):
                if waits:
                    torch.cuda.synchronize()
                start = time.perf_counter()
                for _ in range(steps if waits else 1):
                    self.step(*next(self.batches))
                if waits:
                    torch.cuda.synchronize()
                seconds.append((time.perf_counter() - start) / (steps if waits else 1))
        return seconds

    def moments(self) -> list[dict[str, Tensor]]:
        """Adam's state by parameter, in the module's order."""
        states = {p: s for o in self.optimizers() for p, s in o.state.items()}
        return [states[p] for p in self.module.parameters()]

    def become(self, other: "Contender") -> None:
        """Copy the weights and moments of another contender of the same model."""
        self.run(1)  # so that there are moments
        pairs = zip(self.module.parameters(), other.module.parameters(), strict=True)
        for mine, theirs in pairs:
            mine.data.copy_(theirs)
        for mine, theirs in zip(self.moments(), other.moments(), strict=True):
            for name in mine:
                mine[name].copy_(theirs[name])


def build_model(net: str, device: torch.device) -> GMMVAE:
    hidden, d = NETS[net]
    torch.manual_seed(0)
    options = NetworkOptions(hidden=hidden)
    return GMMVAE((PIXELS,), K, d, temperature=TEMPERATURE, options=options).to(device)


def endless(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from (b for b in batches.epoch() if len(b[0]) == batches.shuffled)


def loaded(x: Tensor, batch: int) -> Iterator[tuple[Tensor]]:
    loader = DataLoader(TensorDataset(x.cpu()), batch_size=batch, shuffle=True, drop_last=True)
    while True:
        yield from ((rows.to(x.device),) for (rows,) in loader)


def stock(program: Any, elbo: Any, x: Tensor, batch: int) -> Contender:
    svi = SVI(program.model, program.guide, pyro.optim.Adam({"lr": RATE}), elbo)
    batches = loaded(x, batch)
    return Contender(
        x.device, program, batches, svi.step, lambda: list(svi.optim.optim_objs.values())
    )


def fused(module: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor, batch: int) -> Contender:
    optimizer = torch.optim.Adam(module.parameters(), lr=RATE, fused=True)

    def step(x: Tensor, y: Tensor) -> None:  # noqa: ARG001
        optimizer.zero_grad(set_to_none=True)
        loss(x).backward()
        optimizer.step()

    batches = Batches(x, torch.full((len(x),), -1, device=x.device), batch, 0, 0)
    return Contender(x.device, module, endless(batches), step, lambda: [optimizer])


def ours(engine: str, precision: str, net: str, x: Tensor, batch: int) -> Contender:
    model = build_model(net, x.device)
    objective = OBJECTIVES["trace"](
        model.model, model.guide, latents=model.latents, label_sites=("s",)
    )
    objective = objective.to(x.device)
    settings = FitSettings(
        epochs=1, learning_rate=RATE, decay="constant", engine=engine, precision=precision
    )
    batches = Batches(x, torch.full((len(x),), -1, device=x.device), batch, 0, 0)
    fit = Fit(objective, model, batches, settings)
    start = time.perf_counter()
    with fit.switches():
        fit.prepare()
    adam = fit.optimizer.adam
    one = Contender(x.device, model, endless(batches), fit.step, lambda: [adam], fit.switches)
    one.prepare_seconds = time.perf_counter() - start
    return one


def svi_fused(net: str, x: Tensor, batch: int) -> Contender:
    model = build_model(net, x.device)
    elbo = Trace_ELBO()
    return fused(
        model,
        lambda rows: elbo.differentiable_loss(model.model, model.guide, rows) / len(rows),
        x,
        batch,
    )


def hand_written(net: str, device: torch.device) -> HandWritten:
    hidden, d = NETS[net]
    raw = HandWritten(hidden, K, d, TEMPERATURE)
    like = build_model(net, torch.device("cpu"))
    for mine, theirs in zip(raw.parameters(), like.parameters(), strict=True):
        mine.data.copy_(theirs.data)
    return raw.to(device)


def in_numpyro(net: str, x: Tensor, batch: int) -> Contender:
    """The same model in NumPyro.

    Raises:
        GMMVAEError: where it is not installed, or the rows are on a GPU.
    """
    if x.device.type != "cpu":
        raise GMMVAEError("it is compared on CPUs")
    try:
        from numpyro_peer import NumPyro, check
    except ImportError as error:
        raise GMMVAEError("NumPyro is not installed") from error
    raw = hand_written(net, x.device)
    peer = NumPyro(raw, NETS[net][0], x, RATE)
    check(peer, raw, x)
    return Contender(x.device, nn.Module(), peer.batches(batch), peer.step)


def check_hand_written(net: str, x: Tensor) -> None:
    """Check that the hand-written loss equals Trace_ELBO, in value and gradients, on one seed."""
    raw, model = hand_written(net, x.device), build_model(net, x.device)
    torch.manual_seed(1)
    loss = raw(x)
    loss.backward()
    torch.manual_seed(1)
    wanted = Trace_ELBO().differentiable_loss(model.model, model.guide, x) / len(x)
    wanted.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    for a, b in zip(raw.parameters(), model.parameters(), strict=True):
        assert (a.grad - b.grad).abs().max() <= 1e-4 * b.grad.abs().max()


def contenders(
    net: str, x: Tensor, batch: int, quick: bool, toy: bool = False
) -> dict[str, Contender]:
    """Build all contenders of one size; those that can't run here are logged and left out."""
    pyro.clear_param_store()
    sizes = (NETS[net][0], K, NETS[net][1])
    raw, raw_too = hand_written(net, x.device), hand_written(net, x.device)
    builders: dict[str, Callable[[], Contender]] = {
        "stock": lambda: stock(build_model(net, x.device), Trace_ELBO(), x, batch),
        "svi_fused": lambda: svi_fused(net, x, batch),
        "raw": lambda: fused(raw, raw, x, batch),
        "captured": lambda: ours("captured", "f32", net, x, batch),
        "compiled": lambda: ours("compiled", "f32", net, x, batch),
        "compiled_bf16": lambda: ours("compiled", "bf16", net, x, batch),
    }
    if not quick:
        native = torch.compile(raw_too)
        builders["raw_compiled"] = lambda: fused(raw_too, native, x, batch)
    enumerated = TraceEnum_ELBO(max_plate_nesting=1)
    builders["pyro_vae"] = lambda: stock(PyroVAE(*sizes).to(x.device), Trace_ELBO(), x, batch)
    builders["pyro_m2"] = lambda: stock(PyroM2(*sizes).to(x.device), enumerated, x, batch)
    builders["numpyro"] = lambda: in_numpyro(net, x, batch)
    found = {}
    for name, build in builders.items():
        if toy and name.startswith("compiled"):
            continue
        try:
            found[name] = build()
        except GMMVAEError as error:
            click.echo(f"{name} left out: {error}", err=True)
    return found


def interleaved(found: dict[str, Contender], rounds: int, steps: int) -> dict[str, float]:
    """Median milliseconds of a step of each, after some steps each that do not count."""
    for one in found.values():
        one.run(2 if one.device.type == "cpu" else WARM_UP + 2)
    seconds = defaultdict(list)
    for _ in range(rounds):
        for name, one in found.items():
            seconds[name] += one.run(steps)
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def aged(found: dict[str, Contender], x: Tensor) -> dict[str, Contender]:
    """The contenders of our model after ``AGE_STEPS`` steps, subnormal numbers included."""
    old = svi_fused("", x, 100)
    old.run(AGE_STEPS)
    same = {k: c for k, c in found.items() if not k.startswith(("pyro_", "numpyro"))}
    for one in same.values():
        one.become(old)
    return same


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


@click.command()
@click.option("--data-dir", help="Folder with MNIST's files; without it rows are synthetic.")
@click.option("--quick", is_flag=True, help="Fewer sizes and steps: below 4 minutes on one core.")
@click.option("--toy", is_flag=True, help="Shows only that it runs: seconds, nothing compiled.")
@click.option("--threads", default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    data_dir: str | None, quick: bool, toy: bool, threads: int, device: str, out: Path
) -> None:
    """Time all contenders, print a table, write JSON."""
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):  # XLA takes all the cores there are
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    where = resolve_device(device)
    x = main_rows(data_dir, 12_000).to(where)
    sizes = (
        [("", 100), ("", 1000), ("tiny_", 100)]
        if quick
        else [(net, batch) for net in NETS for batch in (100, 200, 1000)]
    )
    rounds, steps = (6, 5) if quick else (20, 10)
    if toy:
        quick, sizes, rounds, steps = True, [("tiny_", 100)], 1, 1
    result: dict[str, Any] = {"quick": toy, "ms": {}, "ratio_to_stock": {}, "prepare_seconds": {}}

    def add(name: str, found: dict[str, Contender], rounds: int) -> None:
        ms = interleaved(found, rounds, steps)
        result["ms"][name] = rounded(ms)
        result["ratio_to_stock"][name] = rounded({k: ms["stock"] / v for k, v in ms.items()})
        shown = "  ".join(f"{k} {v:.1f} ({ms['stock'] / v:.2f}x)" for k, v in ms.items())
        click.echo(f"{name}: {shown}")

    for net, batch in sizes:
        check_hand_written(net, x[:batch])
        found = contenders(net, x, batch, quick, toy)
        took = {k: c.prepare_seconds for k, c in found.items() if c.prepare_seconds is not None}
        result["prepare_seconds"][f"{net}batch_{batch}"] = rounded(took)
        add(f"{net}batch_{batch}", found, rounds if batch < 1000 else max(3, rounds // 4))
        if (net, batch) == ("", 100):
            add("batch_100_third_epoch", aged(found, x), rounds)
    result["machine"] = machine(where)
    result["rows"] = "mnist" if data_dir else "made up"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
