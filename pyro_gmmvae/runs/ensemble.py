"""Runs of several fits: members whose probabilities are averaged, and folds of a cross-validation.

Every fit is a run folder of its own: RUN/members/0, ..., and RUN/folds/0, ..., which have members
again where there are several.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write, read_bytes, write_json
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.folder import (
    CONFIG,
    FINISHED,
    FOLDS,
    HISTORY,
    LOCK,
    MEMBERS,
    METRICS,
    OUT_OF_FOLD,
    environment,
    new_folder,
    read_environments,
    read_metrics,
    remove_replaced,
    write_config,
)
from pyro_gmmvae.runs.locks import held_lock
from pyro_gmmvae.runs.out_of_fold import OutOfFold, save_validation_scores
from pyro_gmmvae.runs.run import Run, elbo_quantiles
from pyro_gmmvae.runs.side_by_side import Planned, runs_batched, train_side_by_side
from pyro_gmmvae.runs.teacher import with_teacher
from pyro_gmmvae.training import Callback
from pyro_gmmvae.training.devices import machine, resolve_device
from pyro_gmmvae.training.engines import shared_graphs
from pyro_gmmvae.training.processes import process_pool

# trains or resumes a run of one fit, from a configuration, its data, a folder and callbacks
Fitter = Callable[[Config, TrainingData, Path, Sequence[Callback]], Run]


class PartialProgress(Callback):
    """The callbacks of one of several fits of the same length.

    Args:
        callbacks: of all fits.
        number: of this fit.
        fits: how many there are.
        at_once: the progress of each fit, where they run side by side; else one follows another.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        number: int,
        fits: int,
        at_once: list[float] | None = None,
    ) -> None:
        self.callbacks, self.number, self.fits = callbacks, number, fits
        self.at_once = at_once

    def on_start(self, about: str) -> None:
        for callback in self.callbacks if self.number == 0 else ():
            callback.on_start(about)

    def on_step(self, progress: float) -> None:
        done = self.number + progress
        if self.at_once is not None:
            self.at_once[self.number] = progress
            done = sum(self.at_once)
        for callback in self.callbacks:
            callback.on_step(done / self.fits)

    def on_epoch(self, record: dict[str, float]) -> None:
        for callback in self.callbacks:
            callback.on_epoch(record)


def train_ensemble(
    config: Config,
    data: TrainingData,
    out: Path,
    fit: Fitter,
    *,
    resuming: bool = False,
    force: bool = False,
    callbacks: Sequence[Callback] = (),
    command: str | None = None,
    started: float | None = None,
    jobs: int = 1,
) -> Run:
    """Train the members of a run and its folds, or those that a folder lacks.

    Args:
        config: resolved, of the whole.
        data: of the whole.
        out: the run folder.
        fit: trains a run of one fit, or resumes it.
        resuming: the folder holds this configuration, and perhaps some of the fits.
        force: replace a run that exists.
        callbacks: called after each epoch and each step of every fit.
        command: the command line to record in ``environment.json``.
        started: when its data began to be loaded, by ``time.monotonic``; None: now.
        jobs: fits at once: 1 in this process, more in processes of one thread each.

    Raises:
        GMMVAEError: as of one fit; processes of torchrun; a process that was killed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise GMMVAEError(
            "members and folds are fitted by one process; give --members 1 --cv 0, or leave "
            "torchrun out"
        )
    before = read_environments(out) if resuming else []
    with held_lock(out / LOCK) if resuming else new_folder(out, force):
        now = environment(command, machine(resolve_device(config.device), config))
        write_config(out, config, data.schema, [*before, now])
        return _train(config, data, out, fit, jobs, callbacks, started or time.monotonic())


def _train(
    config: Config,
    data: TrainingData,
    out: Path,
    fit: Fitter,
    jobs: int,
    callbacks: Sequence[Callback],
    started: float,
) -> Run:
    folds = data.folds(config)
    share = partial(_finish_share, config, data, out, fit)
    if (processes := min(jobs, max(config.members, folds))) > 1:
        about = f"{config.members * (1 + folds)} fits in {processes} processes"
        for callback in callbacks:
            callback.on_start(about)
        outcome = _in_processes(share, processes)
    else:
        outcome = share(0, 1, callbacks, started)
    if not (out / MEMBERS / "0" / METRICS).exists():
        raise KeyboardInterrupt  # before there was anything to save
    run = Run.load(out, device=config.device)
    scores = None
    if folds and outcome in FINISHED:
        parts = [_held_out(config, data, out, fold) for fold in range(folds)]
        scores = OutOfFold.joined(parts)
        scores.save(out / OUT_OF_FOLD)
    else:
        save_validation_scores(run, data, out)
    # the first member stands for the others in tables and figures of the training
    atomic_write(out / HISTORY, read_bytes(out / MEMBERS / "0" / HISTORY))
    write_json(
        out / METRICS,
        _metrics(run, data, scores) | {"outcome": outcome, "seconds": time.monotonic() - started},
    )
    for callback in callbacks:
        callback.on_end(outcome)
    return run


def _finish_share(
    config: Config,
    data: TrainingData,
    out: Path,
    fit: Fitter,
    first: int,
    step: int,
    callbacks: Sequence[Callback] = (),
    started: float | None = None,
) -> str:
    """Train every ``step``-th member and fold from ``first`` on, unless it is finished.

    Returns:
        The outcome: "complete", or the signal that stopped a fit.
    """
    folds = data.folds(config)
    fits = 1 + folds  # a fold takes as long as all members
    if step == 1 and runs_batched(config):
        outcome = _train_members_side_by_side(config, data, out, callbacks, fits)
        if outcome not in FINISHED:
            return outcome
    with shared_graphs(config.members):
        for number in range(first, config.members, step):
            folder = out / MEMBERS / str(number)
            if _is_finished(folder):
                continue
            of_member = PartialProgress(callbacks, number, config.members * fits)
            outcome = _finish(member_config(config, number), data, folder, fit, of_member)
            remove_replaced(out)
            if outcome not in FINISHED:
                return outcome
    for fold in range(first, folds, step):
        if fold == 0 and started is not None:
            _announce(data, folds, folds * (time.monotonic() - started), callbacks)
        folder = out / FOLDS / str(fold)
        if _is_finished(folder):
            continue
        one, rest = _fold(config, data, fold)
        of_fold = PartialProgress(callbacks, 1 + fold, fits)
        # a teacher of the whole has seen the labels of the fold
        outcome = _finish(one, with_teacher(one, rest), folder, fit, of_fold)
        if outcome not in FINISHED:
            return outcome
    return "complete"


def _train_members_side_by_side(
    config: Config, data: TrainingData, out: Path, callbacks: Sequence[Callback], fits: int
) -> str:
    """Train the members that have no folder yet as one program; returns the outcome."""
    folders = [out / MEMBERS / str(number) for number in range(config.members)]
    plans, shares = [], [float(_is_finished(folder)) for folder in folders]
    for number, folder in enumerate(folders):
        if not folder.exists():
            of_member = PartialProgress(callbacks, number, config.members * fits, shares)
            plans.append(Planned(member_config(config, number), lambda: data, folder, [of_member]))

    def log(line: str) -> None:
        for callback in callbacks:
            callback.on_start(line)

    outcomes = train_side_by_side(plans, log)
    if any(isinstance(outcome, str) for outcome in outcomes):
        remove_replaced(out)
    for outcome in outcomes:
        if isinstance(outcome, GMMVAEError):
            raise outcome
    ended = [outcome for outcome in outcomes if isinstance(outcome, str)]
    return next((outcome for outcome in ended if outcome not in FINISHED), "complete")


def _in_processes(share: Callable[[int, int], str], jobs: int) -> str:
    """Train each share in a process of its own, of one thread; returns the outcome.

    Raises:
        GMMVAEError: a process that was killed, or the error of a fit.
    """
    with process_pool(jobs, 1) as pool:
        tasks = [pool.submit(share, first, jobs) for first in range(jobs)]
        try:
            wait(tasks)
        except KeyboardInterrupt:  # a terminal sends it to the processes too, and they save
            wait(tasks)
        outcomes = []
        for task in tasks:
            try:
                outcomes.append(task.result())
            except BrokenProcessPool as error:
                raise GMMVAEError(
                    "a process was killed, perhaps for its memory; gmmvae resume trains the fits "
                    "that are missing (with fewer --jobs?)"
                ) from error
            except KeyboardInterrupt:
                outcomes.append("SIGINT")
    return next((outcome for outcome in outcomes if outcome not in FINISHED), "complete")


def _fold(config: Config, data: TrainingData, fold: int) -> tuple[Config, TrainingData]:
    """The configuration and the rows of a fold; its own are the validation rows."""
    one = config.with_defaults(fold=fold, cv=data.folds(config))
    return one, TrainingData.from_config(one, dataset=data.dataset)


def _held_out(config: Config, data: TrainingData, out: Path, fold: int) -> OutOfFold:
    """Scores of the rows of a fold."""
    _, rest = _fold(config, data, fold)
    run = Run.load(out / FOLDS / str(fold), device=config.device)
    return OutOfFold.of(run, rest, rest.split.validation, fold)


def _is_finished(out: Path) -> bool:
    return (out / CONFIG).exists() and read_metrics(out).get("outcome") in FINISHED


def _finish(
    config: Config, data: TrainingData, out: Path, fit: Fitter, progress: PartialProgress
) -> str:
    """Train one of the fits, or resume it; returns its outcome."""
    if config.members > 1:
        resuming = (out / CONFIG).exists()
        train_ensemble(config, data, out, fit, resuming=resuming, callbacks=[progress])
    else:
        fit(config, data, out, [progress])
    return str(read_metrics(out)["outcome"])


def member_config(config: Config, number: int) -> Config:
    """The configuration of a member: of another seed, with the same rows and labels."""
    label_seed = config.seed if config.label_seed is None else config.label_seed
    seed = (config.seed + number) % 2**32
    cv = 0 if config.fold is None else config.cv
    return config.with_defaults(members=1, cv=cv, seed=seed, label_seed=label_seed)


def _announce(
    data: TrainingData, folds: int, seconds: float, callbacks: Sequence[Callback]
) -> None:
    for callback in callbacks:
        callback.on_start(
            f"cross-validation: {folds} folds of {len(data.split.labelled)} labelled rows, about "
            f"{math.ceil(seconds)} s (--cv 0: none)"
        )


def _metrics(run: Run, data: TrainingData, scores: OutOfFold | None) -> dict[str, Any]:
    """The content of ``metrics.json``: of the first fit, and the ELBOs of rows held out."""
    if scores is None or not run.has_bound:
        quantiles = run.measure_reference(data)
    else:
        quantiles = elbo_quantiles(scores.elbo)
    return read_metrics(run.path / MEMBERS / "0") | {"elbo_quantiles": quantiles.tolist()}
