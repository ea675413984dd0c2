"""Many runs over models, guides, objectives, presets, labels and seeds: one row of a table each."""

import contextlib
import hashlib
import itertools
import json
import os
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import pandas as pd

import pyro_gmmvae
from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.inference.checkpoint import atomic_write, read_json
from pyro_gmmvae.runs.build import Rows, default_config, load_rows, takes_guide
from pyro_gmmvae.runs.build import with_defaults_named as named
from pyro_gmmvae.runs.run import Run
from pyro_gmmvae.runs.training import check_fit, resume, train

Say = Callable[[str], None]
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


@dataclass(frozen=True)
class Cell:
    """One run of a sweep; equal cells are the same row of the table.

    Attributes:
        data, model, guide, objective, preset, labels, seed: as in the configuration.
        settings: keys that differ from the preset's, "key=value key=value".
        config: short hash of all settings, so that a preset that changed is run anew.
    """

    data: str
    model: str
    guide: str
    objective: str
    preset: str
    labels: str
    seed: int
    settings: str
    config: str


KEY = [field.name for field in fields(Cell)]


def plan(
    common: Mapping[str, Any],
    *,
    models: Sequence[str],
    guides: Sequence[str | None] = (None,),
    objectives: Sequence[str | None] = (None,),
    presets: Sequence[str | None] = (None,),
    variants: Sequence[Mapping[str, Any]] = ({},),
    labels: Sequence[int | str | None] = (None,),
    seeds: Sequence[int] = (0,),
    say: Say = print,
) -> dict[Cell, Config]:
    """Every combination, first names first; those that do not fit are named and left out.

    A model without a choice of guides gets one cell in the place of one per guide.

    Args:
        common: keys of every configuration; "data" among them.
        models, guides, objectives, presets, labels, seeds: what varies; None: the default.
        variants: further keys, one cell for each set of them.
        say: hears of combinations that are left out.

    Raises:
        GMMVAEError: an unknown name or a value out of range, or nothing that fits.
    """
    cells: dict[Cell, Config] = {}
    rows: dict[Any, Rows] = {}
    misfits: dict[str, None] = {}
    columns = itertools.product(models, guides, objectives, presets, variants)
    for label, (model, guide, objective, preset, variant) in itertools.product(labels, columns):
        if label not in rows:
            layer = {} if label is None else {"labels": label}
            rows[label] = load_rows(default_config(str(common["data"]), common, layer))
        changes = {
            "model": model,
            "guide": guide if takes_guide(model) else None,
            "objective": objective,
            "preset": preset,
            "labels": label,
        }
        given = {key: value for key, value in changes.items() if value is not None}
        config = named(default_config(str(common["data"]), common, given, variant))
        try:
            check_fit(config, rows[label])
        except GMMVAEError as error:
            misfits[f"{model}, {config.guide}, {config.objective}: {error}"] = None
            continue
        for seed in seeds:
            one = config.replace(seed=seed)
            cells[_cell(one, common, variant)] = one
    for misfit in misfits:
        say(f"left out: {misfit}")
    if not cells:
        raise GMMVAEError(f"no combination fits: {next(iter(misfits), 'no names were given')}")
    return cells


def _cell(config: Config, common: Mapping[str, Any], variant: Mapping[str, Any]) -> Cell:
    apart = {"seed", "data_dir", "device", *KEY}
    changed = {k: v for k, v in ({**common, **variant}).items() if k not in apart}
    content = config.model_dump_json(exclude_defaults=True, exclude={"seed", "data_dir", "device"})
    return Cell(
        data=config.data,
        model=config.model,
        guide=config.guide or "",
        objective=config.objective or "",
        preset=config.preset or "",
        labels="all" if config.labels is None else str(config.labels),
        seed=config.seed,
        settings=" ".join(f"{key}={value}" for key, value in changed.items()),
        config=hashlib.sha256(content.encode()).hexdigest()[:8],
    )


def sweep(
    cells: Mapping[Cell, Config],
    out: Path,
    *,
    jobs: int = 1,
    threads: int = 1,
    keep_runs: bool = False,
    say: Say = print,
) -> pd.DataFrame:
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
        The rows of these cells, in their order.

    Raises:
        GMMVAEError: results of another version in OUT, or a cell that failed (the others'
            rows are written).
    """
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.csv"
    table = read_results(results, say)
    done = set(_keys(table))
    todo = {cell: config for cell, config in cells.items() if _key(cell) not in done}
    if len(todo) < len(cells):
        say(f"{len(cells) - len(todo)} of {len(cells)} cells are in {results} already")
    failures = []
    with _pool(jobs, threads) as pool:
        tasks: dict[Future[dict[str, Any]], Cell] = {
            pool.submit(_run_cell, config, out / "runs" / _name(cell), keep_runs): cell
            for cell, config in todo.items()
        }
        for count, task in enumerate(as_completed(tasks), 1):
            cell = tasks[task]
            try:
                row = asdict(cell) | task.result()
            except GMMVAEError as error:
                failures.append(f"{_title(cell)}: {error}")
                say(f"{count}/{len(tasks)} {failures[-1]}")
                continue
            table = append(results, row)
            say(f"{count}/{len(tasks)} {_title(cell)}: {_shown(row)}")
    with contextlib.suppress(OSError):
        (out / "runs").rmdir()
    if failures:
        raise GMMVAEError(f"{len(failures)} of {len(todo)} cells failed; the first: {failures[0]}")
    order = {_key(cell): number for number, cell in enumerate(cells)}
    mine = table[[key in order for key in _keys(table)]]
    return mine.iloc[sorted(range(len(mine)), key=lambda row: order[_keys(mine)[row]])]


@contextlib.contextmanager
def _pool(jobs: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes of some threads each; an interruption drops what has not begun."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, str(threads)))
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_set_threads, initargs=(threads,)
    )
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    else:
        pool.shutdown()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # between two cells there is no fit to hear Ctrl-C: the parent hears it, and ends the pool
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with_parent() -> None:
    """A parent that was killed tells nobody: stop the fit, which saves, and leave."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _run_cell(config: Config, folder: Path, keep: bool) -> dict[str, Any]:
    """Train (or go on), evaluate, and say it in one row."""
    started = time.monotonic()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the fit saves and stops on it
    try:
        run = _trained(config, folder)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    metrics = read_json(folder / "metrics.json")
    if metrics["outcome"] not in ("complete", "early-stopped"):
        raise GMMVAEError(f"interrupted ({metrics['outcome']}); the same command goes on")
    numbers = run.evaluate()
    about = read_json(folder / "environment.json")
    row = {name: numbers.get(name) for name in NUMBERS} | {
        "val_accuracy": metrics["training"].get("val_accuracy"),
        "label_seed": config.seed if config.label_seed is None else config.label_seed,
        "seconds": round(time.monotonic() - started, 1),
        "fit_seconds": round(metrics["seconds"], 1),
        "epochs": metrics["epochs"],
        "steps": metrics["steps"],
        "device": about["device"],
        "threads": about["threads"],
        "processor": about["processor"],
        "versions": " ".join(f"{k}={v}" for k, v in about["packages"].items()),
        "version": pyro_gmmvae.__version__,
        "command": _command(config),
    }
    if not keep:
        shutil.rmtree(folder)
    return row


def _trained(config: Config, folder: Path) -> Run:
    if (folder / "training.pt").exists():
        try:
            return resume(folder)
        except GMMVAEError as error:
            if "is complete" in str(error) or "is early-stopped" in str(error):
                return Run.load(folder, device=config.device)
            raise
    return train(config, folder, force=True)


def _command(config: Config) -> str:
    """What a user types to train the cell; the data's folder is theirs."""
    base = default_config(config.data, {"preset": config.preset})
    options = ["gmmvae", "train", "--data", config.data, "--preset", str(config.preset)]
    for key, value in config.model_dump().items():
        if key in ("data", "data_dir", "preset", "device") or value == getattr(base, key):
            continue
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        options.append(f"--set={key}={text}")
    return shlex.join(options)


# -- the table ---------------------------------------------------------------------------------


def read_results(file: Path, say: Say = print) -> pd.DataFrame:
    """The rows of a results.csv; half-written ones are dropped, with a note.

    Raises:
        GMMVAEError: a file that is no results table, or rows of another version.
    """
    if not file.exists():
        return pd.DataFrame(columns=[*KEY, "version"])
    try:
        table = pd.read_csv(file, dtype={"labels": str, "config": str}, on_bad_lines="skip")
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise GMMVAEError(f"{file} can't be read as a table of results: {error}") from error
    if not {*KEY, "version"} <= set(table.columns):
        raise GMMVAEError(
            f"{file} is no table of results of this program; name another --out or move it away"
        )
    text = ["data", "model", "guide", "objective", "preset", "labels", "settings", "config"]
    table[text] = table[text].fillna("")
    whole = table["version"].notna() & table["command"].notna() & table["seed"].notna()
    lines = sum(1 for line in file.read_text().splitlines() if line.strip()) - 1
    if lines != whole.sum():
        say(f"{file}: {lines - whole.sum()} half-written row(s) dropped; they are run again")
    table = table[whole].astype({"seed": int})
    others = sorted(set(table["version"]) - {pyro_gmmvae.__version__})
    if others:
        raise GMMVAEError(
            f"{file} holds results of version {others[0]}, and this is "
            f"{pyro_gmmvae.__version__}: they do not mix; name another --out, or move the file away"
        )
    return table


def append(file: Path, row: Mapping[str, Any]) -> pd.DataFrame:
    """Add one row; the file is replaced whole, so it is never half-written by us."""
    before = read_results(file, lambda _: None)
    new = pd.DataFrame([row])
    table = pd.concat([before, new], ignore_index=True) if len(before) else new
    atomic_write(file, table.to_csv(index=False).encode())
    return read_results(file, lambda _: None)


def _key(cell: Cell) -> str:
    return json.dumps([str(value) for value in asdict(cell).values()])


def _keys(table: pd.DataFrame) -> list[str]:
    return [json.dumps([str(v) for v in row]) for row in table[KEY].itertuples(index=False)]


def _name(cell: Cell) -> str:
    digest = hashlib.sha256(_key(cell).encode()).hexdigest()[:8]
    return f"{cell.model}-{cell.labels}-{cell.seed}-{digest}"


def _title(cell: Cell) -> str:
    words = [cell.model, cell.guide, cell.objective, cell.preset, cell.settings]
    return f"{' '.join(w for w in words if w)}, {cell.labels} labels, seed {cell.seed}"


def _shown(row: Mapping[str, Any]) -> str:
    accuracy = row["accuracy"] if row["accuracy"] is not None else row["probe_accuracy"]
    shown = "-" if accuracy is None else f"{accuracy:.4f}"
    kind = "" if row["accuracy"] is not None else " (probe of z)"
    return f"accuracy {shown}{kind}, {row['fit_seconds']:.0f} s"
