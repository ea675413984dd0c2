"""Sweeps: what is planned, what is skipped, what is refused."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_gmmvae
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.sweeps import execute as sweeps
from pyro_gmmvae.sweeps.backends import BACKENDS
from pyro_gmmvae.sweeps.plan import plan
from pyro_gmmvae.sweeps.results import append, read_results

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
    cells = plan(SMALL, models=["gmmvae"], guides=list(GUIDES))
    assert [cell.guide for cell in cells] == list(GUIDES)
    objectives = {cell.guide: cell.objective for cell in cells}
    assert objectives.pop("flow") == "trace"
    assert set(objectives.values()) == {"analytic"}


def test_models_without_guides_get_one_cell() -> None:
    cells = plan(SMALL, models=["gmmvae", "m2"], guides=["product", "bayes"])
    assert [(c.model, c.guide) for c in cells] == [
        ("gmmvae", "product"),
        ("gmmvae", "bayes"),
        ("m2", ""),
    ]


def test_what_does_not_fit_is_named_and_left_out() -> None:
    heard: list[str] = []
    cells = plan(
        SMALL,
        models=["gmvae-discrete"],
        guides=["straight-through", "bayes"],
        say=heard.append,
    )
    assert [cell.guide for cell in cells] == ["bayes"]
    assert len(heard) == 1
    assert "use it with the model gmmvae" in heard[0]


def test_changed_rows_are_another_cell(tmp_path: Path) -> None:
    keys = []
    for shift in (0.0, 1.0):
        x = np.random.default_rng(0).normal(size=(60, 3)) + shift
        np.savez(tmp_path / "rows.npz", x=x, label=np.arange(60) % 2)
        common = SMALL | {"data": str(tmp_path / "rows.npz")}
        keys.append(next(iter(plan(common, models=["gmmvae"]))).key)
    assert keys[0] != keys[1]


def test_the_same_number_spelt_otherwise_is_the_same_cell() -> None:
    cells = [next(iter(plan(SMALL | {"minutes": m}, models=["vae"]))) for m in ("2", 2.0)]
    assert cells[0] == cells[1]


def test_planning_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    plan(SMALL, models=["gmmvae"])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("key", ["seed", "model", "guide", "objective", "preset"])
def test_what_has_an_option_of_its_own_is_refused_elsewhere(key: str) -> None:
    with pytest.raises(GMMVAEError, match=f"give it with --{key}s"):
        plan(SMALL | {key: "1"}, models=["gmmvae"])
    with pytest.raises(GMMVAEError, match=f"give it with --{key}s"):
        plan(SMALL, models=["gmmvae"], variants=[{key: "1"}])


def test_a_variant_can_not_change_the_rows() -> None:
    with pytest.raises(GMMVAEError, match="give it with --data"):
        plan(SMALL, models=["gmmvae"], variants=[{"data": "mnist"}])


def test_nothing_that_fits_is_an_error() -> None:
    with pytest.raises(GMMVAEError, match=r"no combination fits.*objective 'trace'"):
        plan(SMALL, models=["adgm"], objectives=["analytic"], say=lambda _: None)


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
        plan(SMALL, **names, say=lambda _: None)  # type: ignore[arg-type]


def test_a_changed_preset_is_another_cell() -> None:
    one, two = (
        next(iter(plan(SMALL, models=["gmmvae"], variants=[variant])))
        for variant in ({"alpha": "1"}, {"alpha": "2"})
    )
    assert one.config != two.config
    assert two.settings.endswith("alpha=2")


def test_finished_cells_are_skipped(tmp_path: Path, run_here: Callable[..., list[Path]]) -> None:
    started = run_here()
    cells = plan(SMALL, models=["gmmvae"], seeds=range(3))
    first = dict(list(cells.items())[:2])
    sweeps.sweep(first, tmp_path, say=lambda _: None)
    assert len(started) == 2
    heard: list[str] = []
    table, _ = sweeps.sweep(cells, tmp_path, say=heard.append)
    assert len(started) == 3
    assert "2 of 3 cells are in" in heard[0]
    assert table["seed"].tolist() == [0, 1, 2]
    assert sweeps.sweep(cells, tmp_path, say=lambda _: None)[0].equals(table)
    assert len(started) == 3


def test_a_cell_that_fails_costs_no_other(
    tmp_path: Path, run_here: Callable[..., list[Path]]
) -> None:
    run_here(fail_at=1)
    cells = plan(SMALL, models=["gmmvae"], seeds=range(3))
    table, failures = sweeps.sweep(cells, tmp_path, say=lambda _: None)
    assert table["seed"].tolist() == [0, 2]
    assert "non-finite" in failures[0]
    assert read_results(tmp_path / "results.csv")["seed"].tolist() == [0, 2]


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Path]]:
    """Cells that end at once, in this process; gives the folders they were started in."""
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import contextmanager

    def install(fail_at: int = -1) -> list[Path]:
        started: list[Path] = []

        def cell(folder: Path) -> Row:
            started.append(folder)
            if len(started) - 1 == fail_at:
                raise GMMVAEError("the loss became non-finite")
            return {"accuracy": 0.5, "probe_accuracy": None, "fit_seconds": 1.0} | {
                "version": pyro_gmmvae.__version__,
                "command": "c",
            }

        class Threads:
            jobs = 1

            def __init__(self, pool: ThreadPoolExecutor) -> None:
                self.pool = pool

            def submit(self, config: object, folder: Path) -> object:  # noqa: ARG002
                return self.pool.submit(cell, folder)

            def interrupt(self) -> None: ...

        @contextmanager
        def threads(jobs: int, threads: int):  # type: ignore[no-untyped-def]  # noqa: ARG001
            with ThreadPoolExecutor(1) as pool:
                yield Threads(pool)

        monkeypatch.setitem(BACKENDS, "local", threads)
        return started

    return install


def test_backends_are_named(tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match="unknown backend 'slurm'; choose from: local, ray"):
        sweeps.sweep({}, tmp_path, backend="slurm")


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_ray_is_an_extra(tmp_path: Path) -> None:
    with pytest.raises(GMMVAEError, match=r"needs Ray: pip install 'pyro-gmmvae\[ray\]'"):
        sweeps.sweep({}, tmp_path, backend="ray")


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_sweep_on_ray_is_the_local_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    keys = {"data": "digits", "epochs": 2, "hidden": "8", "latent_dim": 2}
    cells = plan(keys, models=["gmmvae", "vae"], seeds=range(2))
    tables = [
        sweeps.sweep(cells, tmp_path / backend, backend=backend)[0] for backend in ("ray", "local")
    ]
    assert len(tables[0]) == 4
    columns = ["model", "seed", "accuracy", "elbo", "steps"]
    pd.testing.assert_frame_equal(*(t[columns].reset_index(drop=True) for t in tables))


# -- the table that is read again ----------------------------------------------------------------


def test_rows_survive_being_written_and_read(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    append(file, row(0))
    table = append(file, row(1) | {"new_column": 3.5})
    assert table["seed"].tolist() == [0, 1]
    assert table["config"].tolist() == ["00c0ffee"] * 2
    assert pd.isna(table["new_column"].iloc[0])


def test_a_half_written_row_is_dropped_with_a_note(tmp_path: Path) -> None:
    file, heard = tmp_path / "results.csv", []
    append(file, row(0))
    append(file, row(1))
    file.write_text(file.read_text()[:-12])
    assert read_results(file, heard.append)["seed"].tolist() == [0]
    assert "1 half-written row(s) dropped" in heard[0]


def test_results_of_another_version_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    pd.DataFrame([row(version="0.0.1")]).to_csv(file, index=False)
    with pytest.raises(GMMVAEError, match=r"version 0\.0\.1.*name another --out"):
        read_results(file)


def test_a_row_cut_within_quotes_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    append(file, row(0) | {"command": "a,b"})
    append(file, row(1) | {"command": "a,b"})
    file.write_text(file.read_text()[:-2])
    assert read_results(file, lambda _: None)["seed"].tolist() == [0]


def test_an_empty_table_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "results.csv").touch()
    assert read_results(tmp_path / "results.csv").empty


def test_a_row_that_stands_twice_counts_once(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    append(file, row(0))
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[1]]) + "\n")
    assert len(read_results(file)) == 1


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "\x00\x01\xff"])
def test_a_foreign_table_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "results.csv"
    file.write_bytes(content.encode("latin1"))
    with pytest.raises(GMMVAEError, match=r"results\.csv"):
        read_results(file)


def test_a_second_sweep_into_one_folder_is_refused(tmp_path: Path) -> None:
    with (
        sweeps._alone(tmp_path),
        pytest.raises(GMMVAEError, match="another sweep is at work"),
        sweeps._alone(tmp_path),
    ):
        pass
    with sweeps._alone(tmp_path):
        pass


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path: Path, name: str) -> None:
    """The command in a process group of its own, as a terminal runs it."""
    out = tmp_path / "a"
    words = ["ablate", "--models", "vae", "--seeds", "2", "--epochs", "25", "--keep-runs"]
    sets = ["--set", "hidden=16", "--set", "checkpoint_seconds=0", "--set", "test=50"]
    command = [sys.executable, "-m", "pyro_gmmvae", *words, *sets, "--out", str(out)]
    first = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        # tests that a shell runs in the background are deaf to Ctrl-C, and so are their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/*/training.pt")):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if name == "SIGINT":  # a terminal tells the whole group
        os.killpg(first.pid, signal.SIGINT)
    else:
        first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert said.decode().strip().splitlines()[-1] == "gmmvae: interrupted"
    stopped = [json.loads(f.read_text())["steps"] for f in out.glob("runs/*/metrics.json")]
    assert len(stopped) == 1
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Traceback" not in second.stderr
    table = read_results(out / "results.csv")
    assert table["seed"].tolist() == [0, 1]
    environments = [json.loads(f.read_text()) for f in out.glob("runs/*/environment.json")]
    assert sum("resumed" in about for about in environments) == 1
