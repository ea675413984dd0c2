"""Runs of several members and folds, and their teacher."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_json
from pyro_gmmvae.runs import Run, default_config, resume, train
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.out_of_fold import OutOfFold
from pyro_gmmvae.runs.teacher import teach, with_teacher
from pyro_gmmvae.training import Callback

LABELLED = 18


def write_rows(path: Path, rows: int = 60) -> Path:
    rng = np.random.default_rng(0)
    y = np.arange(rows) % 2
    x = rng.normal(size=(rows, 4)) + 3 * y[:, None]
    table = pd.DataFrame(x, columns=list("abcd"))
    table["label"] = np.where(np.arange(rows) < LABELLED, np.where(y == 1, "high", "low"), "")
    table.to_csv(path, index=False)
    return path


def config_of(data: Path, **keys: object) -> Config:
    small = {"steps": 4, "hidden": (8,), "latent_dim": 2, "test": 0, "validation": 0}
    several = {"members": 2, "cv": 3, "batch_size": 16, "labelled_per_batch": 4}
    return default_config(str(data), {**small, **several, "device": "cpu", "engine": "svi", **keys})


class Recorder(Callback):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progress: list[float] = []
        self.outcomes: list[str] = []

    def on_start(self, about: str) -> None:
        self.lines.append(about)

    def on_step(self, progress: float) -> None:
        self.progress.append(progress)

    def on_end(self, outcome: str) -> None:
        self.outcomes.append(outcome)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Recorder]:
    folder, recorder = tmp_path_factory.mktemp("ensemble"), Recorder()
    config = config_of(write_rows(folder / "rows.csv"))
    return train(config, folder / "run", callbacks=[recorder]), recorder


def test_every_fit_is_a_run_folder(trained: tuple[Run, Recorder]) -> None:
    run, recorder = trained
    for folder in ("members/0", "members/1", "folds/0", "folds/2", "folds/2/members/1"):
        assert Run.load(run.path / folder).path == run.path / folder
    assert read_json(run.path / "metrics.json")["outcome"] == "complete"
    assert (run.path / "history.csv").read_bytes() == (
        run.path / "members/0/history.csv"
    ).read_bytes()
    assert recorder.progress == sorted(recorder.progress)
    assert recorder.progress[-1] == 1
    assert recorder.outcomes == ["complete"]
    assert [line for line in recorder.lines if line.startswith("cross-validation: 3 folds of 18")]


def test_probabilities_and_bounds_are_means_over_members(trained: tuple[Run, Recorder]) -> None:
    run, _ = trained
    members = [Run.load(run.path / "members" / str(k)) for k in range(2)]
    x = torch.randn(5, 4)
    each = [np.exp(member.log_probs(x)) for member in members]
    assert not np.allclose(*each)
    np.testing.assert_allclose(np.exp(run.log_probs(x)), np.mean(each, 0), rtol=1e-5)
    np.testing.assert_allclose(run.elbo(x), np.mean([m.elbo(x) for m in members], 0), rtol=1e-5)


def test_each_labelled_row_is_scored_by_the_fit_that_did_not_see_it(
    trained: tuple[Run, Recorder],
) -> None:
    run, _ = trained
    scores = OutOfFold.load(run.path / "out_of_fold.csv")
    assert sorted(scores.rows) == list(range(LABELLED))
    table = pd.read_csv(run.config.data)
    for fold in range(3):
        of_fold = Run.load(run.path / "folds" / str(fold))
        data = TrainingData.from_config(of_fold.config, of_fold.schema)
        held = scores.rows[scores.fold == fold]
        assert not np.isin(held, data.training_rows).any()
        x = of_fold.schema.featurize(table.loc[held, list("abcd")].to_numpy())
        expected = of_fold.log_probs(torch.from_numpy(x))
        np.testing.assert_allclose(scores.log_probs[scores.fold == fold], expected, atol=1e-5)


def test_resume_trains_the_fits_that_are_missing(
    trained: tuple[Run, Recorder], tmp_path: Path
) -> None:
    run, _ = trained
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    with pytest.raises(GMMVAEError, match="complete"):
        resume(copy)
    for part in ("members/1", "folds/1"):
        shutil.rmtree(copy / part)
    for file in ("metrics.json", "out_of_fold.csv"):
        (copy / file).unlink()
    assert len(Run.load(copy).others) == 0  # the members that are there
    again = resume(copy)
    x = torch.randn(5, 4)
    np.testing.assert_array_equal(again.log_probs(x), run.log_probs(x))
    one, other = (OutOfFold.load(r.path / "out_of_fold.csv") for r in (again, run))
    np.testing.assert_array_equal(one.log_probs, other.log_probs)


@pytest.mark.slow
def test_fits_in_processes_are_the_same(trained: tuple[Run, Recorder], tmp_path: Path) -> None:
    run, _ = trained
    config = config_of(Path(run.config.data))
    torch.set_num_threads(1)  # as in the processes
    one, other = (train(config, tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    for file in ("out_of_fold.csv", "folds/2/members/1/weights.safetensors"):
        assert (one.path / file).read_bytes() == (other.path / file).read_bytes()
    assert read_json(other.path / "metrics.json")["outcome"] == "complete"


def test_fits_that_are_stopped_early_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> str:
        (tmp_path / "run" / "members").mkdir()
        return "SIGINT"

    monkeypatch.setattr("pyro_gmmvae.runs.ensemble._in_processes", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(config_of(write_rows(tmp_path / "rows.csv")), tmp_path / "run", jobs=2)
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.csv")
    with pytest.raises(GMMVAEError, match="labelled_per_batch"):
        train(config_of(data, labelled_per_batch=16), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_force_replaces_all_fits(trained: tuple[Run, Recorder], tmp_path: Path) -> None:
    run, _ = trained
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    with pytest.raises(GMMVAEError, match="is kept"):
        train(config_of(Path(run.config.data)), copy)
    train(config_of(Path(run.config.data), members=1, cv=0), copy, force=True)
    assert not (copy / "members").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy"]


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(GMMVAEError, match="one process"):
        train(config_of(write_rows(tmp_path / "rows.csv")), tmp_path / "run")


def test_a_teacher_is_right_where_classes_are_apart() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(90) % 3
    x = rng.normal(size=(90, 5)) + 4 * np.eye(3, 5)[truth]
    y = np.where(np.arange(90) < 15, truth, -1)
    probs = teach(x, y, 4, seed=0)  # class 3 has no label
    assert probs.shape == (90, 4)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
    assert (probs.argmax(1) == truth).mean() > 0.95
    assert (probs[:, 3] < 0.1).all()


def test_taught_rows_are_the_surest_and_pseudo_labels(tmp_path: Path) -> None:
    config = config_of(write_rows(tmp_path / "rows.csv"), teacher_share=0.5)
    data = TrainingData.from_config(config)
    taught = with_teacher(config, data)
    y = taught.visible_labels().numpy()
    assert (y[:LABELLED] == data.visible_labels().numpy()[:LABELLED]).all()
    assert (y[LABELLED:] <= -2).sum() == (60 - LABELLED) // 2
    assert (y[LABELLED:] == -1).sum() == (60 - LABELLED) // 2
    rows = np.flatnonzero(y <= -2)
    truth = np.where(
        rows % 2 == 1, data.schema.classes.index("high"), data.schema.classes.index("low")
    )
    assert (-2 - y[rows] == truth).all()


def test_the_teacher_of_a_fold_has_not_seen_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def uniform(x: np.ndarray, y: np.ndarray, classes: int, _: int) -> np.ndarray:
        seen.append((y >= 0).sum())
        return np.full((len(x), classes), 1 / classes)

    monkeypatch.setattr("pyro_gmmvae.runs.teacher.teach", uniform)
    config = config_of(write_rows(tmp_path / "rows.csv"), members=1, cv=3, steps=1)
    train(config, tmp_path / "run")
    assert seen == [LABELLED, *[LABELLED * 2 // 3] * 3]


def test_without_two_classes_the_teacher_of_a_preset_is_left_out(tmp_path: Path) -> None:
    """One that was given is refused."""
    file = str(write_rows(tmp_path / "rows.csv"))
    config = default_config(file, {"preset": "table", "labels": 0})
    assert config.teacher_share > 0
    data = TrainingData.from_config(config)
    assert with_teacher(config, data) is data
    with pytest.raises(GMMVAEError, match="labelled rows of at least two classes"):
        with_teacher(config.replace(teacher_share=0.5), data)
