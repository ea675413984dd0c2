"""Growth of a training step's time and memory with one size at a time, a process per point.

python benchmarks/scaling.py --quick --out DIR
python benchmarks/scaling.py --out benchmarks/results/scaling

Per size: milliseconds of a step (median), peak resident memory of the process, the part of it that
is not imports, rows and weights ("own_mib": capture, gradients, Adam, activations), the exponent b
of ms = a size^b fitted over the points, and a plot. ``components`` is measured for the guide with
dense heads and for the one with factorized heads, compiled; everything else with the captured step.
``processes`` share a batch of 1,000.
"""

import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from pyro_gmmvae.cli import run


@dataclass(frozen=True)
class Point:
    """One point, which a process of its own measures."""

    axis: str
    guide: str = "product"
    pixels: int = 784
    width: int = 500
    batch: int = 100
    components: int = 10
    latent: int = 50
    rows: int = 10_000
    processes: int = 1
    engine: str = "captured"

    @property
    def size(self) -> int:
        """The value that varies."""
        return int(getattr(self, self.axis))


def points(quick: bool) -> list[Point]:
    """All points of the benchmark."""
    batches = (100, 400, 1000) if quick else (100, 200, 500, 1000, 2000, 4000)
    components = (10, 100, 1000) if quick else (10, 30, 100, 300, 1000)
    latents = (10, 50) if quick else (10, 20, 50, 100, 200)
    rows = (1_000, 100_000) if quick else (10**3, 10**4, 10**5, 10**6, 10**7)
    found = [Point("batch", batch=n) for n in batches]
    for guide in ("product", "low-rank"):
        found += [Point("components", guide, components=n, engine="compiled") for n in components]
    found += [Point("latent", latent=n) for n in latents]
    # ten million rows of 784 would not fit: here they are short
    found += [Point("rows", pixels=16, width=64, latent=8, rows=n) for n in rows]
    found += [Point("processes", batch=1000, processes=n) for n in (1, 2)]
    return found


def measure(point: Point, steps: int) -> dict[str, float]:
    """Run in the point's own process: median milliseconds and peak memory in MiB."""
    import torch

    from pyro_gmmvae.guides import GUIDES
    from pyro_gmmvae.models import GMMVAE
    from pyro_gmmvae.networks import NetworkOptions
    from pyro_gmmvae.objectives import OBJECTIVES
    from pyro_gmmvae.training import Batches, Fit, FitSettings
    from pyro_gmmvae.training.distributed import process_group

    torch.set_num_threads(1)
    with process_group("cpu") as (world, _):
        torch.manual_seed(0)
        model = GMMVAE(
            (point.pixels,),
            point.components,
            point.latent,
            guide=GUIDES[point.guide],
            options=NetworkOptions(hidden=(point.width, point.width)),
        )
        objective = OBJECTIVES["trace"](
            model.model, model.guide, latents=model.latents, label_sites=("s",)
        )
        x = torch.rand(point.rows, point.pixels)
        before = _peak_mib()
        batches = Batches(x, torch.full((len(x),), -1), point.batch, 0, 0, world)
        settings = FitSettings(epochs=1, engine=point.engine, verify=False)
        fit = Fit(objective, model, batches, settings)
        seconds: list[float] = []
        with fit.switches():
            fit.prepare()
            rows = itertools.chain.from_iterable(batches.epoch() for _ in itertools.count())
            for _ in range(steps + 3):
                start = time.perf_counter()
                fit.step(*next(rows))
                seconds.append(time.perf_counter() - start)
        own = {"peak_mib": _peak_mib(), "own_mib": _peak_mib() - before}
        return {"ms": 1e3 * statistics.median(seconds[3:])} | own


def _peak_mib() -> float:
    """Peak resident memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_own_process(point: Point, steps: int) -> dict[str, Any]:
    """Measure a point in a process of its own; returns a row of the table."""
    launcher = [sys.executable]
    if point.processes > 1:
        launcher += [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(point.processes),
        ]
    done = subprocess.run(
        [*launcher, __file__, "--point", json.dumps(asdict(point)), "--steps", str(steps)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    measured = json.loads(done.stdout.strip().splitlines()[-1])
    return {"axis": point.axis, "guide": point.guide, "size": point.size} | measured


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """The slope of log ms, and of log memory, over log size."""

    def slope(group: pd.DataFrame, column: str) -> float:
        size, value = np.log(group["size"].astype(float)), np.log(group[column])
        return round(float(np.polyfit(size, value, 1)[0]), 2)

    groups = table.groupby(["axis", "guide"], sort=False)
    return pd.DataFrame(
        [
            {"axis": axis, "guide": guide, **{c: slope(g, c) for c in ("ms", "peak_mib")}}
            for (axis, guide), g in groups
        ]
    )


def plot(table: pd.DataFrame, file: Path) -> None:
    """Milliseconds above memory, a column per axis, both logarithmic."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    axes_names = list(dict.fromkeys(table["axis"]))
    # one scale a row: what hardly grows should look like it
    shape = (2, len(axes_names))
    figure, axes = plt.subplots(*shape, figsize=(3.2 * len(axes_names), 6), sharey="row")
    for column, name in zip(axes.T, axes_names, strict=True):
        for guide, group in table[table["axis"] == name].groupby("guide", sort=False):
            for axis, key in zip(column, ("ms", "peak_mib"), strict=True):
                axis.loglog(group["size"], group[key], "o-", label=guide)
        sizes = sorted(set(table[table["axis"] == name]["size"]))
        for axis in column:
            axis.set_xticks(sizes, [f"{size:g}" for size in sizes], rotation=45)
            axis.minorticks_off()
        column[0].set_title(f"step against {name}")
        column[1].set_xlabel(name)
    axes[0, 0].set_ylabel("ms a step")
    axes[1, 0].set_ylabel("peak memory, MiB")
    axes[0, axes_names.index("components")].legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


@click.command()
@click.option("--quick", is_flag=True, help="Fewer points and steps.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for table and plot.")
@click.option("--point", help="Measure one point, given as JSON, in this process.")
@click.option("--steps", type=int, help="Timed steps a point.")
def main(quick: bool, out: Path | None, point: str | None, steps: int | None) -> None:
    """Measure all points, write scaling.csv, exponents.csv, scaling.json and scaling.png."""
    if point is not None:
        measured = measure(Point(**json.loads(point)), steps or 20)
        if os.environ.get("RANK", "0") == "0":
            click.echo(json.dumps(measured))
        return
    if out is None:
        raise click.UsageError("name a folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for one in points(quick):
        rows.append(in_own_process(one, steps or (8 if quick else 30)))
        click.echo(
            f"{one.axis} {one.size} {one.guide}: {rows[-1]['ms']:.1f} ms, "
            f"{rows[-1]['peak_mib']:.0f} MiB"
        )
    table = pd.DataFrame(rows)
    fitted = exponents(table)
    table.round(3).to_csv(out / "scaling.csv", index=False)
    fitted.to_csv(out / "exponents.csv", index=False)
    plot(table, out / "scaling.png")
    import torch

    from pyro_gmmvae.runs import machine

    about = machine(torch.device("cpu")) | {"threads": 1}
    content = {"points": table.round(3).to_dict("records"), "machine": about}
    content["exponents"] = fitted.to_dict("records")
    (out / "scaling.json").write_text(json.dumps(content, indent=2) + "\n")
    click.echo(fitted.to_string(index=False))


if __name__ == "__main__":
    run(main)
