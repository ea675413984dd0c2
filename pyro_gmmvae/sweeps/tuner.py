"""Tuning: trials of a model's settings, compared on validation rows, in one resumable study."""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.files import read_json, read_table
from pyro_gmmvae.ranges import Dimension
from pyro_gmmvae.runs import default_config
from pyro_gmmvae.runs.assembly import checked_parts
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.folder import HISTORY
from pyro_gmmvae.runs.trainer import absolute_paths, train_together
from pyro_gmmvae.sweeps.execute import train_run
from pyro_gmmvae.sweeps.plan import Log, single_fit
from pyro_gmmvae.sweeps.search_space import check_comparable, configured, corners, space_of
from pyro_gmmvae.sweeps.study import (
    SAMPLERS,
    Claim,
    StudyPlan,
    begin,
    claim,
    finished,
    open_study,
    put_back,
    quiet,
    report_steps,
    require_optuna,
)
from pyro_gmmvae.sweeps.tune_report import Tuned, tuned, write_tables
from pyro_gmmvae.training import Callback
from pyro_gmmvae.training.processes import process_pool
from pyro_gmmvae.training.settings import Record
from pyro_gmmvae.training.signals import StopRequest, note_sigint

# metrics of validation rows, and the direction in which they are better
VALIDATION_METRICS = {
    "val_accuracy": "maximize",
    "val_sequence_accuracy": "maximize",
    "val_log_loss": "minimize",
    "val_elbo": "maximize",
}
MAX_KILLED = 3  # processes, with no trial finished in between


@dataclass(frozen=True)
class TrialReport:
    """The end of a trial, for a line of progress; ``finished`` counts the study's trials so far."""

    number: int
    state: str
    value: float | None
    seconds: float
    reason: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    finished: int = 0


def tune(
    keys: Mapping[str, Any],
    out: Path,
    *,
    search: Mapping[str, Dimension | str] | None = None,
    trials: int = 50,
    minutes: float | None = None,
    jobs: int = 1,
    sampler: str = "gp",
    metric: str | None = None,
    seeds: int = 1,
    prune: bool = True,
    keep_runs: bool = False,
    pictures: bool = True,
    start: Mapping[str, Any] | None = None,
    log: Log = print,
    on_trial_end: Callable[[TrialReport], None] = lambda report: None,  # noqa: ARG005
) -> Tuned:
    """Search a model's settings, or resume the study in OUT.

    Labels of validation rows choose the settings: the best value is the best of many on the same
    rows, and optimistic. Test rows are never used. The first trial has the settings that
    ``train`` would take, as near as the space has them.

    Args:
        keys: configuration keys of every trial, as of
            :func:`pyro_gmmvae.runs.default_config`; "data" among them. They are not searched.
        out: folder of the study; several processes and machines may share it.
        search: dimensions by key, or their text ("1e-4:1e-2:log", "64,128x64"), that replace
            the model's or are added to them.
        trials: the number of trials that the study has in the end.
        minutes: start no trial after this time.
        jobs: trials at once: 1 in this process, more in processes with one thread each.
        sampler: "gp", "tpe" or "random".
        metric: a key of ``VALIDATION_METRICS``; None: val_accuracy if the fits see labels, else
            val_elbo.
        seeds: fits of each trial, whose mean is its value; the labels stay those of ``seed``.
        prune: stop trials that are below the median of the others.
        keep_runs: keep run folders under OUT/trials.
        pictures: draw the study in the end.
        start: keys below ``keys`` (as of a file) that ``search`` may replace.
        log: gets lines on the study.
        on_trial_end: called at the end of each trial.

    Raises:
        GMMVAEError: nothing to tune, another study in ``out``, or no trial was completed.
        KeyboardInterrupt: on SIGINT; finished trials are kept, and tables written.
    """
    require_optuna()
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, list(SAMPLERS))
    keys, search = {**(start or {}), **keys}, dict(search or {})
    _check_positive(trials=trials, jobs=jobs, seeds=seeds, minutes=minutes)
    plan = plan_study(
        keys,
        search,
        Path(out),
        metric,
        sampler=sampler,
        trials=trials,
        seeds=seeds,
        prune=prune,
        keep_runs=keep_runs,
    )
    if plan.out.exists() and not plan.out.is_dir():
        raise GMMVAEError(f"{plan.out} is a file; name a folder")
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GMMVAEError(f"can't make {plan.out}: {error.strerror or error}") from error
    begin(plan, log)
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    try:
        for report in _reports(plan, jobs, deadline, log):
            on_trial_end(report)
    except KeyboardInterrupt:
        write_tables(plan)
        raise
    finally:
        _remove_if_empty(plan.out / "trials")
    return tuned(plan, log, pictures=pictures)


def plan_study(
    keys: Mapping[str, Any],
    search: Mapping[str, Dimension | str],
    out: Path,
    metric: str | None,
    **options: Any,
) -> StudyPlan:
    """Check everything that can be checked before the first trial.

    Args:
        keys: configuration keys of every trial.
        search: dimensions by key, or their text.
        out: folder of the study.
        metric: a key of ``VALIDATION_METRICS``, or None.
        options: the other fields of :class:`StudyPlan`.
    """
    data = str(keys.get("data", "digits"))
    config = absolute_paths(resolve(default_config(data, single_fit(data), keys)))
    rows = TrainingData.from_config(config)
    if not len(rows.split.validation):
        raise GMMVAEError(
            "tuning needs validation rows, and there are none; give validation a share or number"
        )
    labelled, sequences = len(rows.split.labelled) > 0, rows.groups.merges
    given = keys.keys() - search.keys()
    space = space_of(config, given, search, labelled=labelled, sequences=sequences)
    parts = checked_parts(config, rows)
    for params in corners(space):
        checked_parts(resolve(configured(config, space, params)), rows)
    has_classes = labelled and parts.model.has_classes()
    metric = _metric(metric, has_classes, sequences, config)
    check_comparable(metric, space)
    return StudyPlan(
        out=out,
        base=config,
        space=space,
        metric=metric,
        direction=VALIDATION_METRICS[metric],
        fingerprint=rows.schema.fingerprint,
        **options,
    )


def _metric(name: str | None, has_classes: bool, has_sequences: bool, config: Config) -> str:
    """The metric to optimize; refuse one that these fits do not report."""
    if name is None:
        return "val_accuracy" if has_classes else "val_elbo"
    if name not in VALIDATION_METRICS:
        raise unknown_name("metric", name, list(VALIDATION_METRICS))
    if name != "val_elbo" and not has_classes:
        why = (
            "these fits see none"
            if config.labels == 0
            else f"the model {config.model!r} does not use them"
        )
        raise GMMVAEError(f"{name} needs labels, and {why}; use --metric val_elbo")
    if name == "val_sequence_accuracy" and not has_sequences:
        raise GMMVAEError(
            f"{name} needs sequences, and {config.data} has none; use --metric val_accuracy"
        )
    return name


def _check_positive(**counts: float | None) -> None:
    for name, value in counts.items():
        if value is not None and not value > 0:
            raise GMMVAEError(f"{name} must be above 0, not {value:g}")


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


# ---------------------------------------------------------------------------------- many trials


def _reports(plan: StudyPlan, jobs: int, deadline: float, log: Log) -> Iterator[TrialReport]:
    """Give each trial's end, until the study has enough trials or the time is over."""
    if jobs == 1:
        while time.monotonic() < deadline and (report := run_trial(plan)) is not None:
            yield report
        return
    yield from _in_processes(plan, jobs, deadline, log)


def _in_processes(plan: StudyPlan, jobs: int, deadline: float, log: Log) -> Iterator[TrialReport]:
    """Run trials at once; a process gets its next trial when it has finished one."""
    kills = 0
    with process_pool(jobs, 1) as pool:
        running: set[Future[TrialReport | None]] = set()
        is_over, interruption = False, None
        while True:
            while len(running) < jobs and not (
                is_over or interruption or time.monotonic() >= deadline
            ):
                running.add(pool.submit(run_trial, plan))
            if not running:
                break
            try:
                ended = wait(running, return_when=FIRST_COMPLETED).done
            except KeyboardInterrupt as error:  # the terminal interrupts the processes too
                interruption = error
                continue
            running -= ended
            for task in ended:
                try:
                    report = task.result()
                except KeyboardInterrupt as error:
                    interruption = interruption or error
                    continue
                except BrokenProcessPool as error:
                    kills += 1
                    if kills > MAX_KILLED:
                        raise GMMVAEError(
                            "the processes of trials are killed again and again, perhaps for their "
                            "memory; the same command resumes the study (with fewer --jobs?)"
                        ) from error
                    log(
                        "the process of a trial was killed, perhaps for its memory; the trial is "
                        "repeated"
                    )
                    is_over = False  # this trial is left
                    continue
                is_over = is_over or report is None
                if report is not None:
                    kills = 0
                    yield report
        if interruption is not None:
            raise interruption


# ---------------------------------------------------------------------------------- one trial


class Pruned(Exception):  # noqa: N818 - not an error
    """A trial was stopped because its value is below the median of the others."""


class PruningCallback(Callback):
    """A callback of a fit: keeps its history, reports values to the study, and prunes the trial.

    Args:
        plan: the plan of the study.
        trial: Optuna's trial, or None for a fit that does not report.
        request: true once this process was asked to stop.
    """

    def __init__(self, plan: StudyPlan, trial: Any, request: StopRequest) -> None:
        self.plan, self.trial, self.request = plan, trial, request
        self.records: list[Record] = []
        self.steps, self.reported, self.progress = report_steps(plan.base), 0, 0.0

    def on_step(self, progress: float) -> None:
        self.progress = progress
        if self.request:
            raise KeyboardInterrupt

    def on_epoch(self, record: Record) -> None:
        self.records.append(record)
        if self.trial is None or not self.plan.prune:
            return
        reached = math.floor(self.progress * self.steps + 1e-6)
        value = record[self.plan.metric]
        with quiet():
            for step in range(self.reported + 1, reached + 1):
                self.trial.report(value, step)
            prune = self.reported < reached < self.steps and self.trial.should_prune()
        self.reported = max(self.reported, reached)
        if prune:
            raise Pruned


def run_trial(plan: StudyPlan) -> TrialReport | None:
    """Run the next trial; None if none is left.

    The value is that of the weights that ``train`` gives: of the last epoch, or with
    ``patience`` of the best epoch; over several seeds it is the mean. A pruned trial keeps the
    value it had then, so that samplers learn from it.

    Raises:
        KeyboardInterrupt: on SIGINT; the trial was put back.
    """
    with note_sigint() as request:
        with quiet():
            study = open_study(plan)
        work = claim(study, plan)
        if work is None:
            return None
        try:
            return _run_claim(study, plan, work, request)
        except KeyboardInterrupt:
            with quiet():
                put_back(study, study.trials[work.trial.number], "interrupted")
            raise
        finally:
            work.lock.close()
            (work.folder / "alive").unlink(missing_ok=True)
            if not (plan.keep_runs and any(work.folder.iterdir())):
                shutil.rmtree(work.folder, ignore_errors=True)


def _run_claim(study: Any, plan: StudyPlan, work: Claim, request: StopRequest) -> TrialReport:
    """Run a trial and record its end in the study."""
    from optuna.trial import TrialState

    trial, started = work.trial, time.monotonic()
    records: list[Record] = []
    state, reason = "complete", ""
    try:
        _fit_seeds(plan, work, request, records)
    except Pruned:
        state = "stopped early"
    except Exception as error:  # of this trial's settings; the study continues
        state, reason = "failed", " ".join(str(error).split()) or type(error).__name__
    numbers = _means(records)
    value = numbers.get(plan.metric, math.nan)
    if state != "failed" and not math.isfinite(value):
        state, reason = "failed", f"{plan.metric} is {value}"
    failed = state == "failed"
    seconds = round(time.monotonic() - started, 2)
    about = {"state": state, "numbers": numbers, "seconds": seconds}
    with quiet():
        trial.set_user_attr("about", about | ({"reason": reason} if failed else {}))
        if failed:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, value)
        count = len(finished(study.get_trials(deepcopy=False)))
    value_or_none = None if failed else value
    params = dict(trial.params)
    return TrialReport(trial.number, state, value_or_none, seconds, reason, params, count)


def _fit_seeds(plan: StudyPlan, work: Claim, request: StopRequest, records: list[Record]) -> None:
    """Fit once per seed, and add the last or best record of each fit to ``records``.

    All fits see the labels of the first seed: other draws would be more labels.
    """
    config = configured(plan.base, plan.space, work.trial.params)
    label_seed = config.seed if config.label_seed is None else config.label_seed
    seeds = [config.seed + number for number in range(plan.seeds)]
    runs = {work.folder / f"seed-{s}": config.replace(seed=s, label_seed=label_seed) for s in seeds}
    trials = [work.trial, *[None] * (plan.seeds - 1)]  # the first fit reports
    callbacks = [PruningCallback(plan, trial, request) for trial in trials]
    try:
        for outcome in train_together(runs, lambda _: None, [[one] for one in callbacks]):
            if isinstance(outcome, GMMVAEError):
                raise outcome
        for (folder, one), callback in zip(runs.items(), callbacks, strict=True):
            train_run(one, folder, [callback])
            metrics = read_json(folder / "metrics.json")
            if not metrics["epochs"]:
                raise GMMVAEError("the budget ended before the first epoch")
            # of the run, as a fit that was tried again has called back twice
            history = read_table(folder / HISTORY, dtype=str).astype(float)
            epoch = metrics["best_epoch"] if metrics["weights"] == "best" else metrics["epochs"]
            records.append(history.iloc[epoch - 1].to_dict())
    except Pruned:
        records.append(callbacks[len(records)].records[-1])
        for folder in runs:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _means(records: list[Record]) -> dict[str, float]:
    """Means over the seeds of the validation metrics and of the number of epochs."""
    names = [n for n in (*VALIDATION_METRICS, "epoch") if records and n in records[0]]
    return {name: sum(record[name] for record in records) / len(records) for name in names}
