"""gmmvae export"""

from pathlib import Path
from typing import Any

import click

from pyro_gmmvae.cli.options import (
    PATH,
    check_output,
    device_option,
    force_option,
    moved_data_option,
    run_argument,
    seed_option,
    weights_option,
)


@click.command(short_help="Write draws of a run for ArviZ.")
@run_argument
@click.option(
    "--out",
    type=PATH,
    required=True,
    metavar="FILE",
    help="The netCDF file to write (.nc).",
)
@click.option(
    "--part",
    type=click.Choice(["test", "validation", "train"]),
    default="test",
    show_default=True,
    help="Part of the data.",
)
@click.option(
    "--rows",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="Number of rows, the same ones each time; 0: all.",
)
@click.option(
    "--draws",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Draws per chain.",
)
@click.option(
    "--chains", type=click.IntRange(1), default=4, show_default=True, help="Number of chains."
)
@click.option(
    "--source",
    type=click.Choice(["posterior", "guide"]),
    default="posterior",
    show_default=True,
    help="Distribution of the draws: the posterior (with the guide's proposals), or the guide.",
)
@click.option(
    "--predictive/--no-predictive",
    default=True,
    help="Draw x too, given the latents and from the prior.  [default: predictive]",
)
@seed_option
@moved_data_option
@weights_option
@force_option
@device_option
def export(
    run: Path,
    out: Path,
    data: str | None,
    weights: str | None,
    force: bool,
    device: str | None,
    **options: Any,
) -> None:
    """Write draws, weights and rows of RUN as ArviZ's InferenceData, in netCDF.

    \b
    idata = arviz.from_netcdf("run.nc")
    arviz.summary(idata, var_names=["z"])    R-hat and ESS of each row's latents
    arviz.loo(idata)                         log p(x) of the rows, by leave-one-out
    arviz.plot_ppc(idata, var_names=["x"])   drawn rows beside observed ones

    Groups: posterior, posterior_predictive, log_likelihood, sample_stats (log_weight, elbo,
    pareto_k, ...), prior, prior_predictive, observed_data. See
    help(pyro_gmmvae.inference_data.to_inference_data) for their variables and the meaning of loo.
    """
    from pyro_gmmvae.cli.predict import of_first_member
    from pyro_gmmvae.inference_data import save, to_inference_data
    from pyro_gmmvae.runs import Run

    check_output(out, force, (".nc",))
    loaded = Run.load(run, device=device or "auto", weights=weights)
    part = options.pop("part")
    written = to_inference_data(loaded, part, data=data, **options)
    save(written, out)
    statistics = written["sample_stats"]
    chains, draws, rows = (statistics.sizes[name] for name in ("chain", "draw", "row"))
    click.echo(
        f"draws per row: {chains} x {draws}, of {rows} {part} rows -> {out}"
        f"{of_first_member(loaded)}",
        err=True,
    )
    click.echo(_pareto_k_line(statistics["pareto_k"].values), err=True)


def _pareto_k_line(k: Any) -> str:
    """Summarize the Pareto k-hat of the rows."""
    import numpy as np

    from pyro_gmmvae.evaluation import GOOD_K, USABLE_K

    if np.isnan(k).any():
        return "Pareto k of the proposal: too few draws to fit a tail"
    good, bad = int((k < GOOD_K).sum()), int((k > USABLE_K).sum())
    line = f"Pareto k of the proposal: median {np.median(k):.2f}; good (< {GOOD_K}) in {good}, "
    line += f"usable (up to {USABLE_K}) in {len(k) - good - bad}, bad in {bad} rows"
    return line + (", whose draws and loo are unreliable" if bad else "")
