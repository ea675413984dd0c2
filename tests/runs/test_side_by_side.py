"""Runs that are trained side by side: their folders are those of runs trained one by one."""

import weakref
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
from pyro_gmmvae.training import Callback, NonFiniteError, fit_group
from pyro_gmmvae.training.fit_group import FitGroup
from pyro_gmmvae.training.out_of_memory import OutOfMemoryError
from tests.runs.test_sequences import folder as skeletons  # noqa: F401 - a fixture
from tests.runs.test_sequences import keys
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
    np.savez(file, x=x, label=y, other=y[::-1])
    return str(file)


def config(rows: str, **keys: Any) -> Config:
    more = {"labels": 12, "device": "cpu", "engine": "batched"}
    return default_config(rows, {**KEYS, **more, **keys})


class Lines(Callback):
    """Keeps the lines on fits, and their progress."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progress: list[float] = []

    def on_start(self, about: str) -> None:
        self.lines.append(about)

    def on_step(self, progress: float) -> None:
        self.progress.append(progress)


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
    assert lines.progress == sorted(lines.progress)
    assert lines.progress[-1] == 1
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


def test_fits_of_one_program_in_a_sweep_of_several_run_side_by_side(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds of each value of a number that is part of the program."""
    sizes: list[int] = []
    run = FitGroup.run
    monkeypatch.setattr(FitGroup, "run", lambda g, *a: sizes.append(len(g.fits)) or run(g, *a))
    lines: list[str] = []
    runs = {
        tmp_path / f"{rate} {seed}": config(rows, dropout=rate, seed=seed, epochs=1)
        for rate in (0.1, 0.2)
        for seed in (0, 1)
    }
    assert train_together(runs, lines.append) == ["complete"] * 4
    assert sizes == [4, 2, 2]
    assert lines[1].startswith("4 fits are trained in groups of equal settings: the fits differ in")


def test_each_run_has_the_rows_that_it_names(rows: str, tmp_path: Path) -> None:
    runs = {tmp_path / name: config(rows, label_column=name) for name in ("label", "other")}
    train_together(runs, lambda _: None)
    train(config(rows, label_column="other", engine="svi"), tmp_path / "svi")
    assert_equal_runs(tmp_path / "other", tmp_path / "svi")


def test_augmented_skeletons_run_side_by_side(
    skeletons: Path,  # noqa: F811 - a fixture
    tmp_path: Path,
) -> None:
    """With pseudo-labels of sequences; units of poses are inputs of the program."""
    more = {"augment": "auto", "pseudo_threshold": 0.3, "precision": "f64", "hidden": "8"}
    runs = {
        tmp_path / str(seed): default_config(
            "skeleton", keys(skeletons, seed=seed, **more) | {"engine": "batched", "device": "cpu"}
        )
        for seed in (0, 1)
    }
    assert train_together(runs, lambda _: None) == ["complete"] * 2
    alone = train(runs[tmp_path / "1"].replace(engine="svi"), tmp_path / "svi")
    for name, weights in Run.load(tmp_path / "1").model.state_dict().items():
        expected = alone.model.state_dict()[name]
        torch.testing.assert_close(weights, expected, rtol=1e-7, atol=1e-7)


class Spoiling(Callback):
    """Ends the fit with the error of a NaN."""

    def on_epoch(self, record: dict[str, float]) -> None:
        raise NonFiniteError(f"NaN in epoch {record['epoch']}")


def test_a_fit_with_an_error_leaves_no_folder(rows: str, tmp_path: Path) -> None:
    runs = {tmp_path / str(seed): config(rows, seed=seed) for seed in (0, 1)}
    error, outcome = train_together(runs, lambda _: None, [[Spoiling()], []])
    assert isinstance(error, NonFiniteError)
    assert outcome == "complete"
    assert [folder.name for folder in tmp_path.iterdir()] == ["1"]


def test_members_replace_a_run_and_what_they_replaced_is_deleted(rows: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for _ in range(2):
        train(config(rows, members=2, epochs=1), out, force=True)
        assert [folder.name for folder in tmp_path.iterdir()] == ["run"]


def test_fits_with_a_budget_in_minutes_are_trained_one_by_one(rows: str, tmp_path: Path) -> None:
    runs = {
        tmp_path / str(seed): config(rows, seed=seed, epochs=None, minutes=0.01) for seed in (0, 1)
    }
    lines: list[str] = []
    assert train_together(runs, lines.append) == [None, None]
    assert lines == ["2 fits are trained one by one: they have a budget in minutes"]


def test_fewer_fits_at_once_where_memory_is_short(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    failed: list[Any] = []

    def run(group: FitGroup, _: Any) -> list[str]:
        assert not [one for one in failed if one() is not None]  # their memory is free
        failed.append(weakref.ref(group.fits[0]))
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
