"""Execution of sweeps: in this process, in several processes, or on a Ray cluster."""

import contextlib
import itertools
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

import pyro_gmmvae
from pyro_gmmvae.config import Config
from pyro_gmmvae.datasets import is_file_name
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_json
from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.runs.folder import FINISHED
from pyro_gmmvae.runs.locks import InUseError, held_lock
from pyro_gmmvae.runs.run import Run
from pyro_gmmvae.runs.trainer import resume, train, train_together
from pyro_gmmvae.sweeps.plan import Log, SweepRun, train_command
from pyro_gmmvae.sweeps.tables import append_result, read_results, run_keys
from pyro_gmmvae.sweeps.workers import Pool, check_backend, ray_pool
from pyro_gmmvae.training import Callback, NonFiniteError
from pyro_gmmvae.training.processes import process_pool, torch_threads
from pyro_gmmvae.training.signals import sigterm_as_interrupt, stop_on_signal

TEST_METRICS = (
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
    "recognized",
    "judge_accuracy",
    "precision",
    "recall",
    "density",
    "coverage",
    *("spread", "active_units", "total_correlation"),
    *("mig", "sap", "factor_vae_score"),
    *("dci_disentanglement", "dci_completeness", "dci_informativeness"),
    *("recognized_sampled", "precision_sampled", "recall_sampled"),
    *("precision_reference", "recall_reference"),
    "test_rows",
    "sequence_accuracy",
    "sequence_cluster_accuracy",
    "sequence_nmi",
    "test_sequences",
)
Row = dict[str, Any]
Outcomes = Iterator[tuple[SweepRun, Row | Exception]]


def sweep(
    runs: Mapping[SweepRun, Config],
    out: Path,
    *,
    jobs: int = 1,
    threads: int = 1,
    backend: str = "local",
    keep_runs: bool = False,
    log: Log = print,
) -> tuple[pd.DataFrame, list[str]]:
    """Train and evaluate every run that has no row in OUT/results.csv yet.

    A run has a folder under OUT/runs until its row is written; a run that was stopped is resumed
    from its checkpoint.

    Args:
        runs: the runs, from :func:`plan_sweep`.
        out: the folder of the results.
        jobs: runs at once: 1 in this process, more in processes of their own.
        threads: threads of torch for each run.
        backend: "local" or "ray".
        keep_runs: keep the run folders of finished runs.
        log: gets a line at the end of each run.

    Returns:
        The rows of these runs, in their order, and a line for each run that failed.

    Raises:
        GMMVAEError: results of another version in OUT, or another sweep that uses OUT.
        KeyboardInterrupt: on SIGINT or SIGTERM; fits under way are saved first.
    """
    if out.exists() and not out.is_dir():
        raise GMMVAEError(f"{out} is a file; name a folder")
    check_backend(backend)
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.csv"
    with held_lock(out / ".lock"):
        done = set(run_keys(read_results(results, log)))
        todo = {run: config for run, config in runs.items() if run.key not in done}
        if len(todo) < len(runs):
            log(f"{len(runs) - len(todo)} of {len(runs)} runs are in {results} already")
        failures: list[str] = []
        outcomes = _outcomes(todo, out / "runs", jobs, threads, backend, log)
        for count, (run, outcome) in enumerate(outcomes, 1):
            if isinstance(outcome, dict):
                append_result(results, asdict(run) | outcome)
                line = f"{run.title}: {_summary(outcome)}"
                if not keep_runs:
                    shutil.rmtree(out / "runs" / run.folder, ignore_errors=True)
            else:
                line = f"{run.title}: {outcome or type(outcome).__name__}"
                failures.append(line)
            log(f"{count}/{len(todo)} {line}")
        with contextlib.suppress(OSError):
            (out / "runs").rmdir()
        table = read_results(results, lambda _: None)
    order = {run.key: number for number, run in enumerate(runs)}
    rows = pd.Series(run_keys(table), index=table.index, dtype=object).map(order).dropna()
    return table.loc[rows.sort_values().index], failures


def _summary(row: Row) -> str:
    seconds = f"{row['fit_seconds']:.0f} s"
    for name in ("accuracy", "probe_accuracy", "cluster_accuracy", "elbo"):
        if row.get(name) is not None:
            return f"{name} {row[name]:.4f}, {seconds}"
    return seconds


# ---------------------------------------------------------------------------------- one run


def train_run(config: Config, folder: Path, callbacks: Sequence[Callback] = ()) -> Run:
    """Train a run; load one that is finished, and resume one that was stopped.

    Args:
        config: of the run.
        folder: of the run.
        callbacks: of what is left to train.

    Raises:
        KeyboardInterrupt: a signal stopped the fit, which is saved.
    """
    run = _trained(config, folder, callbacks)
    if read_json(folder / "metrics.json")["outcome"] not in FINISHED:
        raise KeyboardInterrupt
    return run


def _trained(config: Config, folder: Path, callbacks: Sequence[Callback]) -> Run:
    file = folder / "metrics.json"
    try:
        metrics = read_json(file) if file.exists() else {}
        if isinstance(metrics, dict) and metrics.get("outcome") in FINISHED:
            return Run.load(folder, device=config.device)
        if (folder / "training.pt").exists():
            where = config.data if is_file_name(config.data) else config.data_dir
            return resume(folder, data=where, device=config.device, callbacks=callbacks)
    except (NonFiniteError, InUseError):
        raise
    except GMMVAEError:  # of another version, or damaged when its process was killed
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return train(config, folder, callbacks=callbacks)


def evaluate_run(run: Run, config: Config) -> Row:
    """Evaluate a finished run, and describe it in one row of the table."""
    started = time.monotonic()
    numbers = run.evaluate()
    metrics = read_json(run.path / "metrics.json")
    environment = read_json(run.path / "environment.json")
    return {name: numbers.get(name) for name in TEST_METRICS} | {
        "val_accuracy": metrics["training"].get("val_accuracy"),
        "label_seed": config.seed if config.label_seed is None else config.label_seed,
        "seconds": round(metrics["seconds"] + time.monotonic() - started, 1),
        "fit_seconds": round(metrics["seconds"], 1),
        "epochs": metrics["epochs"],
        "steps": metrics["steps"],
        "engine": metrics["engine"],
        "device": environment["device"],
        "threads": environment["threads"],
        "processor": environment["processor"],
        "versions": " ".join(f"{k}={v}" for k, v in environment["packages"].items()),
        "version": pyro_gmmvae.__version__,
        "command": train_command(config),
    }


def _train_and_evaluate(config: Config, folder: Path) -> Row:
    """Run in a worker, where an evaluation under way ends before the worker stops."""
    run = train_run(config, folder)
    with stop_on_signal():
        return evaluate_run(run, config)


# ---------------------------------------------------------------------------------- many runs


def _outcomes(
    todo: Mapping[SweepRun, Config],
    folder: Path,
    jobs: int,
    threads: int,
    backend: str,
    log: Log,
) -> Outcomes:
    """Give each run's row or error as it ends."""
    if not todo:
        return
    if backend == "ray":
        on_gpu = any(config.device.startswith("cuda") for config in todo.values())
        with ray_pool(threads, int(on_gpu)) as pool:
            yield from _in_pool(todo, folder, pool)
    elif jobs > 1:
        with process_pool(jobs, threads) as pool:
            yield from _in_pool(todo, folder, pool)
    else:
        with torch_threads(threads), sigterm_as_interrupt(lambda: None):
            for group in _programs(todo):
                paths = {(folder / run.folder).resolve(): c for run, c in group.items()}
                ended: list[str | GMMVAEError | None] = [None] * len(group)
                with contextlib.suppress(GMMVAEError):  # which each run reports by itself
                    ended = train_together(paths, log)
                errors = {
                    run: error
                    for run, error in zip(group, ended, strict=True)
                    if isinstance(error, GMMVAEError)
                }
                yield from errors.items()
                rest = {run: config for run, config in group.items() if run not in errors}
                yield from _in_this_process(rest, folder)


def _programs(todo: Mapping[SweepRun, Config]) -> list[dict[SweepRun, Config]]:
    """Runs that differ in numbers only, which may be one program."""
    groups: dict[str, dict[SweepRun, Config]] = {}
    for run, config in todo.items():
        fixed = {k: v for k, v in config if not isinstance(v, float | Schedule)}
        key = repr(fixed | {"seed": 0, "label_seed": None})
        groups.setdefault(key, {})[run] = config
    return list(groups.values())


def _in_this_process(todo: Mapping[SweepRun, Config], folder: Path) -> Outcomes:
    for run, config in todo.items():
        outcome: Row | Exception
        try:
            trained = train_run(config, folder / run.folder)
        except Exception as error:  # of this run; the others are trained
            yield run, error
            continue
        with stop_on_signal() as request:  # an evaluation under way ends, and its row is written
            try:
                outcome = evaluate_run(trained, config)
            except Exception as error:
                outcome = error
            yield run, outcome
        if request:
            raise KeyboardInterrupt


def _in_pool(todo: Mapping[SweepRun, Config], folder: Path, pool: Pool) -> Outcomes:
    """Run in workers; on an interruption, give the rows of runs that still ended.

    A worker gets its next run when it has finished one, so that an interruption finds an empty
    queue.
    """
    waiting = iter(todo.items())
    running: dict[Future[Row], SweepRun] = {}
    interruption: BaseException | None = None
    while True:
        if interruption is None:
            for run, config in itertools.islice(waiting, pool.slots - len(running)):
                place = (folder / run.folder).resolve()
                running[pool.submit(_train_and_evaluate, config, place)] = run
        if not running:
            break
        try:
            ended = wait(running, return_when=FIRST_COMPLETED).done
        except KeyboardInterrupt as error:
            pool.interrupt()  # fits save and stop, and an evaluation under way ends
            interruption = error
            continue
        for task in ended:
            run, failure = running.pop(task), task.exception()
            failure = getattr(failure, "cause", None) or failure  # Ray wraps what a task raised
            if isinstance(failure, BrokenProcessPool):
                failure = GMMVAEError(
                    "its process was killed, perhaps for its memory; the same command resumes it "
                    "(with fewer --jobs?)"
                )
            if isinstance(failure, KeyboardInterrupt):
                interruption = interruption or failure
            elif failure is None:
                yield run, task.result()
            elif not isinstance(failure, Exception):
                raise failure
            elif interruption is None:  # else stopped half-way, and resumed by the same command
                yield run, failure
    if interruption is not None:
        raise interruption
