"""One cell of a sweep: trained, or gone on with, and measured in a row."""

import shutil
import time
from pathlib import Path
from typing import Any

import pyro_gmmvae
from pyro_gmmvae.config import Config
from pyro_gmmvae.datasets import is_file_name
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_json
from pyro_gmmvae.runs.run import Run
from pyro_gmmvae.runs.trainer import resume, train
from pyro_gmmvae.sweeps.plan import command_of
from pyro_gmmvae.training import NonFiniteError
from pyro_gmmvae.training.signals import raise_on_sigint

NUMBERS = (
    "accuracy",
    "probe_accuracy",
    "ece",
    "cluster_accuracy",
    "nmi",
    "ari",
    "components_used",
    "assignment_entropy",
    "silhouette",
    "elbo",
    "nll",
    "rate",
    "distortion",
    "ess",
    "pareto_k_bad",
    "test_rows",
    "sequence_accuracy",
    "sequence_cluster_accuracy",
    "sequence_nmi",
    "test_sequences",
)
FINISHED = ("complete", "early-stopped")


def run_cell(config: Config, folder: Path) -> dict[str, Any]:
    """Train (or go on), evaluate, and say it in one row."""
    try:
        with raise_on_sigint():  # the fit saves and stops on it
            run = _trained(config, folder)
    except KeyboardInterrupt as error:
        raise GMMVAEError("interrupted; the same command goes on") from error
    metrics = read_json(folder / "metrics.json")
    if metrics["outcome"] not in FINISHED:
        raise GMMVAEError(f"interrupted ({metrics['outcome']}); the same command goes on")
    started = time.monotonic()
    numbers = run.evaluate()
    seconds = metrics["seconds"] + time.monotonic() - started
    about = read_json(folder / "environment.json")
    return {name: numbers.get(name) for name in NUMBERS} | {
        "val_accuracy": metrics["training"].get("val_accuracy"),
        "label_seed": config.seed if config.label_seed is None else config.label_seed,
        "seconds": round(seconds, 1),
        "fit_seconds": round(metrics["seconds"], 1),
        "epochs": metrics["epochs"],
        "steps": metrics["steps"],
        "engine": metrics["engine"],
        "device": about["device"],
        "threads": about["threads"],
        "processor": about["processor"],
        "versions": " ".join(f"{k}={v}" for k, v in about["packages"].items()),
        "version": pyro_gmmvae.__version__,
        "command": command_of(config),
    }


def _trained(config: Config, folder: Path) -> Run:
    """The cell's run: as it is where it is finished, gone on with where it was stopped."""
    file = folder / "metrics.json"
    try:
        metrics = read_json(file) if file.exists() else {}
        if isinstance(metrics, dict) and metrics.get("outcome") in FINISHED:
            return Run.load(folder, device=config.device)
        if (folder / "training.pt").exists():
            where = config.data if is_file_name(config.data) else config.data_dir
            return resume(folder, data=where, device=config.device)
    except NonFiniteError:
        raise
    except GMMVAEError:  # of another version, or damaged when its process was killed
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return train(config, folder)
