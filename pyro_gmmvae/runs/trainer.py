"""Training: into a run folder, in memory, or on from a stopped run."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_gmmvae.config import Config
from pyro_gmmvae.data import Dataset
from pyro_gmmvae.datasets import is_file_name
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import remove_leftovers
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.component_names import names_given
from pyro_gmmvae.runs.data import TrainingData, data_options
from pyro_gmmvae.runs.ensemble import PartialProgress, member_config, train_ensemble
from pyro_gmmvae.runs.folder import (
    CONFIG,
    FINISHED,
    LOCK,
    MEMBERS,
    check_resumable,
    environment,
    has_checkpoint,
    new_folder,
    read_config,
    read_environments,
    read_metrics,
    restore,
    write_config,
)
from pyro_gmmvae.runs.job import prepared
from pyro_gmmvae.runs.keys import BUDGETS
from pyro_gmmvae.runs.locks import held_lock
from pyro_gmmvae.runs.run import Run, with_data_at
from pyro_gmmvae.runs.schema import Schema
from pyro_gmmvae.runs.side_by_side import Planned, runs_batched, train_side_by_side
from pyro_gmmvae.runs.start_from_run import with_structure_of_init
from pyro_gmmvae.runs.teacher import with_teacher
from pyro_gmmvae.runs.trained import Trained
from pyro_gmmvae.training import Callback, FitState
from pyro_gmmvae.training.devices import machine
from pyro_gmmvae.training.engines import shared_graphs
from pyro_gmmvae.training.loggers import closing
from pyro_gmmvae.training.signals import raise_signal

CHANGED = "arguments changed since the last fit, and the model with them; call fit again"


def train(
    config: Config,
    out: Path | str,
    *,
    force: bool = False,
    callbacks: Sequence[Callback] = (),
    command: str | None = None,
    jobs: int = 1,
) -> Run:
    """Train a new run.

    Args:
        config: see :func:`pyro_gmmvae.runs.default_config`.
        out: the run folder to make.
        force: replace a run that exists.
        callbacks: called after each epoch, and after each step where they have ``on_step``.
        command: the command line to record in ``environment.json``.
        jobs: fits of members and folds at once: 1 in this process, more in processes of one thread
            each, which a script starts below ``if __name__ == "__main__":``.

    Returns:
        The run, with the weights that :meth:`Run.load` loads.

    Raises:
        GMMVAEError: anything in the config or data that can't be used, or an ``out`` that exists.
    """
    config, out = _resolved(with_structure_of_init(absolute_paths(config))), Path(out)
    load = partial(_load, config, callbacks)
    # a named set has test rows
    if config.members > 1 or (config.cv != 0 and is_file_name(config.data)):
        started, data = time.monotonic(), load()
        if config.members > 1 or data.folds(config):
            options: dict[str, Any] = {"callbacks": callbacks, "command": command}
            options |= {"started": started, "jobs": jobs}
            return train_ensemble(config, data, out, _fit_into, force=force, **options)
        return _train_one(config, lambda: data, out, force, callbacks, command)
    return _train_one(config, load, out, force, callbacks, command)


def train_together(
    runs: Mapping[Path, Config],
    log: Callable[[str], None],
    callbacks: Sequence[Sequence[Callback]] = (),
) -> list[str | GMMVAEError | None]:
    """Train new runs of one program side by side, if their device or their engine is for that.

    Args:
        runs: the run folders to make, and their configurations.
        log: see :func:`train_side_by_side`.
        callbacks: of each run, called after each epoch and step.

    Returns:
        As :func:`train_side_by_side`.

    Raises:
        GMMVAEError: anything in a config or the data that can't be used.
        KeyboardInterrupt: a signal stopped the fits, which are saved.
    """
    datasets: dict[str, Dataset] = {}

    def load(config: Config) -> TrainingData:
        # those that read the same rows in the same way share them
        key = repr((config.data, data_options(config), config.leave_out, config.init))
        data = TrainingData.from_config(config, dataset=datasets.get(key))
        datasets[key] = data.dataset
        return with_teacher(config, data)

    plans = []
    for (out, config), called in zip(runs.items(), callbacks or [()] * len(runs), strict=True):
        one = _resolved(with_structure_of_init(absolute_paths(config)))
        single = one.members == 1 and (one.cv == 0 or not is_file_name(one.data))
        if single and runs_batched(one) and not out.exists():
            plans.append(Planned(one, partial(load, one), out, called))
    outcomes = dict(zip((p.out for p in plans), train_side_by_side(plans, log), strict=True))
    if any(isinstance(one, str) and one not in FINISHED for one in outcomes.values()):
        raise KeyboardInterrupt
    return [outcomes.get(out) for out in runs]


def _load(
    config: Config,
    callbacks: Sequence[Callback],
    schema: Schema | None = None,
) -> TrainingData:
    """The data of a configuration, with the classes that a teacher gives to some of its rows."""
    return with_teacher(config, TrainingData.from_config(config, schema), callbacks)


def _fit_into(config: Config, data: TrainingData, out: Path, callbacks: Sequence[Callback]) -> Run:
    """Train one fit of an ensemble into a folder, or resume it there."""
    if (out / CONFIG).exists():
        moved = config.data if is_file_name(config.data) else config.data_dir
        return resume(out, data=moved, device=config.device, callbacks=callbacks)
    return _train_one(config, lambda: data, out, False, callbacks, None)


def _train_one(
    config: Config,
    load: Callable[[], TrainingData],
    out: Path,
    force: bool,
    callbacks: Sequence[Callback],
    command: str | None,
) -> Run:
    with prepared(config, load, callbacks, out) as job, ExitStack() as stack:
        with job.fit.world.raise_together():
            if job.fit.world.is_first:
                about = machine(job.fit.device, config)
                now = environment(command, about, job.fit.world.size)
                stack.enter_context(new_folder(out, force))
                write_config(out, config, job.parts.data.schema, [now])
        stack.enter_context(closing(job.loggers))
        job.start()
        return job.run_into(out)


def resume(
    out: Path | str,
    *,
    epochs: int | None = None,
    minutes: float | None = None,
    data: str | None = None,
    device: str | None = None,
    log: Sequence[str] | None = None,
    callbacks: Sequence[Callback] = (),
    command: str | None = None,
    jobs: int = 1,
) -> Run:
    """Resume a run from its last checkpoint.

    A fit with a budget in epochs continues bit for bit, on the same machine, as if it had not been
    stopped; with a budget in minutes the learning rate follows the clock.

    Args:
        out: the run folder.
        epochs, minutes: a longer budget than before; the learning rate then decays anew.
        data: where the data is now, if it was moved: the file, or the folder of the data set.
        device: another device than before.
        log: other logs than before.
        callbacks: called after each epoch, and after each step where they have ``on_step``.
        command: the command line to record in ``environment.json``.
        jobs: as for :func:`train`.

    Raises:
        GMMVAEError: ``out`` is not a run folder, is damaged or in use by another process, the data
            changed, or the run is complete.
    """
    out = Path(out)
    config, schema = read_config(out)
    config = with_data_at(config, data)
    longer = {k: v for k, v in (("epochs", epochs), ("minutes", minutes)) if v is not None}
    if longer:
        config = config.replace(**dict.fromkeys(BUDGETS) | longer)
    if device is not None:
        config = config.replace(device=device)
    if log is not None:
        config = config.replace(log=tuple(log))
    config = _resolved(config)
    load = partial(_load, config, callbacks, schema)
    # read first, so that a damaged file is found before the data is loaded or anything is written
    environments = read_environments(out)
    check_resumable(out, bool(longer))
    if (out / MEMBERS).is_dir():
        return _resume_ensemble(config, load, out, bool(longer), callbacks, command, jobs)
    with prepared(config, load, callbacks, out) as job, ExitStack() as stack:
        fit = job.fit
        stack.enter_context(closing(job.loggers))
        with fit.world.raise_together():
            if fit.world.is_first:
                stack.enter_context(held_lock(out / LOCK))
            names_given(out, config, schema, job.parts.model)
            if has_checkpoint(out):
                restore(fit, out)
            else:  # stopped before its first checkpoint
                job.start()
            if epochs is not None and epochs <= fit.state.epoch:
                raise GMMVAEError(
                    f"{out} has {fit.state.epoch} epochs already; to go on give --epochs "
                    "beyond that"
                )
            if longer:
                fit.state.engine = None  # another engine may be faster for a longer budget
        with fit.world.raise_together():
            if fit.world.is_first:
                remove_leftovers(out)
                about = machine(fit.device, config)
                now = environment(command, about, fit.world.size)
                write_config(out, config, schema, [*environments, now])
                job.report_processes(environments)
        return job.run_into(out)


def _resume_ensemble(
    config: Config,
    load: Callable[[], TrainingData],
    out: Path,
    longer: bool,
    callbacks: Sequence[Callback],
    command: str | None,
    jobs: int,
) -> Run:
    if longer:
        raise GMMVAEError(
            f"{out} holds several fits, whose budget can't be made longer; train again with more "
            "--epochs or --steps"
        )
    if read_metrics(out).get("outcome") in FINISHED:
        raise GMMVAEError(f"{out} is complete: all its members and folds are trained")
    options: dict[str, Any] = {"callbacks": callbacks, "command": command, "jobs": jobs}
    return train_ensemble(config, load(), out, _fit_into, resuming=True, **options)


def fit(config: Config, data: TrainingData, *, callbacks: Sequence[Callback] = ()) -> Trained:
    """Fit rows in memory, as :func:`train` fits those of files; nothing is written.

    The same rows, parts and config give the same weights, of all members.

    Args:
        config: see :func:`pyro_gmmvae.runs.default_config`; where its data is is not looked at.
        data: the rows.
        callbacks: called after each epoch, and after each step where they have ``on_step``.

    Raises:
        GMMVAEError: anything in the config or data that can't be used.
        KeyboardInterrupt: Ctrl-C. Other signals are sent again when the fit has ended.
    """
    config = _resolved(with_structure_of_init(config))
    data = with_teacher(config, data, callbacks)
    return _of_members(config, data, callbacks, lambda one, _, called: _fit(one, data, called))


def _fit(config: Config, data: TrainingData, callbacks: Sequence[Callback]) -> Trained:
    with prepared(config, lambda: data, callbacks) as job:
        job.start()
        outcome = job.run()
        if not outcome.startswith("SIG"):
            return job.result(outcome, job.run_in_memory())
    raise_signal(outcome)
    raise KeyboardInterrupt  # where no handler ended the process


def _of_members(
    config: Config,
    data: TrainingData,
    callbacks: Sequence[Callback],
    fit_one: Callable[[Config, int, Sequence[Callback]], Trained],
) -> Trained:
    """The fit of a configuration, or those of its members, each with a number from 0 on."""
    if config.members == 1:
        return fit_one(config, 0, callbacks)
    with shared_graphs(config.members):
        members = [
            fit_one(
                member_config(config, number),
                number,
                [PartialProgress(callbacks, number, config.members)],
            )
            for number in range(config.members)
        ]
    return Trained.of_members(config, data, members)


def fit_epoch(
    config: Config,
    data: TrainingData,
    before: Trained | None = None,
    *,
    callbacks: Sequence[Callback] = (),
) -> Trained:
    """One epoch over some rows, after a fit of other rows, which is left as it is.

    Adam's moments and the schedules continue. The number of epochs to come is not known: the
    learning rate is constant, and there is neither patience nor pseudo-labels.

    Args:
        config: as for :func:`fit`.
        data: the rows, in the units of the first ones.
        before: the fit to continue; Adam's moments start anew where it has none.
        callbacks: called after the epoch.

    Raises:
        GMMVAEError: anything in the config or data that can't be used, or another model than
            before.
    """
    changes = {
        "epochs": 1,
        "steps": None,
        "minutes": None,
        "decay": "constant",
        "patience": 0,
        "init": "random",
    }
    config = resolve(config).with_defaults(**changes, pseudo_threshold=None, preset=None)
    fits = (before.members or (before,)) if before else (None,) * config.members
    if len(fits) != config.members:
        raise GMMVAEError(f"partial_fit: {CHANGED}")
    return _of_members(
        config, data, callbacks, lambda one, k, called: _fit_epoch(one, data, fits[k], called)
    )


def _fit_epoch(
    config: Config, data: TrainingData, before: Trained | None, callbacks: Sequence[Callback]
) -> Trained:
    done = 0 if before is None else int(before.metrics["epochs"])
    # other noise and another order for each epoch
    other_seed = config.with_defaults(seed=(config.seed + done) % 2**32)
    with prepared(other_seed, lambda: data, callbacks) as job:
        fit = job.fit
        if before is not None:
            state = FitState(epoch=done, step=int(before.metrics["steps"]))
            state.module = before.run.model.state_dict()
            state.optimizer = copy.deepcopy(before.optimizer)
            try:
                fit.restore(state)
            except RuntimeError as error:
                raise GMMVAEError(f"partial_fit: {CHANGED}") from error
        fit.run_epoch()
        run = replace(job.run_in_memory(), config=config)
        trained = job.result("partial", run)
    histories = [trained.history] if before is None else [before.history, trained.history]
    history = pd.concat(histories, ignore_index=True)
    return replace(trained, history=history, optimizer=fit.snapshot().optimizer)


def _resolved(config: Config) -> Config:
    if all(getattr(config, key) is None for key in BUDGETS):
        raise GMMVAEError("give the fit an end: epochs, steps or minutes")
    return resolve(config)


def absolute_paths(config: Config) -> Config:
    """The configuration with absolute paths, which hold in any working folder."""
    changes: dict[str, Any] = {}
    if is_file_name(config.data):
        changes["data"] = str(Path(config.data).resolve())
    if config.init_run is not None and config.init_run.is_dir():
        changes["init"] = str(config.init_run.resolve())
    for key in ("data_dir", "tracks", "labels_file"):
        if getattr(config, key) is not None:
            changes[key] = str(Path(getattr(config, key)).resolve())
    if config.layout is not None and config.layout.lower().endswith(".toml"):
        changes["layout"] = str(Path(config.layout).resolve())
    return config.with_defaults(**changes) if changes else config
