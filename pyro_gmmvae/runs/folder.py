"""The run folder: made, moved aside, and described; each file whole or not there."""

import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import pyro_gmmvae
from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_json, remove_leftovers, write_json
from pyro_gmmvae.runs.data import Schema
from pyro_gmmvae.training import resolve_device

FORMAT = 3  # 2: the data part held no kind of rows
PACKAGES = ("torch", "pyro-ppl", "numpy", "pandas", "scikit-learn", "safetensors")
FIGURES = "figures"
# stems of the files in it; a picture that moves is also a GIF
PICTURES = (
    *("training", "samples", "analogies", "traversal", "interpolation", "manifold"),
    *("latent", "confusion", "reliability", "reconstructions", "components", "entropy"),
)
FORMATS = ("png", "svg", "pdf")
CLUSTERS = "clusters.csv"
REPORT = "report.html"
# the last part of a name may be a pattern
OURS = (
    "config.json",
    "environment.json",
    "history.csv",
    "metrics.json",
    "training.pt",
    "weights.safetensors",
    "best.safetensors",
    "names.json",
    "mlflow.json",
    "tensorboard/events.out.tfevents.*",
    "estimator.json",
    "labels.safetensors",
    REPORT,
    f"{FIGURES}/{CLUSTERS}",
    *(f"{FIGURES}/{stem}.{end}" for stem in PICTURES for end in (*FORMATS, "gif")),
)


def make_folder(out: Path, force: bool) -> bool:
    """Make room for a run. One that is there is moved aside until the new one has a checkpoint.

    Returns:
        Whether there was no such folder.
    """
    if out.exists() and not out.is_dir():
        raise GMMVAEError(f"{out} is a file; name a folder")
    try:
        if out.exists() and any(out.iterdir()):
            _move_aside(out, force)
        is_new = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GMMVAEError(f"can't make {out}: {error.strerror or error}") from error
    return is_new


def _move_aside(out: Path, force: bool) -> None:
    if not (out / "config.json").exists():
        raise GMMVAEError(f"{out} exists and is no run folder; name another one")
    if not force:
        raise GMMVAEError(
            f"{out} exists and is kept; go on with 'gmmvae resume {out}', replace it with "
            "--force, or name another --out"
        )
    aside = _aside(out)
    if aside.exists():
        raise GMMVAEError(
            f"{aside} holds a run whose replacement never reached a checkpoint; move it away first"
        )
    out.rename(aside)


def _aside(out: Path) -> Path:
    return out.with_name(out.name + ".replaced")


def remove_replaced(out: Path) -> None:
    """Delete our files of the run this one replaced; a folder that holds others stays."""
    aside = _aside(out)
    if aside.is_dir():
        _remove_ours(aside)
        if not any(aside.iterdir()):
            aside.rmdir()


def _remove_ours(folder: Path) -> None:
    """Delete our files, and the folders in it that hold nothing else."""
    remove_leftovers(folder)
    for file in [file for name in OURS for file in folder.glob(name)]:
        file.unlink(missing_ok=True)
    for inner in {(folder / name).parent for name in OURS} - {folder}:
        if inner.is_dir() and not any(inner.iterdir()):
            inner.rmdir()


def undo(out: Path, made: bool) -> None:
    """Remove a run that failed before its first checkpoint; what it replaced comes back.

    Args:
        out: its folder.
        made: whether the folder goes too, unless it holds files that are not ours.
    """
    if (out / "training.pt").exists():
        return
    _remove_ours(out)
    if made and not any(out.iterdir()):
        out.rmdir()
        if _aside(out).is_dir():
            _aside(out).rename(out)


def write_config(out: Path, config: Config, schema: Schema) -> None:
    content = {
        "format": FORMAT,
        "package": pyro_gmmvae.__version__,
        "config": config.model_dump(),
        "data": schema.to_json(),
    }
    write_json(out / "config.json", content)


def note_resumption(file: Path, now: dict[str, Any]) -> None:
    """Add where and how a run went on; a record that is lost or damaged begins anew."""
    try:
        first = read_json(file)
    except GMMVAEError:
        first = {}
    first = first if isinstance(first, dict) else {}
    write_json(file, first | {"resumed": [*first.get("resumed", []), now]})


def environment(config: Config, command: str | None) -> dict[str, Any]:
    """What a number needs beside it to be believed: versions, machine, device, threads."""
    told = command or " ".join(sys.argv)
    return {"command": told} | machine(resolve_device(config.device))


def machine(device: torch.device) -> dict[str, Any]:
    """What a time needs beside it: versions, processor, device, threads."""
    return {
        "pyro_gmmvae": pyro_gmmvae.__version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
