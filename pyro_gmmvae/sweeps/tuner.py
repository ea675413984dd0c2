"""Search settings by validation rows: many trials, each a fit, in one study that can be resumed."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from pyro_gmmvae.config import Config, Dimension
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.runs import default_config
from pyro_gmmvae.runs.assembly import build
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.trainer import absolute_paths
from pyro_gmmvae.sweeps.backends import local
from pyro_gmmvae.sweeps.plan import Say
from pyro_gmmvae.sweeps.samplers import check_sampler
from pyro_gmmvae.sweeps.search_space import check_comparable, configured, ends_of, space_of
from pyro_gmmvae.sweeps.study import Plan, begin, require_optuna
from pyro_gmmvae.sweeps.trial import METRICS, Report, run_trial
from pyro_gmmvae.sweeps.tune_report import Tuned, tuned, write_tables
from pyro_gmmvae.training.devices import seeded

Heard = Callable[[Report], None]
MOST_RESTARTS = 3  # of processes that were killed, with no trial finished in between


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
    say: Say = print,
    heard: Heard = lambda report: None,  # noqa: ARG005
) -> Tuned:
    """Search a model's settings, or go on with the study that is in OUT.

    Labels of validation rows choose the settings: the best value is the best of many on the same
    rows, and optimistic. Test rows are never looked at. The first trial has the settings that
    ``train`` would take, as near as the space has them.

    Args:
        keys: of every trial, as of :func:`pyro_gmmvae.runs.default_config`; "data" among them,
            and what they name is not searched.
        out: folder of the study; several processes and machines may share one.
        search: dimensions by key, or their text ("1e-4:1e-2:log", "64,128x64"), that replace
            or join those of the model.
        trials: how many the study should have in the end.
        minutes: begin no trial after these.
        jobs: trials at once: 1 in this process, more in processes of one thread each.
        sampler: "gp", "tpe" or "random".
        metric: a key of ``METRICS``; None: val_accuracy where labels are seen, else val_elbo.
        seeds: fits of each trial, of which the mean counts; the labels stay those of ``seed``.
        prune: stop trials that lag behind the median of the others.
        keep_runs: keep run folders under OUT/trials.
        pictures: draw the study in the end.
        start: keys under ``keys`` (as of a file) that ``search`` may free.
        say: hears lines on the study.
        heard: hears of each trial's end.

    Raises:
        GMMVAEError: nothing to tune, another study in ``out``, or no trial that was completed.
        KeyboardInterrupt: told to stop; finished trials are kept, and tables written.
    """
    require_optuna()
    check_sampler(sampler)
    keys, search = {**(start or {}), **keys}, dict(search or {})
    _check_counts(trials=trials, jobs=jobs, seeds=seeds, minutes=minutes)
    plan = plan_of(
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
    begin(plan, say)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    try:
        for report in _reports(plan, jobs, deadline, say):
            heard(report)
    except KeyboardInterrupt:
        write_tables(plan)
        raise
    finally:
        _tidy(plan.out)
    return tuned(plan, say, pictures=pictures)


def plan_of(
    keys: Mapping[str, Any],
    search: Mapping[str, Dimension | str],
    out: Path,
    metric: str | None,
    **settings: Any,
) -> Plan:
    """Check everything that can be checked before the first trial."""
    config = absolute_paths(resolve(default_config(str(keys.get("data", "digits")), keys)))
    rows = TrainingData.from_config(config)
    if not len(rows.split.validation):
        raise GMMVAEError(
            "tuning needs validation rows, and there are none; give validation a share or number"
        )
    labelled, sequences = len(rows.split.labelled) > 0, rows.groups.merges
    given = keys.keys() - search.keys()
    space = space_of(config, given, search, labelled=labelled, sequences=sequences)
    with seeded(0, torch.device("cpu")):
        parts = build(config, rows)
        parts.dry_run()
        model = parts.model
        for params in ends_of(space):
            build(resolve(configured(config, space, params)), rows).dry_run()
    has_classes = labelled and model.has_classes()
    metric = _metric(metric, has_classes, sequences, config)
    check_comparable(metric, space)
    return Plan(
        out=out,
        base=config,
        space=space,
        metric=metric,
        direction=METRICS[metric],
        fingerprint=rows.schema.fingerprint,
        **settings,
    )


def _metric(name: str | None, has_classes: bool, has_sequences: bool, config: Config) -> str:
    """The metric to optimise; one that these fits don't give is refused."""
    if name is None:
        return "val_accuracy" if has_classes else "val_elbo"
    if name not in METRICS:
        raise unknown_name("metric", name, list(METRICS))
    if name != "val_elbo" and not has_classes:
        why = "sees no label" if config.labels == 0 else f"of the model {config.model!r} has none"
        raise GMMVAEError(f"{name} is of classes, and a fit {why}; take val_elbo")
    if name == "val_sequence_accuracy" and not has_sequences:
        raise GMMVAEError(f"{name} is of sequences, and {config.data} has none; take val_accuracy")
    return name


def _check_counts(**counts: float | None) -> None:
    for name, value in counts.items():
        if value is not None and not value > 0:
            raise GMMVAEError(f"{name} must be above 0, not {value:g}")


def _reports(plan: Plan, jobs: int, deadline: float | None, say: Say) -> Iterator[Report]:
    """Each trial's end, until there are enough of them or the time is over."""
    if jobs == 1:
        while not _is_late(deadline) and (report := run_trial(plan)) is not None:
            yield report
        return
    restarts = 0
    while restarts <= MOST_RESTARTS:
        try:
            for report in _in_processes(plan, jobs, deadline):
                restarts = 0
                yield report
        except BrokenProcessPool as error:
            restarts += 1
            if restarts > MOST_RESTARTS:
                raise GMMVAEError(
                    "the processes of trials are killed again and again, perhaps for their "
                    "memory; the same command goes on (with fewer --jobs?)"
                ) from error
            say("a trial's process was killed, perhaps for its memory; what it ran begins again")
        else:
            return


def _in_processes(plan: Plan, jobs: int, deadline: float | None) -> Iterator[Report]:
    """Trials at once; each process is given its next one when it is done with the last."""
    with local(jobs, 1) as backend:
        running: set[Future[Report | None]] = set()
        is_over, interrupted = False, None
        while True:
            while len(running) < jobs and not (is_over or interrupted or _is_late(deadline)):
                running.add(backend.run(run_trial, plan))
            if not running:
                break
            try:
                ended = wait(running, return_when=FIRST_COMPLETED).done
            except KeyboardInterrupt as heard:  # the processes heard the terminal, too
                interrupted = heard
                continue
            running -= ended
            for task in ended:
                try:
                    report = task.result()
                except KeyboardInterrupt as heard:
                    interrupted = interrupted or heard
                    continue
                is_over = is_over or report is None
                if report is not None:
                    yield report
        if interrupted is not None:
            raise interrupted


def _is_late(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _tidy(out: Path) -> None:
    """Remove the folder of trials where nothing is left in it."""
    folder = out / "trials"
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
