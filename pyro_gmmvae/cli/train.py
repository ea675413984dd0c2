"""gmmvae train"""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from pyro_gmmvae.cli.options import (
    Count,
    KeyOption,
    TableName,
    device_option,
    drop_nonfinite_option,
    force_option,
    json_option,
    log_option,
)


@click.command(short_help="Train a model into a run folder.")
@click.option(
    "--data",
    cls=KeyOption,
    metavar="NAME|FILE",
    help="digits, mnist, skeleton (see --tracks) or another of 'gmmvae list data'; a file (npz, "
    "npy, csv, parquet); or a folder of npy or parquet shards.",
)
@click.option("--data-dir", cls=KeyOption, metavar="DIR", help="Folder with the data set's files.")
@click.option(
    "--label-column", cls=KeyOption, metavar="NAME", help="Column or array with the labels."
)
@click.option(
    "--labels",
    cls=KeyOption,
    type=Count(),
    metavar="N|all",
    help="Labels the fit may see, balanced over the classes; digits and mnist: 100, files: all.",
)
@click.option(
    "--tracks", cls=KeyOption, metavar="FILE", help="Joints over time, for --data skeleton."
)
@click.option(
    "--labels-file", cls=KeyOption, metavar="CSV", help="Who is who: sequence, person, split."
)
@click.option(
    "--layout", cls=KeyOption, metavar="NAME|TOML", help="Of the joints: body_25, coco_18, ..."
)
@click.option(
    "--protocol", cls=KeyOption, metavar="NAME", help="Which sequences of a named set are tested."
)
@click.option(
    "--extra-components",
    cls=KeyOption,
    type=int,
    metavar="M",
    help="Components beyond one per class, for persons nobody named.",
)
@click.option(
    "--factors",
    cls=KeyOption,
    metavar="NAME[=K],...",
    help="Further classes (view, action) of the model gmmvae-factors.",
)
@click.option(
    "--preset",
    cls=KeyOption,
    metavar="NAME",
    help="Settings to start from: paper, permutation-invariant, best, cluster (no labels).",
)
@click.option(
    "--init",
    cls=KeyOption,
    metavar="NAME",
    help="Without labels: random, or clusters to begin from (kmeans, ae-gmm).",
)
@click.option(
    "--model", cls=KeyOption, type=TableName("models"), help="Model to train ('gmmvae list')."
)
@click.option("--guide", cls=KeyOption, type=TableName("guides"), help="Posterior of the model.")
@click.option("--objective", cls=KeyOption, type=TableName("objectives"), help="What is optimised.")
@click.option(
    "--particles",
    cls=KeyOption,
    type=int,
    metavar="P",
    help="Samples per row and step; iwae: 5, else 1.",
)
@click.option("--network", cls=KeyOption, type=TableName("networks"), help="Encoder and decoder.")
@click.option("--components", cls=KeyOption, type=int, metavar="K", help="Mixture components.")
@click.option("--latent-dim", cls=KeyOption, type=int, metavar="D", help="Size of z.")
@click.option(
    "--epochs",
    cls=KeyOption,
    type=int,
    metavar="N",
    help="Passes over the training rows (100 where the data set has no preset).",
)
@click.option(
    "--minutes",
    cls=KeyOption,
    type=float,
    metavar="M",
    help="Wall-clock budget, instead of epochs.",
)
@click.option("--batch-size", cls=KeyOption, type=int, metavar="B", help="Rows per step.")
@click.option(
    "--learning-rate", cls=KeyOption, type=float, metavar="R", help="Adam's rate at the start."
)
@click.option(
    "--patience",
    cls=KeyOption,
    type=int,
    metavar="N",
    help="Stop after N epochs without improvement.",
)
@click.option(
    "--seed", cls=KeyOption, type=int, metavar="S", help="Seed of weights, batches and label draw."
)
@click.option(
    "--deterministic",
    cls=KeyOption,
    is_flag=True,
    default=None,
    help="Demand deterministic kernels.",
)
@click.option(
    "--engine",
    cls=KeyOption,
    metavar="NAME",
    help="How steps are computed: auto, svi, captured, compiled.",
)
@click.option(
    "--precision",
    cls=KeyOption,
    metavar="P",
    help="f32, f64, or bf16 (of matrix products, while fitting).",
)
@click.option(
    "--verify/--no-verify",
    cls=KeyOption,
    default=None,
    help="Check a captured step against eager evaluation before it is used.",
)
@log_option
@drop_nonfinite_option
@device_option
@click.option("--config", type=click.Path(path_type=Path), metavar="TOML", help="File of keys.")
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any key ('gmmvae list keys')."
)
@click.option("--out", type=click.Path(path_type=Path), metavar="RUN", help="Run folder to make.")
@force_option
@json_option
def train(
    config: Path | None,
    sets: tuple[str, ...],
    out: Path | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Train a model and save it as a run folder.

    Without options: the Gaussian-mixture VAE on scikit-learn's digits with 100 labels, into
    runs/digits. Values come from the defaults, then what suits the data set, then --config,
    then the plain options, then --set. A value that moves while training is written
    start:end:steps, as in --set kl_s=0:1:500. Ctrl-C saves and stops; 'gmmvae resume RUN'
    goes on.

    \b
    gmmvae train --data mnist --data-dir ~/mnist --labels 1000 --minutes 5 --out runs/mnist
    gmmvae train --data rows.csv --label-column person --guide conditional --out runs/rows
    gmmvae train --data skeleton --tracks tracks.parquet --labels-file people.csv --out runs/gait
    """
    from pyro_gmmvae.cli.progress import run_with_progress
    from pyro_gmmvae.config import read_config
    from pyro_gmmvae.runs import default_config
    from pyro_gmmvae.runs import train as train_run

    layers = [
        read_config(config) if config else {},
        {key: value for key, value in options.items() if value is not None},
        assignments(sets),
    ]
    data = next((layer["data"] for layer in reversed(layers) if "data" in layer), "digits")
    settings = default_config(str(data), *layers)
    folder = out or Path("runs") / Path(settings.data).stem
    command = shlex.join(["gmmvae", *sys.argv[1:]])
    return run_with_progress(
        lambda callbacks: train_run(
            settings, folder, force=force, callbacks=callbacks, command=command
        ),
        as_json,
    )


def assignments(texts: Iterable[str]) -> dict[str, str | None]:
    """Keys and values from "key=value"; "none" is no value."""
    found = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise click.UsageError(f"{text}: write key=value")
        found[key] = None if value.lower() == "none" else value
    return found
