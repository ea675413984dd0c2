"""Many runs over models, guides, objectives, presets, labels and seeds: one row of a table each."""

import contextlib
import itertools
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import try_lock
from pyro_gmmvae.sweeps.backends import BACKENDS, check_backend
from pyro_gmmvae.sweeps.plan import Cell, Say
from pyro_gmmvae.sweeps.results import append, keys_of, read_results


def sweep(
    cells: Mapping[Cell, Config],
    out: Path,
    *,
    jobs: int = 1,
    threads: int = 1,
    backend: str = "local",
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
        backend: a key of ``BACKENDS``.
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
    check_backend(backend)
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.csv"
    with _alone(out):
        done = set(keys_of(read_results(results, say)))
        todo = {cell: config for cell, config in cells.items() if cell.key not in done}
        if len(todo) < len(cells):
            say(f"{len(cells) - len(todo)} of {len(cells)} cells are in {results} already")
        failures: list[str] = []
        for count, (cell, outcome) in enumerate(_outcomes(todo, out, jobs, threads, backend), 1):
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
    todo: Mapping[Cell, Config], out: Path, jobs: int, threads: int, backend: str
) -> Iterator[tuple[Cell, dict[str, Any] | Exception]]:
    """Each cell's row or error as it ends; on an interruption those of cells that still ended.

    A process is given its next cell when it is done with one, so that no cell waits in a
    queue that an interruption can't empty.
    """
    waiting = iter(todo.items())
    running: dict[Future[dict[str, Any]], Cell] = {}
    with BACKENDS[backend](jobs, threads) as running_on:
        interrupted: BaseException | None = None
        while True:
            if interrupted is None:
                for cell, config in itertools.islice(waiting, running_on.jobs - len(running)):
                    running[running_on.submit(config, out / "runs" / cell.folder)] = cell
            if not running:
                break
            try:
                ended = wait(running, return_when=FIRST_COMPLETED).done
            except KeyboardInterrupt as heard:
                # the fits save and stop, and a last evaluation ends
                running_on.interrupt()
                interrupted = heard
                continue
            for task in ended:
                cell, error = running.pop(task), task.exception()
                error = getattr(error, "cause", None) or error  # Ray wraps what a task raised
                if interrupted is not None and isinstance(error, Exception):
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
    lock = try_lock(out / ".lock")
    if lock is None:
        raise GMMVAEError(f"another sweep is at work in {out}; wait for it, or name another --out")
    with lock:
        try:
            yield
        finally:
            (out / ".lock").unlink(missing_ok=True)


def _shown(row: Mapping[str, Any]) -> str:
    seconds = f"{row['fit_seconds']:.0f} s"
    for name in ("accuracy", "probe_accuracy", "cluster_accuracy", "elbo"):
        if row.get(name) is not None:
            return f"{name} {row[name]:.4f}, {seconds}"
    return seconds
