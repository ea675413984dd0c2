"""Many runs over models, guides, objectives, presets, labels and seeds: one row of a table each."""

import contextlib
import itertools
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import pyro_gmmvae
from pyro_gmmvae.config import Config
from pyro_gmmvae.data import is_file_name
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.inference import NonFiniteError
from pyro_gmmvae.inference.checkpoint import read_json
from pyro_gmmvae.runs.cells import Cell, Say, command_of
from pyro_gmmvae.runs.results import append, keys_of, read_results
from pyro_gmmvae.runs.run import Run
from pyro_gmmvae.runs.training import resume, train

NUMBERS = (
    "accuracy",
    "probe_accuracy",
    "ece",
    "cluster_accuracy",
    "nmi",
    "ari",
    "elbo",
    "nll",
    "rate",
    "distortion",
    "ess",
    "pareto_k_bad",
    "test_rows",
)
FINISHED = ("complete", "early-stopped")


def sweep(
    cells: Mapping[Cell, Config],
    out: Path,
    *,
    jobs: int = 1,
    threads: int = 1,
    keep_runs: bool = False,
    say: Say = print,
) -> tuple[pd.DataFrame, list[str]]:
    """Train and evaluate every cell whose row is not in OUT/results.csv yet.

    Each cell is a run folder under OUT/runs until its row is written; one that was stopped
    half-way goes on from its checkpoint.

    Args:
        cells: what to run, from :func:`plan`.
        out: the folder of the results.
        jobs: how many cells to train at once, each in a process of its own.
        threads: torch's threads in each.
        keep_runs: keep the run folders of finished cells.
        say: hears of each cell's end.

    Returns:
        The rows of these cells, in their order, and a line for each cell that failed.

    Raises:
        GMMVAEError: results of another version in OUT, another sweep at work there, or a
            process that was killed. Rows that were finished are written in each case.
        KeyboardInterrupt: when told to stop; fits under way are saved first.
    """
    if out.exists() and not out.is_dir():
        raise GMMVAEError(f"{out} is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.csv"
    with _alone(out):
        done = set(keys_of(read_results(results, say)))
        todo = {cell: config for cell, config in cells.items() if cell.key not in done}
        if len(todo) < len(cells):
            say(f"{len(cells) - len(todo)} of {len(cells)} cells are in {results} already")
        failures: list[str] = []
        for count, (cell, outcome) in enumerate(_outcomes(todo, out, jobs, threads), 1):
            if isinstance(outcome, dict):
                append(results, asdict(cell) | outcome)
                line = f"{cell.title}: {_shown(outcome)}"
                if not keep_runs:
                    shutil.rmtree(out / "runs" / cell.folder, ignore_errors=True)
            else:
                line = f"{cell.title}: {outcome or type(outcome).__name__}"
                failures.append(line)
            say(f"{count}/{len(todo)} {line}")
        with contextlib.suppress(OSError):
            (out / "runs").rmdir()
        table = read_results(results, lambda _: None)
    order = {cell.key: number for number, cell in enumerate(cells)}
    mine = table[[key in order for key in keys_of(table)]]
    mine = mine.iloc[sorted(range(len(mine)), key=lambda row: order[keys_of(mine)[row]])]
    return mine, failures


def _outcomes(
    todo: Mapping[Cell, Config], out: Path, jobs: int, threads: int
) -> Iterator[tuple[Cell, dict[str, Any] | Exception]]:
    """Each cell's row or error as it ends; on an interruption those of cells that still ended.

    A process is given its next cell when it is done with one, so that no cell waits in a
    queue that an interruption can't empty.
    """
    waiting = iter(todo.items())
    running: dict[Future[dict[str, Any]], Cell] = {}
    with _pool(jobs, threads) as pool:
        interrupted: BaseException | None = None
        while True:
            if interrupted is None:
                for cell, config in itertools.islice(waiting, jobs - len(running)):
                    with _inherited_deafness():
                        task = pool.submit(_run_cell, config, out / "runs" / cell.folder)
                    running[task] = cell
            if not running:
                break
            try:
                ended = wait(running, return_when=FIRST_COMPLETED).done
            except KeyboardInterrupt as heard:
                # the fits heard it too: they save and stop, and a last evaluation ends
                interrupted = heard
                continue
            for task in ended:
                cell, error = running.pop(task), task.exception()
                if interrupted is not None and isinstance(error, GMMVAEError | BrokenProcessPool):
                    continue  # stopped half-way: it goes on when the command is given again
                if isinstance(error, BrokenProcessPool):
                    raise GMMVAEError(
                        f"the process of {cell.title} was killed, perhaps for its memory; the "
                        "same command goes on (with fewer --jobs?)"
                    ) from error
                if error is not None and not isinstance(error, Exception):
                    raise error
                yield cell, task.result() if error is None else error
        if interrupted is not None:
            raise interrupted


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Refuse a second sweep into one folder while the first is at work (POSIX)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise GMMVAEError(
                f"another sweep is at work in {out}; wait for it, or name another --out"
            ) from error
        try:
            yield
        finally:
            (out / ".lock").unlink(missing_ok=True)


@contextlib.contextmanager
def _pool(jobs: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes of some threads each, that a terminated parent stops as Ctrl-C does."""
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_prepare, initargs=(threads,)
    )
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGTERM, _terminated) if in_main else None
    try:
        with pool:
            yield pool
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, handler)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _terminated(*_: Any) -> None:
    for child in active_children():  # a terminal tells them of Ctrl-C; nobody tells them of this
        if child.pid is not None:
            os.kill(child.pid, signal.SIGINT)
    raise KeyboardInterrupt


@contextlib.contextmanager
def _inherited_deafness() -> Iterator[None]:
    """Processes started here ignore Ctrl-C until their fit listens for it, also while importing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _prepare(threads: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed tells nobody: stop the fit, which saves, and leave."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _run_cell(config: Config, folder: Path) -> dict[str, Any]:
    """Train (or go on), evaluate, and say it in one row."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the fit saves and stops on it
    try:
        run = _trained(config, folder)
    except KeyboardInterrupt as error:
        raise GMMVAEError("interrupted; the same command goes on") from error
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    metrics = read_json(folder / "metrics.json")
    if metrics["outcome"] not in FINISHED:
        raise GMMVAEError(f"interrupted ({metrics['outcome']}); the same command goes on")
    started = time.monotonic()
    numbers = run.evaluate()
    seconds = metrics["seconds"] + time.monotonic() - started
    about = read_json(folder / "environment.json")
    return {name: numbers.get(name) for name in NUMBERS} | {
        "val_accuracy": metrics["training"].get("val_accuracy"),
        "label_seed": config.seed if config.label_seed is None else config.label_seed,
        "seconds": round(seconds, 1),
        "fit_seconds": round(metrics["seconds"], 1),
        "epochs": metrics["epochs"],
        "steps": metrics["steps"],
        "device": about["device"],
        "threads": about["threads"],
        "processor": about["processor"],
        "versions": " ".join(f"{k}={v}" for k, v in about["packages"].items()),
        "version": pyro_gmmvae.__version__,
        "command": command_of(config),
    }


def _trained(config: Config, folder: Path) -> Run:
    """The cell's run: as it is where it is finished, gone on with where it was stopped."""
    file = folder / "metrics.json"
    try:
        metrics = read_json(file) if file.exists() else {}
        if isinstance(metrics, dict) and metrics.get("outcome") in FINISHED:
            return Run.load(folder, device=config.device)
        if (folder / "training.pt").exists():
            where = config.data if is_file_name(config.data) else config.data_dir
            return resume(folder, data=where, device=config.device)
    except NonFiniteError:
        raise
    except GMMVAEError:  # of another version, or damaged when its process was killed
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return train(config, folder)


def _shown(row: Mapping[str, Any]) -> str:
    seconds = f"{row['fit_seconds']:.0f} s"
    for name in ("accuracy", "probe_accuracy", "cluster_accuracy", "elbo"):
        if row.get(name) is not None:
            return f"{name} {row[name]:.4f}, {seconds}"
    return seconds
