"""One trial: asked for, fitted with each seed, and told to the study."""

import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_json
from pyro_gmmvae.runs import train
from pyro_gmmvae.sweeps.run_cell import FINISHED
from pyro_gmmvae.sweeps.search_space import configured
from pyro_gmmvae.sweeps.study import (
    Claim,
    Plan,
    claim,
    finished,
    open_study,
    put_back,
    quiet,
    report_steps,
)
from pyro_gmmvae.training import Callback
from pyro_gmmvae.training.settings import Record
from pyro_gmmvae.training.signals import StopRequest, note_sigint

# a metric of validation rows, and whether more of it is better
METRICS = {
    "val_accuracy": "maximize",
    "val_sequence_accuracy": "maximize",
    "val_log_loss": "minimize",
    "val_elbo": "maximize",
}


@dataclass(frozen=True)
class Report:
    """How a trial ended, for a line of progress, and how many of the study then had."""

    number: int
    state: str
    value: float | None
    seconds: float
    reason: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    finished: int = 0


class StoppedEarly(Exception):  # noqa: N818 - it is no error
    """The trial lags behind the others."""


class Watcher(Callback):
    """A fit's callback: keeps its history, reports to the study, and stops what lags behind.

    Args:
        plan: of the study.
        trial: Optuna's, or None where a fit doesn't report.
        request: true once this process was asked to stop.
    """

    def __init__(self, plan: Plan, trial: Any, request: StopRequest) -> None:
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
            lags = self.reported < reached < self.steps and self.trial.should_prune()
        self.reported = max(self.reported, reached)
        if lags:
            raise StoppedEarly


def run_trial(plan: Plan) -> Report | None:
    """Run the next trial; None where none is left.

    The value is that of the weights that ``train`` gives: of the last epoch, or with
    ``patience`` of the best one; over several seeds it is the mean. A trial that was stopped
    early keeps the value it had then, so that samplers learn from it.

    Raises:
        KeyboardInterrupt: told to stop; the trial was put back.
    """
    with note_sigint() as request:
        with quiet():
            study = open_study(plan)
        work = claim(study, plan)
        if work is None:
            return None
        try:
            return _ended(study, plan, work, request)
        except KeyboardInterrupt:
            with quiet():
                put_back(study, study.trials[work.trial.number], "interrupted")
            raise
        finally:
            work.lock.close()
            (work.folder / "alive").unlink(missing_ok=True)
            if not (plan.keep_runs and any(work.folder.iterdir())):
                shutil.rmtree(work.folder, ignore_errors=True)


def _ended(study: Any, plan: Plan, work: Claim, request: StopRequest) -> Report:
    """Run a trial and tell the study how it ended."""
    from optuna.trial import TrialState

    trial, started = work.trial, time.monotonic()
    records: list[Record] = []
    about: dict[str, Any] = {"state": "complete"}
    try:
        _fit_seeds(plan, work, request, records)
    except StoppedEarly:
        about["state"] = "stopped early"
    except Exception as error:  # of this trial's settings; the study goes on
        about |= {"state": "failed", "reason": " ".join(str(error).split()) or type(error).__name__}
    numbers = _mean(records)
    value = numbers.get(plan.metric, math.nan)
    if about["state"] != "failed" and not math.isfinite(value):
        about |= {"state": "failed", "reason": f"{plan.metric} is {value}"}
    seconds = round(time.monotonic() - started, 2)
    about |= {"numbers": numbers, "seconds": seconds}
    with quiet():
        trial.set_user_attr("about", about)
        if about["state"] == "failed":
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, value)
        count = len(finished(study.get_trials(deepcopy=False)))
    return Report(
        number=trial.number,
        state=about["state"],
        value=None if about["state"] == "failed" else value,
        seconds=seconds,
        reason=about.get("reason", ""),
        params=dict(trial.params),
        finished=count,
    )


def _fit_seeds(plan: Plan, work: Claim, request: StopRequest, records: list[Record]) -> None:
    """Fit once per seed, and add the numbers of each to ``records``.

    The labels that a fit sees are those of the first seed: others would be more labels.
    """
    config = configured(plan.base, plan.space, work.trial.params)
    label_seed = config.seed if config.label_seed is None else config.label_seed
    for number in range(plan.seeds):
        seed = config.seed + number
        folder: Path = work.folder / f"seed-{seed}"
        watcher = Watcher(plan, work.trial if number == 0 else None, request)
        try:
            run = train(
                config.replace(seed=seed, label_seed=label_seed), folder, callbacks=[watcher]
            )
        except StoppedEarly:
            records.append(watcher.records[-1])
            shutil.rmtree(folder, ignore_errors=True)
            raise
        metrics = read_json(folder / "metrics.json")
        if metrics["outcome"] not in FINISHED:
            raise KeyboardInterrupt
        if not watcher.records:
            raise GMMVAEError("its budget ended before the first epoch did")
        best = run.weights == "best"
        records.append(watcher.records[metrics["best_epoch"] - 1 if best else -1])


def _mean(records: list[Record]) -> dict[str, float]:
    """Held-out numbers and epochs, over the seeds."""
    names = [name for name in (*METRICS, "epoch") if records and name in records[0]]
    return {name: sum(record[name] for record in records) / len(records) for name in names}
