"""Labels that spread over a graph of nearest neighbors, and virtual adversarial training."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import Run, TrainingData, default_config, resume, train
from pyro_gmmvae.runs import label_graph as module
from pyro_gmmvae.runs.label_graph import spread_labels
from pyro_gmmvae.runs.teacher import with_teacher
from pyro_gmmvae.training import Callback
from tests.training.test_loop import StopAfter

SMALL: dict[str, Any] = {"hidden": (32,), "latent_dim": 4, "epochs": 1, "batch_size": 64}


def rings(n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Two rings, one in the other, and their classes."""
    rng, angle = np.random.default_rng(0), np.linspace(0, 2 * np.pi, n, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    points = np.concatenate([circle, 3 * circle]) + 0.05 * rng.normal(size=(2 * n, 2))
    return points, np.repeat([0, 1], n)


@pytest.fixture(autouse=True)
def short_fit_of_the_vae(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VAE_STEPS", 300)


def digits(**keys: Any) -> Config:
    config: Config = default_config(
        "digits", SMALL | {"labels": 50, "teacher": "graph", "teacher_share": 0.5} | keys
    )
    return config


def test_labels_follow_the_graph_and_not_the_distance() -> None:
    """One label on each ring is enough, where the nearest labelled row misleads."""
    x, truth = rings()
    y = np.full(len(x), -1)
    y[[0, 150]] = truth[[0, 150]]
    probs = spread_labels(x, y, 2, 5)
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
    assert (probs.argmax(1) == truth).all()
    nearest = np.linalg.norm(x[:, None] - x[[0, 150]], axis=2).argmin(1)
    assert (truth[[0, 150]][nearest] == truth).mean() < 0.8


def test_rows_that_no_label_reaches_stay_without_one() -> None:
    x = np.concatenate([rings(20)[0], rings(20)[0] + 100])
    y = np.full(len(x), -1)
    y[[0, 20]] = [0, 1]
    probs = spread_labels(x, y, 2, 3)
    np.testing.assert_allclose(probs[40:], 0.5)


def test_the_surest_rows_get_a_label_and_the_same_ones_each_time() -> None:
    config = digits()
    data = TrainingData.from_config(config)
    one, other = with_teacher(config, data), with_teacher(config, data)
    assert one.taught is not None
    np.testing.assert_array_equal(one.taught, other.taught)
    y = data.visible_labels().numpy()
    assert (one.taught[y >= 0] == -1).all()
    assert (one.taught >= 0).sum() == (y < 0).sum() // 2
    rows = np.flatnonzero(one.taught >= 0)
    truth = data.dataset.y[data.training_rows]
    assert (one.taught[rows] == truth[rows]).mean() > 0.7
    assert one.teacher_seconds > 0


def test_equal_classes_are_assumed_where_asked() -> None:
    config = digits()
    data = TrainingData.from_config(config)
    y, spread = data.visible_labels().numpy(), {}
    for balanced in (False, True):
        rows, probs = module.probs_by_graph(config.replace(pseudo_balance=balanced), data, y)
        assert len(rows) == len(probs) == len(y)
        np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
        spread[balanced] = probs.mean(0).std()
    assert spread[True] < 0.2 * spread[False]


def test_equal_classes_are_assumed_of_rows_that_a_label_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = digits()
    data = TrainingData.from_config(config)
    y, K = data.visible_labels().numpy(), len(data.schema.classes)

    def far_rows_are_not_reached(*_: Any) -> np.ndarray[Any, Any]:
        probs = np.full((len(y), K), 1 / K)
        probs[:-50] = 0.5 / (K - 1)
        probs[:-50, 0] = 0.5  # a class that is far too frequent
        return probs

    monkeypatch.setattr(module, "spread_labels", far_rows_are_not_reached)
    _, probs = module.probs_by_graph(config.replace(pseudo_balance=True), data, y)
    np.testing.assert_allclose(probs[-50:], 1 / K)
    np.testing.assert_allclose(probs[:-50].mean(0), 1 / K, atol=1e-3)


def test_seconds_of_the_teacher_are_part_of_the_budget(tmp_path: Path) -> None:
    lines: list[str] = []

    class Lines(Callback):
        def on_start(self, about: str) -> None:
            lines.append(about)

    run = train(digits(), tmp_path / "run", callbacks=[Lines()])
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    first, line = [text for text in lines if text.startswith("teacher: ")]
    assert first == "teacher: graph"
    assert history["seconds"].iloc[0] > 0.5
    assert "rows labelled" in line
    assert isinstance(run, Run)
    with pytest.raises(GMMVAEError, match="leaves no time to fit"):
        train(digits(epochs=None, minutes=1e-4), tmp_path / "late")
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize(
    ("x", "y", "keys", "message"),
    [
        (np.ones((30, 3)), np.arange(30) % 2, {}, "equal"),
        (
            np.random.default_rng(0).normal(size=(30, 3)),
            np.arange(30) % 2,
            {"graph_neighbors": 30},
            "graph_neighbors 30: there are only 22 training rows",
        ),
    ],
)
def test_rows_without_a_graph_are_refused(
    tmp_path: Path, x: np.ndarray, y: np.ndarray, keys: dict[str, Any], message: str
) -> None:
    file = tmp_path / "rows.npz"
    np.savez(file, x=x, label=y)
    config = default_config(str(file), SMALL | {"teacher": "graph", "teacher_share": 0.5} | keys)
    with pytest.raises(GMMVAEError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_class_without_a_labelled_row_is_named() -> None:
    data = TrainingData.from_config(digits())
    y = data.visible_labels().numpy().copy()
    y[y == 3] = -1
    with pytest.raises(GMMVAEError, match="every class; the training rows have none of '3'"):
        module.probs_by_graph(digits(), data, y)


def test_vat_refuses_rows_that_are_discrete(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = tmp_path / "rows.csv"
    city = np.array(["Osaka", "Kyoto"])[rng.integers(0, 2, 40)]
    frame = pd.DataFrame({"a": rng.normal(size=40), "city": city, "label": np.arange(40) % 2})
    frame.to_csv(file, index=False)
    config = default_config(str(file), SMALL | {"vat": 1, "members": 1, "teacher_share": 0})
    with pytest.raises(GMMVAEError, match="the column 'city' is of the kind binary"):
        train(config, tmp_path / "run")
    with pytest.raises(GMMVAEError, match="binarize=threshold makes rows binary"):
        train(
            default_config(
                "digits", SMALL | {"vat": 1, "binarize": "threshold", "likelihood": "bernoulli"}
            ),
            tmp_path / "run",
        )


@pytest.mark.parametrize("engine", ["svi", "captured"])
def test_vat_and_a_fit_without_elbo_train_under_every_engine(tmp_path: Path, engine: str) -> None:
    keys = {"vat": 10, "entropy": 3, "balance": 12, "elbo_weight": 0, "engine": engine}
    train(default_config("digits", SMALL | {"labels": 50} | keys), tmp_path / "run")
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert (history["vat"] > 0).all()
    assert "kl_s" not in history
    assert history["val_elbo"].notna().all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"teacher_share": 0}, "teacher_share is 0, so there is no teacher"),
        (
            {"labels": 0, "elbo_weight": 0},
            "teacher_share needs labelled rows of at least two classes",
        ),
    ],
)
def test_keys_without_an_effect_are_refused(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(GMMVAEError, match=message):
        train(digits(**keys), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stopped_run_resumes_with_the_same_labels(tmp_path: Path) -> None:
    config = digits(epochs=3, vat=10, pseudo_alpha="30:0")
    whole = train(config, tmp_path / "whole")
    train(config, tmp_path / "stopped", callbacks=[StopAfter(30)])
    found = resume(tmp_path / "stopped")
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], value, rtol=0, atol=0)
