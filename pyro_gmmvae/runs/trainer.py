"""Train a config into a run folder, and go on with one that was stopped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_gmmvae.config import Config
from pyro_gmmvae.datasets import is_file_name
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import (
    atomic_write,
    load_training,
    read_json,
    remove_leftovers,
    save_training,
    save_weights,
    write_json,
)
from pyro_gmmvae.runs.assembly import assemble
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.folder import (
    environment,
    make_folder,
    note_resumption,
    remove_replaced,
    undo,
    write_config,
)
from pyro_gmmvae.runs.initialize import initialise
from pyro_gmmvae.runs.run import Run, moved, read_config
from pyro_gmmvae.runs.validation import Watch
from pyro_gmmvae.training import Callback, Fit
from pyro_gmmvae.training.devices import seeded
from pyro_gmmvae.training.distributed import joined
from pyro_gmmvae.training.loggers import build_loggers, closing


def train(
    config: Config,
    out: Path,
    *,
    force: bool = False,
    callbacks: Sequence[Callback] = (),
    command: str | None = None,
) -> Run:
    """Train from the beginning.

    Args:
        config: what to train; see :func:`pyro_gmmvae.runs.default_config`.
        out: the run folder to make.
        force: replace a run that is there.
        callbacks: told of each epoch, and of each step where they want to be.
        command: the command line to record in ``environment.json``.

    Returns:
        The run, with the weights that :meth:`Run.load` would load.

    Raises:
        GMMVAEError: anything in the config or data that can't be used, or an ``out`` that exists.
    """
    if config.epochs is None and config.minutes is None:
        raise GMMVAEError("give the fit an end: epochs or minutes")
    config = resolve(absolute_paths(config))
    loggers = build_loggers(config.log, out, config.model_dump())
    with joined(config.device) as (world, device), seeded(config.seed, device):
        callbacks = [*callbacks, *loggers] if world.is_first else callbacks
        with world.together():
            rows = TrainingData.from_config(config)
            # assembled first: whatever doesn't fit is refused before anything is written
            fit = assemble(config, rows, device, callbacks, world)
        with world.together():
            if world.is_first:
                made = make_folder(out, force)
                write_config(out, config, rows.schema)
                about = environment(config, command) | {"processes": world.size}
                write_json(out / "environment.json", about)
        try:
            with closing(loggers):
                begin(fit, config, rows, callbacks)
                return _run(fit, config, rows, out)
        except (GMMVAEError, KeyboardInterrupt):
            if world.is_first:
                undo(out, made)
            raise


def resume(
    out: Path,
    *,
    epochs: int | None = None,
    minutes: float | None = None,
    data: str | None = None,
    device: str | None = None,
    log: Sequence[str] | None = None,
    callbacks: Sequence[Callback] = (),
    command: str | None = None,
) -> Run:
    """Go on with a run from its last checkpoint.

    A fit bounded by epochs goes on bit for bit, on the same machine, as if it had not been
    stopped; one bounded by minutes has a rate that follows the clock.

    Args:
        out: the run folder.
        epochs, minutes: a longer budget than the run began with; its rate then decays anew.
        data: where the data is now, if not where it was: the file, or the set's folder.
        device: where to go on, if not where it was.
        log: further logs, if not those it had.
        callbacks: told of each epoch, and of each step where they want to be.
        command: the command line to record in ``environment.json``.

    Raises:
        GMMVAEError: no run folder, data that changed, or a run that is complete.
    """
    config, schema = read_config(out)
    config = moved(config, data)
    longer = {k: v for k, v in (("epochs", epochs), ("minutes", minutes)) if v is not None}
    if longer:
        config = config.replace(**{"epochs": None, "minutes": None} | longer)
    if device is not None:
        config = config.replace(device=device)
    if log is not None:
        config = config.replace(log=tuple(log))
    loggers = build_loggers(config.log, out, config.model_dump())
    with joined(config.device) as (world, where), seeded(config.seed, where), closing(loggers):
        callbacks = [*callbacks, *loggers] if world.is_first else callbacks
        with world.together():
            rows = TrainingData.from_config(config, schema)
            fit = assemble(config, rows, where, callbacks, world)
            if (out / "weights.safetensors").exists() or (out / "training.pt").exists():
                world.reseed(config.seed)
                _restore(fit, load_training(out / "training.pt", where), out)
            else:  # killed before its first checkpoint
                begin(fit, config, rows, callbacks)
            if epochs is not None and epochs <= fit.progress.epoch:
                raise GMMVAEError(
                    f"{out} has {fit.progress.epoch} epochs already; to go on give --epochs "
                    "beyond that"
                )
            if longer:
                fit.engine_name = None  # a longer budget may earn a faster one
        with world.together():
            if world.is_first:
                remove_leftovers(out)
                write_config(out, config, schema)
                about = environment(config, command) | {"processes": world.size}
                _tell_of_processes(out, world.size, callbacks)
                note_resumption(out / "environment.json", about)
        return _run(fit, config, rows, out)


def begin(fit: Fit, config: Config, rows: TrainingData, callbacks: Sequence[Callback]) -> None:
    """Bring a new fit to its first step: by clusters where ``init`` names some."""
    if config.init != "random":
        if fit.world.size > 1:
            raise GMMVAEError(f"init={config.init} is for one process")
        # of a budget in minutes it is a part
        fit.progress.seconds = initialise(config, rows, fit.module, fit.objective, callbacks)
    fit.world.reseed(config.seed)


def _run(fit: Fit, config: Config, rows: TrainingData, out: Path) -> Run:
    """Run a fit into its folder and read the result back as any user would."""
    watch = fit.validate

    def save(state: Fit) -> None:
        if isinstance(watch, Watch):
            watch.fit_classifier()
        _save(state, out)

    fit.save = save
    outcome = fit.run()
    if not fit.world.is_first:
        fit.world.everyones(None)  # until the first one has written everything
        return Run.load(out, device=config.device)
    run = Run.load(out, device=config.device)
    write_json(out / "metrics.json", metrics_of(fit, outcome, run, rows))
    fit.world.everyones(None)
    return run


def metrics_of(fit: Fit, outcome: str, run: Run, rows: TrainingData) -> dict[str, Any]:
    """What ``metrics.json`` says of a fit that ended."""
    return {
        "outcome": outcome,
        "epochs": fit.progress.epoch,
        "steps": fit.progress.step,
        "seconds": fit.progress.seconds,
        "engine": fit.engine_name,
        "best_epoch": fit.progress.best_epoch,
        "weights": run.weights,
        "training": fit.progress.history[-1] if fit.progress.history else {},
        "elbo_quantiles": run.measure_reference(rows).tolist(),
    }


def _tell_of_processes(out: Path, now: int, callbacks: Sequence[Callback]) -> None:
    """Say where a run goes on with another number of processes than it had last."""
    file = out / "environment.json"
    told = read_json(file) if file.exists() else {}
    last = [told, *told.get("resumed", [])][-1] if isinstance(told, dict) else {}
    had = last.get("processes", now)
    for callback in callbacks if had != now else ():
        callback.on_start(f"processes: {now}, and {had} before: from here on other noise is drawn")


def _restore(fit: Fit, state: dict[str, Any], out: Path) -> None:
    try:
        fit.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise GMMVAEError(
            f"{out / 'training.pt'} does not fit config.json: it is of another run or version"
        ) from error
    outcome = fit.outcome()
    if outcome is not None and _is_closed(out, fit):
        advice = {
            "complete": "to go on give --epochs or --minutes beyond what it had",
            "early-stopped": "to go further train anew with more --patience",
        }
        epochs = fit.progress.epoch
        raise GMMVAEError(f"{out} is {outcome} ({epochs} epochs); {advice[outcome]}")


def _is_closed(out: Path, fit: Fit) -> bool:
    """Whether a finished fit's other files were written after its last checkpoint too.

    A process killed in between left them older, or out; running the finished fit again
    writes them and does nothing else.
    """
    file = out / "metrics.json"
    metrics = read_json(file) if file.exists() else {}
    return isinstance(metrics, dict) and metrics.get("steps") == fit.progress.step


def _save(fit: Fit, out: Path) -> None:
    """All of a checkpoint's files; ``training.pt`` first, and by itself enough to resume."""
    save_training(out / "training.pt", fit.state_dict())
    save_weights(out / "weights.safetensors", fit.module.state_dict())
    if fit.best:
        save_weights(out / "best.safetensors", fit.best)
    if fit.progress.history:
        history = pd.DataFrame(fit.progress.history)
        atomic_write(out / "history.csv", history.to_csv(index=False).encode())
    remove_replaced(out)


def absolute_paths(config: Config) -> Config:
    """Paths that still hold when the run is read from another folder."""
    changes: dict[str, Any] = {}
    if is_file_name(config.data):
        changes["data"] = str(Path(config.data).resolve())
    for key in ("data_dir", "tracks", "labels_file"):
        if getattr(config, key) is not None:
            changes[key] = str(Path(getattr(config, key)).resolve())
    if config.layout is not None and config.layout.endswith(".toml"):
        changes["layout"] = str(Path(config.layout).resolve())
    return config.with_defaults(**changes) if changes else config
