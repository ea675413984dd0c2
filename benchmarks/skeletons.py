"""Identification of people by skeletons: accuracy of test sequences, beside scikit-learn.

    python benchmarks/skeletons.py --data-dir DIR --out benchmarks/results/skeletons
    python benchmarks/skeletons.py --data-dir DIR --quick --out OUT

DIR has the folders ucalgary_gait, utd_mhad_openpose and japanese_vowels; a missing one is left out.
Every row is a fit on one thread with the settings of ``gmmvae train`` for the data set (the row has
its command), on the same splits as scikit-learn; ``accuracy`` is that of whole sequences, whose
windows are pooled, ``window_accuracy`` that of windows. The same command resumes an interrupted
benchmark: rows of OUT/results.csv are not measured again. OUT gets results.csv, table.md and
joints.png.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from skeleton_references import reference_rows
from skeleton_report import report
from skeleton_trials import dropped_joints, trained, with_strangers

import pyro_gmmvae
from pyro_gmmvae.cli import run
from pyro_gmmvae.config import Config
from pyro_gmmvae.files import read_json
from pyro_gmmvae.runs import default_config, processor, resolve
from pyro_gmmvae.sweeps import append_result, read_results, train_command

FOLDERS = {
    "ucalgary-gait": "ucalgary_gait",
    "utd-mhad": "utd_mhad_openpose",
    "japanese-vowels": "japanese_vowels",
}
SPLITS = [
    ("ucalgary-gait", "repeat"),
    ("utd-mhad", "trials"),
    ("utd-mhad", "actions"),
    ("japanese-vowels", "fixed"),
]
FAMILY = ["gmvae-discrete", "m2", "m2-gumbel", "m1", "adgm"]
# settings beside the data set's preset, by name
PARTS: dict[str, dict[str, Any]] = {
    "": {},
    "no pseudo-labels": {"pseudo_threshold": None},
    "labelled sequences only": {"use_unlabelled": False, "pseudo_threshold": None},
    "transductive": {"transductive": True},
    # the best of twenty settings where each training action in turn was held out
    "joints, torso": {"features": "joints", "scale": "torso"},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp of 12 frames": {"network": "mlp"},
    "temporal of 12 frames": {"network": "temporal"},
    "skeleton-graph of 12 frames": {"network": "skeleton-graph", "features": "joints"},
}
FRAMES = {"window": 12, "stride": 6, "statistics": (), "channels": (32, 32), "epochs": 10}


def trials(seeds: int, quick: bool) -> Iterator[dict[str, Any]]:
    """All trials: table, data set, split, model, settings and seed."""
    for data, split in SPLITS:
        for seed in range(seeds):
            base = {"data": data, "split": split, "seed": seed, "labels": "all"}
            yield base | {"table": "main", "model": "gmmvae"}
            if split == "actions":
                for variant in ("transductive", "joints, torso"):
                    yield base | {"table": "main", "model": "gmmvae", "variant": variant}
            if seed == 0:  # they draw nothing
                yield base | {"table": "main", "model": "references"}
    gait = {"data": "ucalgary-gait", "split": "repeat"}
    for labels, seed in ((n, s) for n in (27, 54) for s in range(seeds)):
        base = gait | {"table": "few labels", "labels": str(labels), "seed": seed}
        yield base | {"model": "references"}
        for variant in ("", "no pseudo-labels", "labelled sequences only"):
            yield base | {"model": "gmmvae", "variant": variant}
    for seed in range(seeds):
        yield gait | {"table": "joints", "model": "gmmvae", "labels": "all", "seed": seed}
        for extra in (0, 5, 8):
            base = {"table": "strangers", "model": "gmmvae", "labels": "all", "seed": seed}
            yield gait | base | {"variant": f"{extra} extra components", "extra": extra}
    for seed in range(min(seeds, 3)) if not quick else ():  # they take minutes each
        for model in FAMILY:
            yield gait | {"table": "family", "model": model, "labels": "27", "seed": seed}
        for variant in NETWORKS:
            base = gait | {"table": "networks", "labels": "all", "seed": seed}
            yield base | {"model": "gmmvae", "variant": variant}


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--seeds", default=5, show_default=True)
@click.option("--tables", default="", help="Comma-separated; default: all.")
@click.option("--quick", is_flag=True, help="One seed, and neither the family nor networks.")
def main(data_dir: Path, out: Path, seeds: int, tables: str, quick: bool) -> None:
    """Run the trials that OUT/results.csv lacks, then write the tables and the plot."""
    torch.set_num_threads(1)
    if not data_dir.is_dir():
        raise click.UsageError(f"{data_dir} is not a folder")
    absent = [data for data, folder in FOLDERS.items() if not (data_dir / folder).is_dir()]
    if len(absent) == len(FOLDERS):
        raise click.UsageError(f"{data_dir} holds none of {', '.join(FOLDERS.values())}")
    for data in absent:
        log(f"{data} is left out: {data_dir} has no folder {FOLDERS[data]}")
    out.mkdir(parents=True, exist_ok=True)
    done = set(read_results(out / "results.csv", log)["config"])
    wanted = {name for name in tables.split(",") if name}
    for trial in trials(1 if quick else seeds, quick):
        if trial["data"] in absent or (wanted and trial["table"] not in wanted):
            continue
        config = config_of(trial, data_dir)
        key = _key(trial, config)
        if key in done:
            continue
        for row in rows_of(trial, config):
            full = about(trial, config) | row | {"config": key}
            full["settings"] = full["variant"]
            append_result(out / "results.csv", full)
            shown = {k: full[k] for k in ("table", "data", "split", "model", "labels", "variant")}
            log(
                f"{' '.join(str(v) for v in shown.values() if v)}, seed {trial['seed']}: "
                f"{full['accuracy']:.4f}"
            )
    report(read_results(out / "results.csv", log), out)


def config_of(trial: dict[str, Any], data_dir: Path) -> Config:
    """The configuration of a trial."""
    variant = trial.get("variant", "")
    keys = {
        "data_dir": str(data_dir / FOLDERS[trial["data"]]),
        "protocol": trial["split"],
        "labels": trial["labels"],
        "seed": trial["seed"],
        # chosen on validation sequences before; now all training ones are used
        "validation": 0,
        "model": "gmmvae" if trial["model"] == "references" else trial["model"],
    }
    keys |= PARTS.get(variant, {})
    if variant in NETWORKS:
        keys |= FRAMES | NETWORKS[variant]
    if trial["table"] == "joints":
        keys |= {"augment": "drop"}
    return resolve(default_config(trial["data"], keys))


def rows_of(trial: dict[str, Any], config: Config) -> list[dict[str, Any]]:
    """Run a trial; references and curves give several rows."""
    if trial["model"] == "references":
        return reference_rows(config, has_bones=trial["data"] != "japanese-vowels")
    folder = Path(tempfile.mkdtemp(prefix="skeletons-"))
    try:
        if trial["table"] == "strangers":
            return with_strangers(config, folder, trial["extra"])
        if trial["table"] == "joints":
            return dropped_joints(config, folder)
        return [fitted(config, folder)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fitted(config: Config, folder: Path) -> dict[str, Any]:
    """Train, and measure on the test sequences."""
    done = trained(config, folder / "run")
    numbers = done.evaluate(samples=2, nll_rows=100)
    metrics = read_json(folder / "run" / "metrics.json")
    score, windows = numbers["sequence_accuracy"], numbers["accuracy"]
    if score is None:  # a model without a classifier
        score, windows = numbers["probe_accuracy"], numbers["probe_accuracy"]
    return {
        "accuracy": score,
        "window_accuracy": windows,
        "elbo": numbers["elbo"],
        "test_sequences": numbers["test_sequences"],
        "seconds": round(metrics["seconds"], 1),
        "steps": metrics["steps"],
        "engine": metrics["engine"],
    }


def about(trial: dict[str, Any], config: Config) -> dict[str, Any]:
    """Columns that every row has: the trial, the machine, the command."""
    return {
        "table": trial["table"],
        "data": trial["data"],
        "split": trial["split"],
        "model": trial["model"],
        "guide": config.guide or "",
        "objective": config.objective or "",
        "preset": config.preset or "",
        "labels": trial["labels"],
        "variant": trial.get("variant", ""),
        "settings": trial.get("variant", ""),
        "seed": trial["seed"],
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "versions": f"torch={torch.__version__} numpy={np.__version__}",
        "version": pyro_gmmvae.__version__,
        "command": train_command(config),
    }


def _key(trial: dict[str, Any], config: Config) -> str:
    content = config.model_dump_json(exclude={"data_dir"}, exclude_defaults=True)
    return hashlib.sha256((json.dumps(trial, sort_keys=True) + content).encode()).hexdigest()[:8]


def log(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    run(main)
