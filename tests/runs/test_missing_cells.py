"""Runs on images and tables of which some cells are missing, from the file to the report."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pyro_gmmvae.data import DataOptions, Transform
from pyro_gmmvae.datasets import load_data
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.inference_data import to_inference_data
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.generator import RealRows
from pyro_gmmvae.training.batches import binary_draws

SHARE = 0.1  # of the pixels
KEYS = {
    "labels": 50,
    "hidden": "16",
    "latent_dim": 3,
    "epochs": 2,
    "engine": "svi",
    "test": 60,
    "validation": 40,
}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    x = load_digits().images[:300] / 16
    x[np.random.default_rng(0).random(x.shape) < SHARE] = np.nan
    return x


@pytest.fixture(scope="module")
def run(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Augmented images, binary in each batch."""
    folder = tmp_path_factory.mktemp("missing")
    np.savez(folder / "rows.npz", x=images, y=load_digits().target[:300])
    keys = KEYS | {"preset": "digits/best", "likelihood": "bernoulli", "binarize": "dynamic"}
    return train(default_config(str(folder / "rows.npz"), keys), folder / "run")


def test_the_mask_is_part_of_a_run(run: Run) -> None:
    content = json.loads((run.path / "config.json").read_text())
    assert content["data"]["kind"]["missing"] is True
    assert Run.load(run.path).model.observation.missing


def test_a_run_is_evaluated_with_missing_cells(run: Run) -> None:
    found = run.evaluate(samples=4, nll_rows=60, draws=40)
    numbers = ("elbo", "nll", "accuracy", "judge_accuracy", "recall", "nearest_training_test")
    assert np.isfinite([found[key] for key in numbers]).all()
    entries = 64 * (1 - SHARE)
    assert found["nll"] / (found["bits_per_dim"] * math.log(2)) == pytest.approx(entries, rel=0.03)


def test_rows_are_compared_with_missing_cells_at_their_mean(run: Run) -> None:
    rows = RealRows.of(run_data(run), 60, torch.device("cpu"))
    flat = rows.flat(rows.x)
    missing = rows.x.flatten(1).isnan().numpy()
    means = np.nanmean(rows.training.flatten(1).numpy(), 0)
    np.testing.assert_allclose(flat[missing], np.broadcast_to(means, flat.shape)[missing], 1e-5)


def run_data(run: Run) -> TrainingData:
    return TrainingData.from_config(run.config, run.schema)


def test_predictions_of_rows_without_any_value(
    run: Run, images: np.ndarray, tmp_path: Path
) -> None:
    x = images[:5].copy()
    x[2] = np.nan
    np.save(tmp_path / "x.npy", x)
    table = run.predict(tmp_path / "x.npy")
    assert np.isfinite(table.drop(columns="label").to_numpy(float)).all()
    assert table["elbo"][2] <= 0.05  # the bound on the log probability of nothing, which is 0
    assert table["elbo"].drop(2).max() < table["elbo"][2] - 2


def test_draws_for_arviz_have_missing_cells(run: Run, images: np.ndarray) -> None:
    found = to_inference_data(run, images[:4, None], draws=20)
    observed = found.observed_data["x"].to_numpy().reshape(4, 64)
    assert (np.isnan(observed) == np.isnan(images[:4].reshape(4, 64))).all()
    assert np.isfinite(found.log_likelihood["x"]).all()


def test_a_run_without_a_mask_refuses_missing_cells(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    np.save(tmp_path / "x.npy", x)
    full = train(
        default_config(str(tmp_path / "x.npy"), KEYS | {"labels": 0, "test": 0}), tmp_path / "run"
    )
    x[1, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(GMMVAEError, match=r"missing cells .* train on rows of which some"):
        full.predict(tmp_path / "x.npy")
    assert len(full.predict(tmp_path / "x.npy", drop_nonfinite=True)) == 59


def test_shards_with_missing_cells_equal_a_file(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 4))
    x[:20, 1], x[:, 2], x[45, 0] = np.nan, np.nan, np.nan
    (tmp_path / "shards").mkdir()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "shards" / "x-0.npy", x[:30])
    np.save(tmp_path / "shards" / "x-1.npy", x[30:])
    file, shards = load_data(str(tmp_path / "x.npy")), load_data(str(tmp_path / "shards"))
    assert file.kind == shards.kind
    assert file.kind.missing
    one, other = (data.fit_transform_on(np.arange(5, 50)) for data in (file, shards))
    np.testing.assert_allclose(one.shift, other.shift, atol=1e-12)
    np.testing.assert_allclose(one.scale, other.scale)
    assert (other.shift[2], other.scale[2]) == (0, 1)
    with pytest.raises(GMMVAEError, match=r"x-0.npy: 30 of 30 rows have missing cells"):
        load_data(str(tmp_path / "shards"), DataOptions(missing="refuse"))


@pytest.mark.parametrize("how", ["threshold", "dynamic"])
def test_missing_cells_stay_missing_where_rows_become_binary(how: str) -> None:
    rows = np.array([[0.0, np.nan, 1.0], [0.7, 0.2, np.nan]], np.float32)
    binary = Transform(np.zeros(()), np.ones(()), binarize=how).binarized(rows)
    assert (np.isnan(binary) == np.isnan(rows)).all()
    assert set(binary[~np.isnan(rows)]) <= {0, 1}
    drawn = binary_draws(torch.from_numpy(rows))
    assert (drawn.isnan().numpy() == np.isnan(rows)).all()
