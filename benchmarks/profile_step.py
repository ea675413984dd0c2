"""Profile of a training step: torch's profiler over some steps of an engine.

python benchmarks/profile_step.py --engine captured --batch 100
"""

import click
import torch
from speed import build_model, endless, main_rows
from torch.profiler import ProfilerActivity, profile

from pyro_gmmvae.cli import run
from pyro_gmmvae.objectives import OBJECTIVES
from pyro_gmmvae.training import Batches, Fit, FitSettings


@click.command()
@click.option("--engine", default="captured", show_default=True)
@click.option("--precision", default="f32", show_default=True)
@click.option("--net", default="", help="'tiny_' for 32 units and d 8; default 500-500, d 50.")
@click.option("--batch", default=100, show_default=True)
@click.option("--steps", default=50, show_default=True)
@click.option("--lines", default=20, show_default=True)
def main(engine: str, precision: str, net: str, batch: int, steps: int, lines: int) -> None:
    """Print the slowest operations of a step, on one thread."""
    torch.set_num_threads(1)
    x = main_rows(None, 12_000)
    model = build_model(net, x.device)
    objective = OBJECTIVES["trace"](
        model.model, model.guide, latents=model.latents, label_sites=("s",)
    )
    batches = Batches(x, torch.full((len(x),), -1), batch, 0, 0)
    fit = Fit(objective, model, batches, FitSettings(epochs=1, engine=engine, precision=precision))
    rows = endless(batches)
    with fit.switches():
        fit.prepare()
        for _ in range(5):
            fit.step(*next(rows))
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(steps):
                fit.step(*next(rows))
    click.echo(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=lines))


if __name__ == "__main__":
    run(main)
