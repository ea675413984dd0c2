"""Runs without labels: components find blobs, wherever they begin, and what can't be is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import clustering_scores
from pyro_gmmvae.runs import Run, default_config, resume, train
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.sweeps import candidates, compare_components
from pyro_gmmvae.training import Callback
from tests.training.test_loop import StopAfter

SMALL = {
    "preset": "cluster",
    "hidden": "32",
    "latent_dim": 2,
    "epochs": 25,
    "batch_size": 64,
    "likelihood": "normal",  # plain numbers
}


class Heard(Callback):
    """A callback that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_start(self, about: str) -> None:
        self.lines.append(about)


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four Gaussians in eight dimensions, three standard deviations apart and more."""
    generator = np.random.default_rng(0)
    centers = 3 * np.array([[1, 1, 0], [1, -1, 0], [-1, 0, 1], [-1, 0, -1]]) @ np.eye(3, 8)
    y = np.arange(480) % 4
    x = centers[y] + generator.normal(0, 0.5, (480, 8))
    table = pd.DataFrame(x, columns=[f"f{k}" for k in range(8)]).assign(label=y)
    file = tmp_path_factory.mktemp("blobs") / "blobs.csv"
    table.to_csv(file, index=False)
    return file


def accuracy(run: Run) -> float:
    rows = TrainingData.from_config(run.config, run.schema)
    x, y = rows.tensors(rows.split.test)
    log_probs = run.log_probs(x)
    assert log_probs is not None
    return clustering_scores(log_probs.argmax(1), y.numpy())["cluster_accuracy"]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"init": "ae-gmm", "epochs": 5, "engine": "captured"},
        {"objective": "categorical", "guide": "bayes"},
        {"guide": "enumerated", "covariance": "diagonal"},
        {"guide": "conditional", "engine": "captured"},
    ],
)
def test_components_find_the_blobs(blobs: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    run = train(default_config(str(blobs), SMALL, more), tmp_path / "run")
    assert accuracy(run) > 0.95


def test_without_the_terms_they_do_not(blobs: Path, tmp_path: Path) -> None:
    """From random weights the ELBO alone finds no four classes in these epochs."""
    more = {"balance": 0, "consistency": 0, "init": "random"}
    assert accuracy(train(default_config(str(blobs), SMALL, more), tmp_path / "run")) < 0.9


def test_the_fit_is_told_what_it_should_know(blobs: Path, tmp_path: Path) -> None:
    heard = Heard()
    more = {"augment": None, "init": "kmeans", "epochs": 1}
    train(default_config(str(blobs), SMALL, more), tmp_path / "run", callbacks=[heard])
    told = "\n".join(heard.lines)
    assert "labels are used for evaluation only" in told
    assert "augment is none" in told
    assert "init: kmeans" in told


def test_a_run_that_began_with_clusters_resumes_bit_for_bit(blobs: Path, tmp_path: Path) -> None:
    config = default_config(str(blobs), SMALL, {"init": "kmeans", "epochs": 3, "engine": "svi"})
    train(config, tmp_path / "whole")
    train(config, tmp_path / "stopped", callbacks=[StopAfter(8)])
    assert json.loads((tmp_path / "stopped" / "metrics.json").read_text())["outcome"] == "SIGINT"
    resume(tmp_path / "stopped")
    a, b = (pd.read_csv(tmp_path / n / "history.csv") for n in ("whole", "stopped"))
    pd.testing.assert_frame_equal(
        a.drop(columns="seconds"), b.drop(columns="seconds"), check_exact=True
    )


def test_a_run_killed_while_it_looked_for_clusters_looks_again(blobs: Path, tmp_path: Path) -> None:
    config = default_config(str(blobs), SMALL, {"init": "kmeans", "epochs": 2, "engine": "svi"})
    train(config, tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    for name in ("config.json", "environment.json"):  # all there is before the first checkpoint
        shutil.copy(tmp_path / "whole" / name, tmp_path / "killed")
    heard = Heard()
    resume(tmp_path / "killed", callbacks=[heard])
    assert any("init: kmeans" in line for line in heard.lines)
    a, b = (pd.read_csv(tmp_path / n / "history.csv") for n in ("whole", "killed"))
    pd.testing.assert_frame_equal(
        a.drop(columns="seconds"), b.drop(columns="seconds"), check_exact=True
    )


@pytest.mark.parametrize("model", ["vae", "ae"])
def test_a_model_without_classes_can_not_cluster(blobs: Path, tmp_path: Path, model: str) -> None:
    config = default_config(str(blobs), SMALL, {"model": model})
    with pytest.raises(GMMVAEError, match=f"for models with classes, and '{model}' has none"):
        train(config, tmp_path / "run")


def test_the_autoencoder_that_begins_has_no_assignments_to_be_sparse(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyro_gmmvae.runs.initialize.AUTOENCODER_STEPS", 20)
    monkeypatch.setattr("pyro_gmmvae.runs.initialize.WARM_UP_STEPS", 20)
    more = {"init": "ae-gmm", "sparsity": 5, "learn_prior": True, "epochs": 1}
    run = train(default_config(str(blobs), SMALL, more), tmp_path / "run")
    assert np.isfinite(run.elbo(torch.zeros(2, 8))).all()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"components": 500}, "components 500: there are only"),
        ({"augment": "affine"}, "the rows are plain numbers, which take noise"),
        ({"labels": "all", "init": "kmeans"}, "give --labels 0, or --init random"),
        ({"sparsity": 5}, "sparsity is a prior on a learned pi"),
        ({"class_prior": ""}, "and has none"),
        ({"class_prior": "0.5,0.5"}, "class_prior needs a positive number for each of the 4"),
        ({"covariance": "fulll"}, "covariance"),
    ],
)
def test_what_does_not_fit_is_refused(
    blobs: Path, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(GMMVAEError, match=words):
        train(default_config(str(blobs), SMALL, more), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_component_is_a_plain_vae(blobs: Path, tmp_path: Path) -> None:
    heard, config = Heard(), default_config(str(blobs), SMALL, {"components": 1, "epochs": 2})
    run = train(config, tmp_path / "r", callbacks=[heard])
    assert any("into one cluster" in line for line in heard.lines)
    assert np.isfinite(run.elbo(torch.zeros(2, 8))).all()


def test_a_constant_column_does_no_harm(blobs: Path, tmp_path: Path) -> None:
    pd.read_csv(blobs).assign(f9=3.0).to_csv(tmp_path / "b.csv", index=False)
    more = {"init": "kmeans", "epochs": 5}
    run = train(default_config(str(tmp_path / "b.csv"), SMALL, more), tmp_path / "run")
    assert accuracy(run) > 0.95


@pytest.mark.parametrize("labels", ["0", "all"])
def test_equal_rows_are_nothing_to_cluster(tmp_path: Path, labels: str) -> None:
    np.save(tmp_path / "same.npy", np.ones((50, 3)))
    more = {"components": 3, "labels": labels}
    config = default_config(str(tmp_path / "same.npy"), SMALL, more)
    with pytest.raises(GMMVAEError, match="all training rows are equal"):
        train(config, tmp_path / "run")


def test_few_different_rows_make_few_clusters(tmp_path: Path) -> None:
    """k-means is asked for more clusters than there are different rows."""
    np.save(tmp_path / "two.npy", np.repeat(np.eye(2, 3), 40, 0))
    more = {"components": 5, "init": "kmeans", "epochs": 1}
    run = train(default_config(str(tmp_path / "two.npy"), SMALL, more), tmp_path / "run")
    assert np.isfinite(run.elbo(torch.zeros(2, 3))).all()


def test_numbers_of_components_are_spread_over_the_range() -> None:
    assert candidates(5, 30, 6) == [5, 10, 15, 20, 25, 30]
    assert candidates(2, 4, 6) == [2, 3, 4]
    for low, high in ((0, 5), (6, 5)):
        with pytest.raises(GMMVAEError, match="at least 1"):
            candidates(low, high, 3)


def test_the_true_number_is_the_stable_one(blobs: Path, tmp_path: Path) -> None:
    common = {"data": str(blobs), **SMALL, "epochs": 10}
    table, failures = compare_components(
        common, [4, 9], tmp_path / "out", seeds=2, log=lambda _: None
    )
    assert not failures
    by_K = table.set_index("components")
    assert by_K.loc[4, "stability"] > 0.9 > by_K.loc[9, "stability"]
    assert by_K.loc[4, "used"] == 4
    heard: list[str] = []
    again, _ = compare_components(common, [4, 9], tmp_path / "out", seeds=2, log=heard.append)
    assert any("are in" in line for line in heard)  # nothing is trained again
    pd.testing.assert_frame_equal(table, again)
