"""gmmvae ablate, gmmvae components"""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from pyro_gmmvae.cli.options import (
    NameList,
    assignments,
    jobs_option,
    json_option,
    key_options,
    out_folder_option,
    set_option,
    without_none,
)

# the terms on z of a VAE, and other priors, each with a low and a high weight where it has one
PLANE = (
    *("", "kl_z=0.25", "kl_z=4", "kl_z=10"),
    *("capacity=0:5:300", "capacity=0:15:300", "free_bits=0.5", "free_bits=2"),
    *("tc=1", "tc=5", "tc=5,tc_groups=2,tc_within=1", "dip=1", "dip=10", "dip=10,dip_of=z"),
    *("mmd=3,kl_z=0.1", "mmd=10,kl_z=0.1", "hsic=100", "hsic=1000"),
    *("tc_adversary=10", "adversary=1,kl_z=0.1"),
    *("prior=mixture", "prior=vamp", "prior=flow"),
)


def _seeds_option(default: int) -> Any:
    help_ = "Seeds 0, 1, ... of each."
    return click.option(
        "--seeds", type=click.IntRange(1), default=default, show_default=True, help=help_
    )


def _log(line: str) -> None:
    click.echo(line, err=True)


@click.command(short_help="Compare models, guides, objectives or presets in a table.")
@key_options("data", "data_dir", "label_column")
@click.option("--models", type=NameList("models"), metavar="A,B", help="[default: gmmvae]")
@click.option("--guides", type=NameList("guides"), metavar="A,B", help="[default: the model's own]")
@click.option(
    "--objectives", type=NameList("objectives"), metavar="A,B", help="[default: the guide's own]"
)
@click.option("--presets", type=NameList(), metavar="A,B", help="[default: that of the data]")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="K=V,K=V",
    help="A set of keys to compare, '' for none; repeat it.",
)
@click.option("--labels", type=NameList(), metavar="N,M", help="Label counts, or 'all'.")
@_seeds_option(5)
@key_options("epochs", "minutes", "device")
@set_option
@jobs_option
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of each run."
)
@click.option("--backend", default="local", show_default=True, help="Where runs go: local, ray.")
@click.option("--metric", help="Column to compare.  [default: accuracy; --plane: probe_accuracy]")
@click.option(
    "--plane",
    is_flag=True,
    help="Draw distortion against rate in DIR/plane.png, with --metric as color; without --models "
    "and --variant of a VAE with each term on z.",
)
@click.option("--keep-runs", is_flag=True, help="Keep each run's folder under DIR/runs.")
@out_folder_option
@json_option
def ablate(
    models: tuple[str, ...] | None,
    guides: tuple[str, ...] | None,
    objectives: tuple[str, ...] | None,
    presets: tuple[str, ...] | None,
    variants: tuple[str, ...],
    labels: tuple[str, ...] | None,
    seeds: int,
    sets: tuple[str, ...],
    jobs: int,
    threads: int,
    backend: str,
    metric: str | None,
    plane: bool,
    keep_runs: bool,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Train and evaluate every combination over several seeds, and compare them in a table.

    DIR/results.csv gets a row per run; DIR/table.md and DIR/table.tex get a line per combination:
    mean, standard deviation and n over seeds, and the paired difference to the first
    combination with its 95 % interval. DIR/table.png shows the means with their 95 % intervals,
    and every seed. The same command resumes a sweep that was stopped: runs with a row are not
    trained again. Combinations that do not fit are named and left out.

    \b
    gmmvae ablate --guides product,mean-field,bayes --seeds 5 --labels 100 --out ablation
    gmmvae ablate --variant '' --variant alpha=0 --variant input_noise=0 --out parts
    gmmvae ablate --plane --data shapes --epochs 30 --out plane
    """
    from pyro_gmmvae import sweeps
    from pyro_gmmvae.errors import GMMVAEError

    metrics = (*sweeps.TEST_METRICS, "val_accuracy")
    metric = metric or ("probe_accuracy" if plane else "accuracy")
    if plane and not models and not variants:
        models, variants = ("vae",), PLANE
    if metric not in metrics:
        raise click.UsageError(f"--metric {metric}: choose from {', '.join(metrics)}")
    common = {"data": "digits"} | without_none(options)
    runs = sweeps.plan_sweep(
        common | assignments(sets),
        models=models or ("gmmvae",),
        guides=guides or (None,),
        objectives=objectives or (None,),
        presets=presets or (None,),
        variants=[variant(text) for text in variants] or [{}],
        labels=labels or (None,),
        seeds=range(seeds),
        log=_log,
    )
    table, failures = sweeps.sweep(
        runs, out, jobs=jobs, threads=threads, backend=backend, keep_runs=keep_runs, log=_log
    )
    failure = f"{len(failures)} of {len(runs)} runs failed; the first: {[*failures, ''][0]}"
    if table.empty:
        raise GMMVAEError(failure)
    summary = sweeps.summarize(table, metric)
    if summary["mean"].isna().all():
        _log(f"no run reports {metric!r}; choose another --metric, e.g. probe_accuracy")
    if summary.loc[summary["difference"].notna(), "n"].min() <= 2:
        _log("the intervals rest on two seeds or fewer and are wide; --seeds 5 narrows them")
    text = sweeps.format_table(summary, metric)
    command = shlex.join(["gmmvae", *sys.argv[1:]])
    sweeps.write_tables(text, out, sweeps.footnotes(table, command))
    sweeps.write_dot_plot(table, out, metric)
    if plane and not sweeps.write_plane(table, out, metric):
        _log(f"plane.png: no run has a rate and {metric}")
    click.echo(summary.to_json(orient="records") if as_json else sweeps.markdown(text), nl=as_json)
    if failures:
        raise GMMVAEError(failure)


def variant(text: str) -> dict[str, str | None]:
    """Keys and values of "key=value,key=value"; a value may hold commas itself, as hidden=16,16."""
    pairs = re.split(r",(?=\s*\w+\s*=)", text) if text else []
    keys = assignments(pairs)
    if len(keys) < len(pairs):
        raise click.UsageError(f"--variant {text} names a key twice; repeat --variant to compare")
    return keys


@click.command(short_help="Compare numbers of components if K is not known.")
@key_options("data", "data_dir")
@click.option(
    "--range", "span", default="5,30", show_default=True, metavar="LOW,HIGH", help="Range of K."
)
@click.option(
    "--count", type=click.IntRange(1), default=6, show_default=True, help="Values of K to try."
)
@_seeds_option(3)
@click.option("--preset", default="cluster", show_default=True, metavar="NAME")
@key_options("epochs", "minutes", "device")
@set_option
@jobs_option
@out_folder_option
@json_option
def components(
    span: str,
    count: int,
    seeds: int,
    sets: tuple[str, ...],
    jobs: int,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Train each number of components K over several seeds, without labels, and compare them.

    DIR/components.csv and DIR/components.png show for each K the ELBO of held-out rows, the
    agreement of the clusters of two seeds (adjusted Rand index), and the number of components in
    use. Choose the K with high agreement. With --set learn_prior=true --set sparsity=5,
    components with few rows become empty, and K only has to be large enough. Finished runs are
    not trained again.

    \b
    gmmvae components --data digits --range 5,30 --out components
    """
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.figures import component_curves
    from pyro_gmmvae.figures.saving import figure_bytes
    from pyro_gmmvae.files import atomic_write
    from pyro_gmmvae.sweeps import candidates, compare_components

    ends = span.split(",")
    if len(ends) != 2 or not all(end.strip().isdecimal() for end in ends):
        raise click.UsageError(f"--range {span}: write LOW,HIGH, such as 5,30")
    numbers = candidates(int(ends[0]), int(ends[1]), count)
    common = {"data": "digits"} | without_none(options)
    table, failures = compare_components(
        common | assignments(sets), numbers, out, seeds=seeds, jobs=jobs, log=_log
    )
    atomic_write(out / "components.csv", table.to_csv(index=False).encode())
    drawn = figure_bytes(component_curves(table, Path(common["data"]).stem))
    atomic_write(out / "components.png", drawn)
    click.echo(
        table.to_json(orient="records") if as_json else table.round(3).to_string(index=False)
    )
    if failures:
        raise GMMVAEError(f"{len(failures)} runs failed; the first: {failures[0]}")
