"""gmmvae train and gmmvae resume"""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from pyro_gmmvae.cli.options import (
    PATH,
    assignments,
    config_option,
    device_option,
    force_option,
    is_first_process,
    jobs_option,
    json_option,
    key_options,
    log_option,
    moved_data_option,
    run_argument,
    set_option,
    without_none,
)


@click.command(short_help="Train a model into a run folder.")
@key_options(
    *("data", "data_dir", "label_column", "weight_column", "group_column", "column"),
    *("covariates", "labels", "leave_out", "missing"),
    *("tracks", "labels_file", "layout", "protocol"),
    *("preset", "model", "guide", "objective", "particles", "network", "likelihood", "x_range"),
    *("components", "extra_components", "factors", "latent_dim", "init", "members", "cv"),
    *("epochs", "steps", "minutes", "batch_size", "learning_rate", "patience", "seed"),
    *("engine", "precision", "device", "log"),
    deterministic=False,
    drop_nonfinite=False,
    verify=True,
)
@config_option
@set_option
@click.option("--out", type=PATH, metavar="RUN", help="Run folder to make.")
@jobs_option
@force_option
@json_option
def train(
    config: Path | None,
    sets: tuple[str, ...],
    out: Path | None,
    jobs: int,
    force: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Train a model and save it as a run folder.

    Without options: the Gaussian-mixture VAE on scikit-learn's digits with 100 labels, into
    runs/digits. Values come from the defaults, then from the preset of the data set, then from
    --config, then from the other options, then from --set. A value that changes during training
    is written start:end:steps, as in --set kl_s=0:1:500. Ctrl-C saves and stops; 'gmmvae resume
    RUN' continues.

    \b
    gmmvae train --data mnist --data-dir ~/mnist --labels 1000 --minutes 5 --out runs/mnist
    gmmvae train --data rows.csv --label-column person --guide conditional --out runs/rows
    gmmvae train --data skeleton --tracks tracks.parquet --labels-file people.csv --out runs/gait
    """
    from pyro_gmmvae.config import read_config
    from pyro_gmmvae.datasets import check_data
    from pyro_gmmvae.key_types import split_list
    from pyro_gmmvae.runs.build import resolve
    from pyro_gmmvae.runs.folder import check_free
    from pyro_gmmvae.runs.keys import default_config

    layers = [
        read_config(config) if config else {},
        without_none(options),
        assignments(sets),
    ]
    if "column" in layers[1]:  # kinds of single columns, which replace those of the file
        layers[1]["column"] = (*split_list(layers[0].get("column", ())), *layers[1]["column"])
    data = next((layer["data"] for layer in reversed(layers) if "data" in layer), "digits")
    resolved = resolve(default_config(str(data), *layers))
    folder = out or Path("runs") / Path(resolved.data).stem
    check_data(resolved.data)
    if is_first_process():
        check_free(folder, force)
    # imported after the checks, since it loads torch
    from pyro_gmmvae.cli.progress import run_with_progress
    from pyro_gmmvae.runs import train as train_run

    return run_with_progress(
        lambda callbacks: train_run(
            resolved,
            folder,
            force=force,
            callbacks=callbacks,
            command=command_line(),
            jobs=jobs,
        ),
        as_json,
    )


@click.command(short_help="Resume a stopped run.")
@run_argument
@click.option("--epochs", type=int, metavar="N", help="Train up to N epochs in all.")
@click.option("--minutes", type=float, metavar="M", help="Train up to M minutes in all.")
@moved_data_option
@device_option
@log_option
@jobs_option
@json_option
def resume(run: Path, as_json: bool, **options: Any) -> int:
    """Resume RUN from its last checkpoint.

    On the same machine a run with a budget in epochs continues bit for bit: its history equals
    that of a run that was never stopped. (A budget in minutes depends on the clock.) A run that
    is complete continues if --epochs or --minutes gives it a longer budget.
    """
    from pyro_gmmvae.cli.progress import run_with_progress
    from pyro_gmmvae.runs import resume as resume_run

    return run_with_progress(
        lambda callbacks: resume_run(run, callbacks=callbacks, command=command_line(), **options),
        as_json,
    )


def command_line() -> str:
    """The command as the user typed it."""
    return shlex.join(["gmmvae", *sys.argv[1:]])
