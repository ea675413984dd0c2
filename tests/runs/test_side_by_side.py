"""Runs that are trained side by side: their folders are those of runs trained one by one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_gmmvae.config import Config
from pyro_gmmvae.runs import Run, default_config, resume, train
from pyro_gmmvae.runs.folder import read_metrics
from pyro_gmmvae.runs.trainer import train_together
from pyro_gmmvae.sweeps import plan_sweep, sweep
from pyro_gmmvae.training import Callback, fit_group
from pyro_gmmvae.training.fit_group import FitGroup
from pyro_gmmvae.training.out_of_memory import OutOfMemoryError
from tests.training.test_loop import StopAfter

KEYS: Mapping[str, Any] = {
    "hidden": (8,),
    "latent_dim": 2,
    "epochs": 2,
    "batch_size": 40,
    "labelled_per_batch": 8,
    "likelihood": "normal",
    "precision": "f64",
    "test": 20,
    "validation": 20,
    "cv": 0,
    "members": 1,
    "steps": None,
    "teacher_share": 0,
    "pseudo_threshold": None,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three classes of 36 rows each, of which 64 are shuffled in two batches of one shape."""
    file = tmp_path_factory.mktemp("rows") / "rows.npz"
    y = np.arange(104) % 3
    x = np.random.default_rng(0).normal(size=(104, 4)) + 3 * np.eye(4)[y]
    np.savez(file, x=x, label=y)
    return str(file)


def config(rows: str, **keys: Any) -> Config:
    more = {"labels": 12, "device": "cpu", "engine": "batched"}
    return default_config(rows, {**KEYS, **more, **keys})


class Lines(Callback):
    """Keeps the lines on fits."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_start(self, about: str) -> None:
        self.lines.append(about)


def assert_equal_runs(one: Path, other: Path) -> None:
    tables = [pd.read_csv(run / "history.csv").drop(columns="seconds") for run in (one, other)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-9)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(5, 4)))
    mine, theirs = (Run.load(run).log_probs(x) for run in (one, other))
    np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)


def test_members_side_by_side_are_those_that_are_trained_one_by_one(
    rows: str, tmp_path: Path
) -> None:
    lines = Lines()
    train(config(rows, members=2), tmp_path / "batched", callbacks=[lines])
    train(config(rows, members=2, engine="svi"), tmp_path / "svi")
    for member in ("members/0", "members/1"):
        assert_equal_runs(tmp_path / "batched" / member, tmp_path / "svi" / member)
    assert read_metrics(tmp_path / "batched/members/1")["engine"] == "batched"
    assert [line for line in lines.lines if "one process for each core is faster" in line]
    assert not [line for line in lines.lines if "one by one" in line]


def test_a_sweep_trains_seeds_and_rates_side_by_side(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = FitGroup.run
    monkeypatch.setattr(FitGroup, "run", lambda g, *a: sizes.append(len(g.fits)) or run(g, *a))
    tables = []
    for engine in ("batched", "svi"):
        runs = plan_sweep(
            {**KEYS, "data": rows, "device": "cpu", "engine": engine},
            models=["gmmvae"],
            labels=[12],
            variants=[{"learning_rate": 0.01}, {"alpha": 3.0}],
            seeds=(0, 1),
        )
        table, failures = sweep(runs, tmp_path / engine, log=lambda _: None)
        assert not failures
        tables.append(table[["seed", "accuracy", "elbo", "steps"]])
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)
    assert sizes == [4]


def test_fewer_fits_at_once_where_memory_is_short(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def run(group: FitGroup, _: Any) -> list[str]:
        sizes.append(len(group.fits))
        if len(group.fits) > 1:
            raise OutOfMemoryError("out of memory on cpu")
        return []

    monkeypatch.setattr(fit_group.FitGroup, "run", run)
    lines: list[str] = []
    runs = {tmp_path / str(seed): config(rows, seed=seed) for seed in range(4)}
    assert train_together(runs, lines.append) == [None] * 4
    assert sizes == [4, 2, 2]
    assert lines[1] == "4 fits at once need more memory than there is: 2 at once"
    assert not list(tmp_path.iterdir())


def test_fits_that_are_not_one_program_are_trained_one_by_one(rows: str, tmp_path: Path) -> None:
    runs = {
        tmp_path / "a": config(rows, dropout=0.1),
        tmp_path / "b": config(rows, dropout=0.2),
    }
    lines: list[str] = []
    assert train_together(runs, lines.append) == [None, None]
    assert lines[1].startswith("2 fits are trained one by one: the fits differ in")
    assert not list(tmp_path.iterdir())


def test_members_that_were_stopped_together_are_resumed(rows: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(config(rows, members=2), out, callbacks=[StopAfter(3)])
    assert read_metrics(out)["outcome"] == "SIGINT"
    resume(out)
    train(config(rows, members=2, engine="svi"), tmp_path / "svi")
    for member in ("members/0", "members/1"):
        assert_equal_runs(out / member, tmp_path / "svi" / member)
