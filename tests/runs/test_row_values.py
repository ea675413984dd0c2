"""Runs with each likelihood, from a file to draws of x, and values that a likelihood refuses."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import Run, default_config, train
from pyro_gmmvae.runs.assembly import build
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.training.devices import rng_state

KEYS = {
    "epochs": 1,
    "hidden": (8,),
    "latent_dim": 2,
    "device": "cpu",
    "engine": "svi",
    "labels": 0,
    "components": 2,
    "test": 12,
    "validation": 10,
    "preset": None,
}
BYTES = np.random.default_rng(0).integers(0, 256, (60, 1, 4, 4), np.uint8)
SHARES = (BYTES / 255).astype(np.float64)
COUNTS = (BYTES // 12).reshape(60, 16).astype(np.float64)  # 0..21


def saved(folder: Path, x: Any, name: str = "x.npy") -> str:
    np.save(folder / name, x)
    return str(folder / name)


def config_of(file: str, **keys: Any) -> Any:
    return default_config(file, KEYS | keys)


@pytest.mark.parametrize(
    ("x", "likelihood", "wanted", "support"),
    [
        (BYTES, None, "bernoulli", 2),
        (BYTES, "continuous-bernoulli", "continuous-bernoulli", None),
        (BYTES, "binomial", "binomial(255)", 256),
        (BYTES, "categorical", "categorical(256)", 256),
        (BYTES, "discretized-logistic", "discretized-logistic(256)", 256),
        (BYTES, "normal", "normal", None),
        (SHARES, None, "bernoulli", 2),
        (SHARES - 0.5, None, "normal", None),
        (BYTES > 99, None, "bernoulli", 2),
        ((BYTES > 99).astype(np.uint8), None, "bernoulli", 2),
        (COUNTS.astype(np.uint8), None, "normal", None),
        (SHARES, "bernoulli", "bernoulli", 2),
        (SHARES, "continuous-bernoulli", "continuous-bernoulli", None),
        (COUNTS, None, "normal", None),
        (COUNTS, "binomial(21)", "binomial(21)", 22),
        (COUNTS, "binomial(30)", "binomial(30)", 31),
        (COUNTS, "categorical(22)", "categorical(22)", 22),
        (COUNTS, "discretized-logistic(22)", "discretized-logistic(22)", 22),
    ],
)
def test_a_run_from_rows_to_draws(
    tmp_path: Path, x: Any, likelihood: str | None, wanted: str, support: int | None
) -> None:
    file = saved(tmp_path, x)
    run = train(config_of(file, likelihood=likelihood), tmp_path / "run")
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    assert content["data"]["kind"]["likelihood"] == wanted
    run = Run.load(tmp_path / "run", device="cpu")
    found = run.evaluate(samples=4)
    assert np.isfinite([found["elbo"], found["nll"]]).all()
    means, draws = run.generate(30, seed=1), run.generate(30, seed=1, sample=True)
    assert means.shape == draws.shape == (2, 30, *x.shape[1:])
    assert not np.array_equal(means, draws)
    if support is not None:
        top = 255 if x.max() > 99 else support - 1
        steps = draws / (top / (support - 1))
        np.testing.assert_allclose(steps, steps.round(), atol=1e-3)
        assert steps.min() >= 0
        assert steps.max() <= support - 1
    table = run.predict(saved(tmp_path, x[:5], "new.npy"))
    assert np.isfinite(table["elbo"]).all()


def test_digits_are_counts() -> None:
    data = TrainingData.from_config(default_config("digits"))
    assert data.kind.likelihood == "binomial(16)"
    assert data.describe().endswith("; likelihood binomial(16)")
    x, _ = data.tensors(np.arange(50))
    np.testing.assert_array_equal(x * 16, data.dataset.x[:50])
    other = TrainingData.from_config(default_config("digits", {"likelihood": "bernoulli"}))
    np.testing.assert_array_equal(other.tensors(np.arange(50))[0], x)
    assert other.kind.likelihood == "bernoulli"


NEEDS_COUNT = "the largest value of .*x.npy is not known; write it, as in "


@pytest.mark.parametrize(
    ("x", "keys", "match"),
    [
        (COUNTS, {"likelihood": "binomial"}, NEEDS_COUNT + re.escape("binomial(16)")),
        (COUNTS, {"likelihood": "categorical"}, NEEDS_COUNT + re.escape("categorical(17)")),
        (
            COUNTS,
            {"likelihood": "binomial(20)"},
            r"holds 21, .*binomial\(20\) .* from 0 to 20; give",
        ),
        (COUNTS, {"likelihood": "categorical(21)"}, "holds 21, .* from 0 to 20"),
        (COUNTS + 0.5, {"likelihood": "binomial(30)"}, r"holds 7.5, .* whole numbers from 0 to 30"),
        (COUNTS - 1, {"likelihood": "discretized-logistic(30)"}, "holds -1, .* from 0 to 29"),
        (BYTES, {"likelihood": "binomial(16)"}, "holds 255, .* from 0 to 16"),
        (COUNTS, {"likelihood": "continuous-bernoulli"}, r"needs rows in \[0, 1\]"),
        (SHARES - 0.1, {"likelihood": "continuous-bernoulli"}, r"needs rows in \[0, 1\]"),
        (COUNTS, {"likelihood": "bernoulli"}, r"needs rows in \[0, 1\]"),
        (COUNTS, {"binarize": "threshold"}, "is for likelihood=bernoulli, .* is normal"),
        (BYTES // 16, {}, r"images of bytes that go up to 15 .*x_range=0,255 or x_range=0,15"),
        (COUNTS, {"x_range": (0, 20)}, "x_range is 0,20, and .*x.npy goes from 0 to 21; give"),
        (COUNTS, {"x_range": "0,21", "likelihood": "binomial(9)"}, "give x_range=0,9, or leave"),
        (COUNTS, {"x_range": "21,0"}, "give the lowest and the highest of all values, as 0,255"),
        (COUNTS, {"x_range": "21"}, "x_range: give the lowest and the highest"),
        (BYTES, {"binarize": "dynamic", "likelihood": "binomial"}, r"is binomial\(255\)"),
        (BYTES, {"binarize": "static"}, "binarize: .*'static'"),
    ],
)
def test_rows_that_a_likelihood_refuses(
    tmp_path: Path, x: Any, keys: dict[str, Any], match: str
) -> None:
    file = saved(tmp_path, x)
    with pytest.raises(GMMVAEError, match=match) as refusal:
        TrainingData.from_config(config_of(file, **keys))
    assert "\n" not in str(refusal.value)


def test_a_count_that_differs_between_shards(tmp_path: Path) -> None:
    """The last shard alone has larger counts; they need not be of validation rows."""
    np.save(tmp_path / "x-0.npy", COUNTS)
    np.save(tmp_path / "x-1.npy", COUNTS * 2)
    with pytest.raises(GMMVAEError, match=r"holds 42, .*binomial\(21\)"):
        TrainingData.from_config(config_of(str(tmp_path), likelihood="binomial(21)"))
    data = TrainingData.from_config(config_of(str(tmp_path), likelihood="binomial(42)"))
    assert data.tensors(np.arange(119))[0].max() <= 1


@pytest.mark.parametrize(
    ("x", "keys", "wanted"),
    [
        (COUNTS, {"x_range": (0, 30)}, "bernoulli"),
        (COUNTS + 5, {"x_range": "5,35", "likelihood": "binomial"}, "binomial(30)"),
        (COUNTS - 40, {"x_range": "-40,-10", "likelihood": "normal"}, "normal"),
        (BYTES // 16, {"x_range": "0,30"}, "bernoulli"),
    ],
)
def test_a_given_range_is_the_unit(
    tmp_path: Path, x: Any, keys: dict[str, Any], wanted: str
) -> None:
    data = TrainingData.from_config(config_of(saved(tmp_path, x), **keys))
    assert data.kind.likelihood == wanted
    scaled = data.tensors(np.arange(60))[0]
    low = float(x.min())
    np.testing.assert_allclose(scaled, (x.astype(float) - low) / 30, atol=1e-6)


@pytest.fixture(scope="module")
def of_counts(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("counts")
    return train(config_of(saved(folder, COUNTS), likelihood="binomial(21)"), folder / "run")


@pytest.mark.parametrize("x", [COUNTS * 2, COUNTS / 21, COUNTS - 3])
def test_other_counts_at_predict(of_counts: Run, tmp_path: Path, x: Any) -> None:
    with pytest.raises(
        GMMVAEError, match=r"new\.npy holds .* whole numbers from 0 to 21; give rows"
    ):
        of_counts.predict(saved(tmp_path, x, "new.npy"))


def test_a_likelihood_in_config_that_is_none(of_counts: Run, tmp_path: Path) -> None:
    content = json.loads((of_counts.path / "config.json").read_text())
    for text in ("binomial", "gauss", "binomial(x)"):
        content["data"]["kind"]["likelihood"] = text
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(GMMVAEError, match="is damaged"):
            Run.load(tmp_path, device="cpu")


# -- binary rows -------------------------------------------------------------------------------


def test_a_threshold_is_part_of_the_units(tmp_path: Path) -> None:
    file = saved(tmp_path, BYTES)
    run = train(config_of(file, binarize="threshold"), tmp_path / "run")
    run = Run.load(run.path, device="cpu")
    data = TrainingData.from_config(run.config, run.schema)
    assert data.describe().endswith("; likelihood bernoulli; binarized by threshold")
    wanted = (BYTES >= 127.5).astype(np.float32)
    x, _ = data.tensors(np.arange(60))
    np.testing.assert_array_equal(x, wanted)
    np.testing.assert_array_equal(data.training_tensors(x.device)[0], wanted[data.training_rows])
    gray = run.predict(saved(tmp_path, BYTES[:7], "gray.npy"))
    binary = run.predict(saved(tmp_path, (255 * wanted[:7]).astype(np.uint8), "binary.npy"))
    np.testing.assert_array_equal(gray["elbo"], binary["elbo"])
    with pytest.raises(GMMVAEError, match=r"needs rows in \[0, 1\]"):  # before the threshold
        run.predict(saved(tmp_path, 3.0 * BYTES[:7], "large.npy"))


@pytest.mark.parametrize("augment", [None, "affine"])
def test_dynamic_binarization_draws_in_each_batch(tmp_path: Path, augment: str | None) -> None:
    config = resolve(config_of(saved(tmp_path, BYTES), binarize="dynamic", augment=augment))
    data = TrainingData.from_config(config)
    parts = build(config, data)
    x, y = parts.training
    assert x.frac().abs().mean() > 0  # gray until a batch takes them
    inputs = [parts.preprocessing(x) for _ in range(200)]
    assert {len(columns) for columns in inputs} == {len(inputs[0])}
    for columns in zip(*inputs, strict=True):
        assert set(columns[0].unique().tolist()) == {0.0, 1.0}
        assert not (columns[0] == columns[1]).all()
    clean = sum(columns[-1] for columns in inputs) / len(inputs)
    if augment is None:
        np.testing.assert_allclose(clean, x, atol=0.2)
    before = rng_state(x.device)["cpu"]
    parts.preprocessing.example(x, y)
    assert (rng_state(x.device)["cpu"] == before).all()


def test_rows_to_measure_are_drawn_by_their_content(tmp_path: Path) -> None:
    """A row's draw depends neither on its place nor on other rows, nor on the type of its file."""
    file = saved(tmp_path, BYTES)
    run = train(config_of(file, binarize="dynamic", epochs=2), tmp_path / "run")
    data = TrainingData.from_config(run.config, run.schema)
    whole = data.tensors(np.arange(60))[0]
    assert set(whole.unique().tolist()) == {0.0, 1.0}
    order = np.random.default_rng(1).permutation(60)
    np.testing.assert_array_equal(data.tensors(order)[0], whole[order])
    np.testing.assert_array_equal(data.tensors(order[3:5])[0], whole[order[3:5]])
    np.testing.assert_allclose(whole.mean(), SHARES.mean(), atol=0.05)
    one = run.predict(saved(tmp_path, BYTES, "all.npy"))
    some = run.predict(saved(tmp_path, BYTES[20:40].astype(np.float64), "some.npy"))
    np.testing.assert_allclose(one["p_component_0"][20:40], some["p_component_0"], rtol=1e-5)
    again = np.repeat(BYTES[:1], 4, 0)
    assert len(np.unique(run.schema.featurize(again), axis=0)) == 1


def test_shards_are_drawn_in_each_batch(tmp_path: Path) -> None:
    np.save(tmp_path / "x-0.npy", BYTES)
    run = train(config_of(str(tmp_path), binarize="dynamic"), tmp_path / "run")
    data = TrainingData.from_config(run.config, run.schema)
    rows = data.training_tensors(run.device)[0]
    np.testing.assert_allclose(rows[torch.arange(5)], SHARES[data.training_rows[:5]], atol=1e-6)
    binary = train(config_of(str(tmp_path), binarize="threshold"), tmp_path / "other")
    rows = TrainingData.from_config(binary.config, binary.schema).training_tensors(run.device)[0]
    assert set(rows[torch.arange(5)].unique().tolist()) == {0.0, 1.0}
