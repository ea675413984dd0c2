"""Sweeps: planned, executed, resumed, refused."""

import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_gmmvae
from pyro_gmmvae.cli import main
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.runs.locks import held_lock
from pyro_gmmvae.sweeps import (
    append_result,
    execute,
    plan_sweep,
    read_results,
    read_stored_results,
    sweep,
)
from pyro_gmmvae.training import Callback, processes
from pyro_gmmvae.training.signals import interrupt_processes

SMALL = {"data": "digits", "hidden": "16", "latent_dim": 4, "epochs": 1}
Row = dict[str, object]


def row(seed: int = 0, version: str = pyro_gmmvae.__version__) -> Row:
    text = dict.fromkeys(("data", "model", "guide", "objective", "preset", "settings"), "x")
    return {
        **text,
        "labels": "100",
        "seed": seed,
        "config": "00c0ffee",
        "accuracy": 0.5,
        "version": version,
        "command": "c",
    }


def test_every_guide_is_one_word() -> None:
    runs = plan_sweep(SMALL, models=["gmmvae"], guides=list(GUIDES))
    assert [run.guide for run in runs] == list(GUIDES)
    objectives = {run.guide: run.objective for run in runs}
    assert objectives.pop("flow") == "trace"
    assert set(objectives.values()) == {"analytic"}


def test_models_with_a_fixed_guide_get_one_run() -> None:
    runs = plan_sweep(SMALL, models=["gmmvae", "m2"], guides=["product", "bayes"])
    assert [(c.model, c.guide) for c in runs] == [
        ("gmmvae", "product"),
        ("gmmvae", "bayes"),
        ("m2", ""),
    ]


def test_combinations_that_do_not_fit_are_logged_and_left_out() -> None:
    lines: list[str] = []
    runs = plan_sweep(
        SMALL,
        models=["gmvae-discrete"],
        guides=["straight-through", "bayes"],
        log=lines.append,
    )
    assert [run.guide for run in runs] == ["bayes"]
    assert len(lines) == 1
    assert "use it with the model gmmvae" in lines[0]


def test_changed_rows_are_another_run(tmp_path: Path) -> None:
    keys = []
    for shift in (0.0, 1.0):
        x = np.random.default_rng(0).normal(size=(60, 3)) + shift
        np.savez(tmp_path / "rows.npz", x=x, label=np.arange(60) % 2)
        common = SMALL | {"data": str(tmp_path / "rows.npz")}
        keys.append(next(iter(plan_sweep(common, models=["gmmvae"]))).key)
    assert keys[0] != keys[1]


def test_a_number_in_another_spelling_is_the_same_run() -> None:
    runs = [next(iter(plan_sweep(SMALL | {"minutes": m}, models=["vae"]))) for m in ("2", 2.0)]
    assert runs[0] == runs[1]


def test_planning_does_not_change_the_generator() -> None:
    before = torch.get_rng_state()
    plan_sweep(SMALL, models=["gmmvae"])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("key", ["seed", "model", "guide", "objective", "preset"])
def test_keys_with_an_option_of_their_own_are_refused_elsewhere(key: str) -> None:
    with pytest.raises(GMMVAEError, match=f"give it with --{key}s"):
        plan_sweep(SMALL | {key: "1"}, models=["gmmvae"])
    with pytest.raises(GMMVAEError, match=f"give it with --{key}s"):
        plan_sweep(SMALL, models=["gmmvae"], variants=[{key: "1"}])


def test_a_variant_can_not_change_the_rows() -> None:
    with pytest.raises(GMMVAEError, match="give it with --data"):
        plan_sweep(SMALL, models=["gmmvae"], variants=[{"data": "mnist"}])


def test_a_plan_without_runs_is_an_error() -> None:
    with pytest.raises(GMMVAEError, match=r"no combination fits.*objective 'trace'"):
        plan_sweep(SMALL, models=["adgm"], objectives=["analytic"], log=lambda _: None)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"models": ["m3"]}, "unknown model"),
        ({"models": ["gmmvae"], "guides": ["prodct"]}, "unknown guide"),
        ({"models": ["gmmvae"], "presets": ["bset"]}, "did you mean 'best'"),
        ({"models": ["gmmvae"], "labels": ["ten"]}, "labels"),
        ({"models": ["cvae"], "labels": [0]}, "needs labels and is given none"),
        ({"models": ["m1"], "labels": [0]}, "needs labels and is given none"),
    ],
)
def test_bad_names_are_refused(names: dict[str, list[str]], message: str) -> None:
    with pytest.raises(GMMVAEError, match=message):
        plan_sweep(SMALL, **names, log=lambda _: None)  # type: ignore[arg-type]


def test_changed_settings_are_another_run() -> None:
    one, two = (
        next(iter(plan_sweep(SMALL, models=["gmmvae"], variants=[variant])))
        for variant in ({"alpha": "1"}, {"alpha": "2"})
    )
    assert one.config != two.config
    assert two.settings.endswith("alpha=2")


Install = Callable[..., list[Path]]


@pytest.fixture(params=["in this process", "in a pool"])
def fake_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Replace training by runs that end at once; gives the folders in which they were started."""

    @contextmanager
    def threads(jobs: int, _: int) -> Iterator[Any]:
        with ThreadPoolExecutor(1) as pool:
            yield SimpleNamespace(slots=jobs - 1, submit=pool.submit)

    def install(fail_at: int = -1) -> list[Path]:
        started: list[Path] = []

        def train_run(config: object, folder: Path) -> None:  # noqa: ARG001
            started.append(folder)
            if len(started) - 1 == fail_at:
                raise GMMVAEError("the loss became non-finite")

        def evaluate_run(run: object, config: object) -> Row:  # noqa: ARG001
            numbers = {"accuracy": 0.5, "probe_accuracy": None, "fit_seconds": 1.0}
            return numbers | {"version": pyro_gmmvae.__version__, "command": "c"}

        monkeypatch.setattr(execute, "train_run", train_run)
        monkeypatch.setattr(execute, "evaluate_run", evaluate_run)
        monkeypatch.setattr(execute, "process_pool", threads)
        return started

    install.jobs = 1 if request.param == "in this process" else 2  # type: ignore[attr-defined]
    return install


def test_finished_runs_are_skipped(tmp_path: Path, fake_runs: Install) -> None:
    started, options = fake_runs(), {"jobs": fake_runs.jobs}  # type: ignore[attr-defined]
    runs = plan_sweep(SMALL, models=["gmmvae"], seeds=range(3))
    first = dict(list(runs.items())[:2])
    sweep(first, tmp_path, log=lambda _: None, **options)
    assert len(started) == 2
    lines: list[str] = []
    table, _ = sweep(runs, tmp_path, log=lines.append, **options)
    assert len(started) == 3
    assert "2 of 3 runs are in" in lines[0]
    assert table["seed"].tolist() == [0, 1, 2]
    assert sweep(runs, tmp_path, log=lambda _: None)[0].equals(table)
    assert len(started) == 3


def test_other_runs_survive_a_run_that_fails(tmp_path: Path, fake_runs: Install) -> None:
    fake_runs(fail_at=1)
    runs = plan_sweep(SMALL, models=["gmmvae"], seeds=range(3))
    jobs = fake_runs.jobs  # type: ignore[attr-defined]
    table, failures = sweep(runs, tmp_path, jobs=jobs, log=lambda _: None)
    assert table["seed"].tolist() == [0, 2]
    assert "non-finite" in failures[0]
    assert read_results(tmp_path / "results.csv")["seed"].tolist() == [0, 2]


def test_backends_are_named(tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match="unknown backend 'slurm'; choose from: local, ray"):
        sweep({}, tmp_path, backend="slurm")


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_ray_is_an_extra(tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match=r"needs Ray: pip install 'pyro-gmmvae\[ray\]'"):
        sweep({}, tmp_path, backend="ray")


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_sweep_on_ray_is_the_local_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    keys = {"data": "digits", "epochs": 2, "hidden": "8", "latent_dim": 2}
    runs = plan_sweep(keys, models=["gmmvae", "vae"], seeds=range(2))
    tables = [sweep(runs, tmp_path / backend, backend=backend)[0] for backend in ("ray", "local")]
    assert len(tables[0]) == 4
    columns = ["model", "seed", "accuracy", "elbo", "steps"]
    pd.testing.assert_frame_equal(*(t[columns].reset_index(drop=True) for t in tables))


# -- the table that is read again ----------------------------------------------------------------


def test_rows_survive_being_written_and_read(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    append_result(file, row(0))
    table = append_result(file, row(1) | {"new_column": 3.5})
    assert table["seed"].tolist() == [0, 1]
    assert table["config"].tolist() == ["00c0ffee"] * 2
    assert pd.isna(table["new_column"].iloc[0])


def test_a_half_written_row_is_dropped_with_a_note(tmp_path: Path) -> None:
    file, lines = tmp_path / "results.csv", []
    append_result(file, row(0))
    append_result(file, row(1))
    file.write_text(file.read_text()[:-12])
    assert read_results(file, lines.append)["seed"].tolist() == [0]
    assert "1 half-written row(s) dropped" in lines[0]


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    pd.DataFrame([row(version="0.0.1")]).to_csv(file, index=False)
    with pytest.raises(GMMVAEError, match=r"version 0\.0\.1.*name another --out"):
        read_results(file)
    assert len(read_stored_results(file)) == 1


def test_a_row_cut_within_quotes_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    append_result(file, row(0) | {"command": "a,b"})
    append_result(file, row(1) | {"command": "a,b"})
    file.write_text(file.read_text()[:-2])
    assert read_results(file, lambda _: None)["seed"].tolist() == [0]


def test_an_empty_file_is_a_table_without_rows(tmp_path: Path) -> None:
    (tmp_path / "results.csv").touch()
    assert read_results(tmp_path / "results.csv").empty


def test_a_repeated_row_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    append_result(file, row(0))
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[1]]) + "\n")
    assert len(read_results(file)) == 1


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "\x00\x01\xff"])
def test_another_table_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "results.csv"
    file.write_bytes(content.encode("latin1"))
    with pytest.raises(GMMVAEError, match=r"results\.csv"):
        read_results(file)


def test_a_second_sweep_into_one_folder_is_refused(tmp_path: Path) -> None:
    runs = plan_sweep(SMALL, models=["vae"])
    with (
        held_lock(tmp_path / ".lock"),
        pytest.raises(GMMVAEError, match=f"in use by process {os.getpid()}"),
    ):
        sweep(runs, tmp_path, log=lambda _: None)


# -- this process and others ---------------------------------------------------------------------


def test_a_sweep_restores_the_state_of_torch(tmp_path: Path) -> None:
    """Also after a run that fails in the middle of its fit."""
    runs = plan_sweep(SMALL, models=["vae"], variants=[{}, {"learning_rate": 1e30}])
    before = _torch_state()
    table, failures = sweep(runs, tmp_path, threads=2, log=lambda _: None)
    assert (len(table), len(failures)) == (1, 1)
    assert "non-finite" in failures[0]
    assert table["threads"].tolist() == [2]
    assert _torch_state() == before


def _torch_state() -> tuple[Any, ...]:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return (
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        *handlers,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["fit", "evaluation"])
def test_a_signal_stops_a_sweep_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, stage: str
) -> None:
    """In a fit, the run is saved and resumed; in an evaluation, its row is written first."""
    runs = plan_sweep(SMALL | {"epochs": 3}, models=["vae"], seeds=range(2))
    train, evaluate = execute.train, execute.evaluate_run

    class Stop(Callback):
        def on_epoch(self, record: Any) -> None:
            if record["epoch"] == 1:
                signal.raise_signal(number)

    def stopped_train(config: Any, folder: Path, **_: Any) -> Any:
        return train(config, folder, callbacks=[Stop()])

    def stopped_evaluate(*arguments: Any) -> Any:
        signal.raise_signal(number)
        return evaluate(*arguments)

    with monkeypatch.context() as patch:
        if stage == "fit":
            patch.setattr(execute, "train", stopped_train)
        else:
            patch.setattr(execute, "evaluate_run", stopped_evaluate)
        with pytest.raises(KeyboardInterrupt):
            sweep(runs, tmp_path, keep_runs=True, log=lambda _: None)
    (folder,) = (tmp_path / "runs").iterdir()
    steps = json.loads((folder / "metrics.json").read_text())["steps"]
    assert len(read_results(tmp_path / "results.csv")) == (0 if stage == "fit" else 1)
    table, failures = sweep(runs, tmp_path, keep_runs=True, log=lambda _: None)
    assert (table["seed"].tolist(), failures) == ([0, 1], [])
    assert (steps < table["steps"].iloc[0]) == (stage == "fit")
    environments = [json.loads(f.read_text()) for f in tmp_path.glob("runs/*/environment.json")]
    assert sum("resumed" in one for one in environments) == (1 if stage == "fit" else 0)


def test_a_worker_ends_if_its_parent_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, ends = SimpleNamespace(is_alive=lambda: False), []
    monkeypatch.setattr(processes, "parent_process", lambda: parent)
    monkeypatch.setattr(processes.os, "_exit", ends.append)
    assert processes._in_worker(len, "abc") == 3
    assert ends == [1]
    monkeypatch.setattr(parent, "is_alive", lambda: True)
    processes._in_worker(len, "abc")
    assert ends == [1]


@pytest.mark.parametrize(("number", "seeds"), [(signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_an_interrupted_sweep_in_processes_is_resumed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: signal.Signals,
    seeds: int,
) -> None:
    """Stopped with two jobs and resumed with one; the rows are those of one process alone."""
    out = tmp_path / "a"
    words = ["ablate", "--models", "vae", "--seeds", str(seeds), "--epochs", "25", "--keep-runs"]
    sets = ["--set", "hidden=16", "--set", "checkpoint_seconds=0", "--set", "test=50"]
    words = [*words, *sets, "--out"]

    def interrupt() -> None:
        deadline = time.monotonic() + 120
        while not list(out.glob("runs/*/training.pt")) and time.monotonic() < deadline:
            time.sleep(0.02)
        if number == signal.SIGINT:  # a terminal sends it to the whole process group
            interrupt_processes(child.pid for child in active_children())
        os.kill(os.getpid(), number)

    monkeypatch.setattr(sys, "argv", ["gmmvae", *words, str(out), "--jobs", "2"])
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(SystemExit) as caught:
        main()
    interrupter.join()
    printed = capfd.readouterr().err
    assert caught.value.code == 130, printed
    assert printed.strip().splitlines()[-1] == "gmmvae: interrupted"
    assert "Traceback" not in printed
    stopped = [json.loads(f.read_text())["steps"] for f in out.glob("runs/*/metrics.json")]
    assert stopped
    for folder in (out, tmp_path / "b"):
        monkeypatch.setattr(sys, "argv", ["gmmvae", *words, str(folder)])
        with pytest.raises(SystemExit) as caught:
            main()
        assert not caught.value.code
    table, other = (read_results(folder / "results.csv") for folder in (out, tmp_path / "b"))
    assert sorted(table["seed"]) == list(range(seeds))
    environments = [json.loads(f.read_text()) for f in out.glob("runs/*/environment.json")]
    assert sum("resumed" in about for about in environments) >= 1
    columns = ["seed", "accuracy", "elbo", "nll", "steps", "threads"]
    table = table.sort_values("seed").reset_index(drop=True)
    pd.testing.assert_frame_equal(table[columns], other[columns], check_exact=True)
