"""The run folder: its files, each written whole or not at all, and checked when it is read."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

import pyro_gmmvae
from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import (
    atomic_write,
    load_training,
    load_weights,
    read_json,
    remove_leftovers,
    save_training,
    save_weights,
    validated,
    write_json,
)
from pyro_gmmvae.runs.keys import configure
from pyro_gmmvae.runs.locks import held_lock
from pyro_gmmvae.runs.schema import Schema, SchemaContent

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

    from pyro_gmmvae.training import Fit, FitState

FORMAT = 4  # 3: the kind of rows did not say whether cells are missing
CONFIG, ENVIRONMENT, METRICS, NAMES = (
    *("config.json", "environment.json"),
    *("metrics.json", "names.json"),
)
HISTORY = "history.csv"
WEIGHTS = {"last": "weights.safetensors", "best": "best.safetensors"}
FIGURES = "figures"
# stems of the files in it; an animation is also a GIF
PICTURES = (
    *("training", "samples", "nearest", "analogies", "traversal", "interpolation", "manifold"),
    *("latent", "confusion", "reliability", "reconstructions", "components", "entropy", "columns"),
)
FORMATS = ("png", "svg", "pdf")
CLUSTERS = "clusters.csv"
# folders of the fits of an ensemble, and the scores of the rows that its folds held out
MEMBERS, FOLDS, OUT_OF_FOLD = "members", "folds", "out_of_fold.csv"
VALIDATION_SCORES = "validation_scores.csv"  # where there are no folds
FINISHED = ("complete", "early-stopped")  # outcomes of a fit
REPORT = "report.html"
LOCK = "run.lock"  # of the process that trains
# all files that this package writes into a run folder; the last part may be a pattern
OURS = (
    *(CONFIG, ENVIRONMENT, METRICS, NAMES),
    HISTORY,
    "training.pt",
    *WEIGHTS.values(),
    "mlflow.json",
    "tensorboard/events.out.tfevents.*",
    "estimator.json",
    "labels.safetensors",
    *(REPORT, LOCK),
    *(OUT_OF_FOLD, VALIDATION_SCORES),
    f"{FIGURES}/{CLUSTERS}",
    *(f"{FIGURES}/{stem}.{end}" for stem in PICTURES for end in (*FORMATS, "gif")),
)


def check_free(out: Path, force: bool) -> None:
    """Refuse a place where a run can't be written; nothing is changed.

    Raises:
        GMMVAEError: the current folder, a file, a folder that is not a run, or a run that exists
            (without ``force``).
    """
    if out.resolve() == Path.cwd():
        raise GMMVAEError("the run folder can't be the current folder; name another --out")
    if out.exists() and not out.is_dir():
        raise GMMVAEError(f"{out} is a file; name a folder")
    try:
        if not out.exists() or not any(out.iterdir()):
            return
    except OSError as error:
        raise GMMVAEError(f"{out} can't be read: {error.strerror or error}") from error
    if not (out / CONFIG).exists():
        raise GMMVAEError(f"{out} exists and is not a run folder; name another one")
    if not force:
        raise GMMVAEError(
            f"{out} exists and is kept; go on with 'gmmvae resume {out}', replace it with "
            "--force, or name another --out"
        )
    if _aside(out).exists():
        raise GMMVAEError(
            f"{_aside(out)} holds a run whose replacement never reached a checkpoint; move it away "
            "first"
        )


def make_folder(out: Path, force: bool) -> bool:
    """Make room for a run. One that is there is moved aside until the new one has a checkpoint.

    Returns:
        Whether there was no such folder.
    """
    check_free(out, force)
    try:
        if out.exists() and any(out.iterdir()):
            with ExitStack() as stack:  # no process trains it
                for one in (out, *_fits_of(out)):
                    stack.enter_context(held_lock(one / LOCK))
                out.rename(_aside(out))
                for one in (_aside(out), *_fits_of(_aside(out))):
                    (one / LOCK).unlink(missing_ok=True)
        is_new = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GMMVAEError(f"can't make {out}: {error.strerror or error}") from error
    return is_new


def _aside(out: Path) -> Path:
    return out.with_name(out.name + ".replaced")


def remove_replaced(out: Path) -> None:
    """Delete our files of the run this one replaced; a folder that holds others stays."""
    aside = _aside(out)
    if aside.is_dir():
        _remove_ours(aside)
        if not any(aside.iterdir()):
            aside.rmdir()


def _fits_of(folder: Path) -> list[Path]:
    """Folders of the fits of an ensemble."""
    return [fit for name in (MEMBERS, FOLDS) for fit in folder.glob(f"{name}/[0-9]*")]


def _remove_ours(folder: Path) -> None:
    """Delete our files, and the folders in it that hold nothing else."""
    remove_leftovers(folder)
    for inner in _fits_of(folder):
        _remove_ours(inner)
        for place in (inner, inner.parent):
            if not any(place.iterdir()):
                place.rmdir()
    for name in (MEMBERS, FOLDS):
        if (folder / name).is_dir() and not any((folder / name).iterdir()):
            (folder / name).rmdir()
    for file in [file for name in OURS for file in folder.glob(name)]:
        file.unlink(missing_ok=True)
    for inner in {(folder / name).parent for name in OURS} - {folder}:
        if inner.is_dir() and not any(inner.iterdir()):
            inner.rmdir()


def undo(out: Path, made: bool) -> None:
    """Remove a run that failed before its first checkpoint; the run that it replaced comes back.

    Args:
        out: its folder.
        made: whether the folder goes too, unless it holds files that are not ours.
    """
    if any((fit / "training.pt").exists() for fit in (out, *_fits_of(out))):
        return
    _remove_ours(out)
    if made and not any(out.iterdir()):
        out.rmdir()
        if _aside(out).is_dir():
            _aside(out).rename(out)


@contextmanager
def new_folder(out: Path, force: bool) -> Iterator[None]:
    """Make a run folder, lock it, and undo that if the block fails before the first checkpoint.

    Raises:
        GMMVAEError: a folder that exists (and is a run, without ``force``), that another process
            trains in, or that can't be made.
    """
    made = make_folder(out, force)
    with held_lock(out / LOCK):
        try:
            yield
        except (GMMVAEError, KeyboardInterrupt):
            undo(out, made)
            raise


# -- configuration and environment -------------------------------------------------------------


def write_config(
    out: Path, config: Config, schema: Schema, environments: Sequence[Mapping[str, Any]]
) -> None:
    """Write ``config.json`` and ``environment.json``; a folder without the former is not a run.

    Args:
        out: the run folder.
        config, schema: of the run.
        environments: where the run was trained, then where it was resumed.
    """
    content = {
        "format": FORMAT,
        "package": pyro_gmmvae.__version__,
        "config": config.model_dump(),
        "given": sorted(config.given),
        "data": schema.to_json(),
    }
    first, *resumed = environments
    write_json(out / CONFIG, content)
    write_json(out / ENVIRONMENT, {**first, **({"resumed": resumed} if resumed else {})})


def read_config(path: Path) -> tuple[Config, Schema]:
    """The configuration and data schema of a run folder.

    Raises:
        GMMVAEError: not a run folder, one of another version, or a damaged one.
    """
    if not path.is_dir():
        why = "it is a file" if path.exists() else "it does not exist"
        raise GMMVAEError(f"{path} is not a run folder: {why}")
    file = path / CONFIG
    content = read_json(file)
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise GMMVAEError(
            f"{path} has run format {found!r}; this version reads format {FORMAT}: train again, or "
            "use the version named in its environment.json"
        )
    values = validated(content, _Description, file)
    try:
        configure(content["config"])  # all keys are known
        return configure(content["config"], given=values.given), Schema.from_json(content["data"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise GMMVAEError(f"{file} is damaged: {reason}") from error


class _ModelNames(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str = ""
    guide: str | None = None


class _Description(BaseModel):
    config: _ModelNames
    given: list[str] = []
    data: SchemaContent


def environment(
    command: str | None, machine: Mapping[str, Any], processes: int = 1
) -> dict[str, Any]:
    """The command, versions, machine, device, threads and TF32 that a result depends on."""
    return {"command": command or " ".join(sys.argv), **machine, "processes": processes}


def read_environments(out: Path) -> list[dict[str, Any]]:
    """The environments of :func:`write_config`; empty where there is no file.

    Raises:
        GMMVAEError: a damaged file.
    """
    content = read_record(out / ENVIRONMENT, _Environment, "delete it to resume without it")
    return [content, *content.pop("resumed", [])] if content else []


class _Environment(BaseModel):
    model_config = ConfigDict(extra="allow")

    command: str = ""
    processes: int = Field(1, ge=1)
    resumed: list["_Environment"] = []


# -- metrics -----------------------------------------------------------------------------------


class _Metrics(BaseModel):
    model_config = ConfigDict(extra="allow")

    outcome: str = ""
    epochs: int = Field(0, ge=0)
    steps: int = Field(0, ge=0)
    weights: str = ""
    training: dict[str, Any] = {}
    test: dict[str, Any] = {}
    elbo_quantiles: list[float] = []


def read_metrics(out: Path) -> dict[str, Any]:
    """The content of ``metrics.json``; empty where a stopped fit left none.

    Raises:
        GMMVAEError: a damaged file.
    """
    return read_record(out / METRICS, _Metrics, f"delete it and finish with 'gmmvae resume {out}'")


def read_record(file: Path, kind: type[BaseModel], advice: str) -> dict[str, Any]:
    """The content of a JSON file of a run; empty where there is none.

    Raises:
        GMMVAEError: a damaged file; the message ends with ``advice``.
    """
    if not file.exists():
        return {}
    try:
        content = read_json(file)
        validated(content, kind, file)
    except GMMVAEError as error:
        raise GMMVAEError(f"{error}; {advice}") from error
    return dict(content)


# -- checkpoints -------------------------------------------------------------------------------


def save_checkpoint(out: Path, fit: "Fit") -> None:
    """Write a checkpoint; ``training.pt`` comes first, and is enough to resume."""
    state = fit.snapshot()
    save_training(out / "training.pt", state.to_dict())
    save_weights(out / WEIGHTS["last"], fit.module.state_dict())
    if state.best:
        save_weights(out / WEIGHTS["best"], state.best)
    if state.history:
        import pandas as pd

        write_history(out, pd.DataFrame(state.history))
    remove_replaced(out)


def write_history(out: Path, history: "pd.DataFrame") -> None:
    """Write ``history.csv``, a row per epoch."""
    atomic_write(out / HISTORY, history.to_csv(index=False).encode())


def has_checkpoint(out: Path) -> bool:
    """Whether a fit was saved in a run folder."""
    return any(os.path.lexists(out / name) for name in ("training.pt", WEIGHTS["last"]))


def check_resumable(out: Path, longer: bool) -> None:
    """Check the files that a resumed fit reads and writes, before its data is loaded.

    Args:
        out: the run folder.
        longer: whether a complete fit goes on, as it gets a longer budget.

    Raises:
        GMMVAEError: a damaged checkpoint, a folder in the place of a file, or a finished fit.
    """
    for name in (CONFIG, ENVIRONMENT, METRICS, HISTORY, "training.pt", *WEIGHTS.values()):
        if (out / name).is_dir():
            raise GMMVAEError(f"{out / name} is a folder, in the place of a file of the run")
    outcome = str(read_metrics(out).get("outcome"))
    if (out / "training.pt").exists():
        state = _read_checkpoint(out)
        if not longer:
            _refuse_finished(out, outcome, state)


def _read_checkpoint(out: Path, device: "torch.device | str" = "cpu") -> "FitState":
    """The state of the fit of a run folder.

    Raises:
        GMMVAEError: a damaged checkpoint.
    """
    from pyro_gmmvae.training.fit_state import FitState

    file = out / "training.pt"
    state = FitState.from_dict(load_training(file, device), file)
    if state.module is None:
        raise GMMVAEError(f"{file} is damaged: it has no weights")
    _check_finite(state.module, file)
    return state


def restore(fit: "Fit", out: Path) -> None:
    """Continue a fit from a checkpoint.

    Raises:
        GMMVAEError: a damaged checkpoint or one of another run, or a fit that is complete.
    """
    file, state = out / "training.pt", _read_checkpoint(out, fit.device)
    try:
        fit.restore(state)
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise GMMVAEError(
            f"{file} does not fit config.json: it is of another run or version"
        ) from error
    if (outcome := fit.outcome()) is not None:
        _refuse_finished(out, outcome, fit.state)


def _refuse_finished(out: Path, outcome: str, state: "FitState") -> None:
    """Refuse to go on with a finished fit whose files are all written.

    A process that is killed between a checkpoint and metrics.json leaves the latter older or out;
    running the finished fit again writes the files and does nothing else.

    Raises:
        GMMVAEError: with the way to go on.
    """
    if outcome in FINISHED and read_metrics(out).get("steps") == state.step:
        advice = {
            "complete": "to go on give --epochs or --minutes beyond what it had",
            "early-stopped": "to go further train anew with more --patience",
        }
        raise GMMVAEError(f"{out} is {outcome} ({state.epoch} epochs); {advice[outcome]}")


def read_weights(path: Path, which: str) -> "dict[str, Tensor]":
    """The weights saved in a run folder, "last" or "best".

    Raises:
        GMMVAEError: a file that is missing, altered, or holds numbers that are not finite.
    """
    file = path / WEIGHTS[which]
    if not file.exists():
        raise GMMVAEError(
            f"{path} has no {file.name}: training was stopped before its first checkpoint; "
            f"go on with 'gmmvae resume {path}'"
        )
    weights = load_weights(file)
    _check_finite(weights, file)
    return weights


def _check_finite(weights: "Mapping[str, Tensor]", file: Path) -> None:
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise GMMVAEError(f"{file}: {name} has values that are not finite; train again")
