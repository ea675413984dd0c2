"""Measures of a generator in evaluate, for runs of every kind."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import neighbor_measures
from pyro_gmmvae.runs import Run, TrainingData, default_config, train
from pyro_gmmvae.runs.generator import (
    KEYS,
    NEIGHBOR_KEYS,
    classes_of_components,
    components_of_rows,
    draw_components,
    flattener,
    measure_generation,
    nearest_training_rows,
)

TINY: dict[str, Any] = {"epochs": 1, "hidden": "8", "latent_dim": 2, "engine": "svi"}
# that every model with a prior has
OF_ALL = {f"{key}{end}" for key in NEIGHBOR_KEYS for end in ("", "_sampled", "_reference")}
OF_ALL |= {"nearest_training_draws", "nearest_training_test", "active_units"}
OF_CLASSES = {"recognized", "recognized_sampled", "judge_accuracy", "spread"}


def data_of(run: Run) -> TrainingData:
    return TrainingData.from_config(run.config, run.schema)


@pytest.mark.parametrize(
    ("model", "by_class", "has_units"),
    [
        ("gmmvae", True, True),
        ("gmvae-discrete", True, True),
        ("gmmvae-factors", True, True),
        ("m2", True, True),
        ("m1m2", True, False),
        ("cvae", True, True),
        ("vae", False, True),
        ("m1", False, True),
    ],
)
def test_the_keys_of_a_model(model: str, by_class: bool, has_units: bool, tmp_path: Path) -> None:
    run = train(default_config("digits", TINY | {"model": model}), tmp_path / "r")
    numbers = run.evaluate(samples=2, nll_rows=0)
    assert set(KEYS) <= set(numbers)
    known = {key for key in KEYS if numbers[key] is not None}
    assert known == OF_ALL | (OF_CLASSES if by_class else set()) | (
        {"kl_units"} if has_units else set()
    )
    if by_class:
        assert numbers["judge_accuracy"] > 0.95
    if has_units:
        assert len(numbers["kl_units"]) == 2
        assert sum(numbers["kl_units"]) <= numbers["rate"] + 0.1
    # real rows are of the same distribution; those of a model after one epoch are not
    assert numbers["recall_reference"] > 0.9 > numbers["recall"]
    assert run.evaluate(samples=2, nll_rows=0) == numbers


def test_a_model_without_a_prior_has_none_of_it(tmp_path: Path) -> None:
    run = train(default_config("digits", TINY | {"model": "ae"}), tmp_path / "r")
    numbers = run.evaluate(samples=2, nll_rows=0)
    assert {numbers[key] for key in KEYS} == {None}


def test_draws_may_be_left_out_but_are_not_too_few(trained: Path) -> None:
    run = Run.load(trained, device="cpu")
    numbers = measure_generation(run, data_of(run), 0)
    assert set(numbers) == set(KEYS)
    assert set(numbers.values()) == {None}
    for few in (1, 5):
        with pytest.raises(GMMVAEError, match="5 neighbors needs at least 6 draws"):
            measure_generation(run, data_of(run), few)


def test_too_few_draws_are_refused_before_the_work(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyro_gmmvae.runs.run.measure", lambda *_: pytest.fail("has worked"))
    with pytest.raises(GMMVAEError, match="5 neighbors needs at least 6 draws; draws is 5"):
        Run.load(trained, device="cpu").evaluate(samples=2, nll_rows=0, draws=5)


def test_draws_that_are_training_rows_are_seen_as_such(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that copies is recognized, precise, and at distance 0 from training rows."""
    run = Run.load(trained, device="cpu")
    data = data_of(run)
    x, y = data.tensors(data.split.train)

    def copies(n: int, label: int, **_: object) -> torch.Tensor:
        return x[y == label][:n]

    monkeypatch.setattr(run.model, "generate", copies)
    numbers = measure_generation(run, data)
    assert numbers["recognized"] > 0.99
    assert numbers["nearest_training_draws"] < 1e-3 < numbers["nearest_training_test"]
    assert numbers["precision"] > 0.9
    assert numbers["recall"] > 0.85
    assert 0.9 < numbers["spread"] < 1.1
    # and one that always draws the same row of a class
    monkeypatch.setattr(run.model, "generate", lambda n, k, **_: copies(1, k).expand(n, -1, -1, -1))
    collapsed = measure_generation(run, data)
    assert collapsed["spread"] == 0
    assert collapsed["recall"] < 0.05


def test_samples_of_x_are_noisier_than_means(trained: Path) -> None:
    run = Run.load(trained, device="cpu")
    numbers = measure_generation(run, data_of(run))
    assert numbers["precision_sampled"] < numbers["precision"]
    assert numbers["recognized_sampled"] > 0.2
    data = data_of(run)
    x, y = data.tensors(data.split.test)
    means, samples = (draw_components(run, y.numpy(), len(x), mean=m) for m in (True, False))
    assert means.shape == samples.shape
    assert samples.std() > means.std()


def test_draws_have_the_classes_of_the_test_rows(trained: Path) -> None:
    run = Run.load(trained, device="cpu")
    data = data_of(run)
    x, y = data.tensors(data.split.test)
    components = components_of_rows(run, x, y.numpy())
    assert components is not None
    assert (components == y.numpy()).all()
    unknown = components_of_rows(run, x, np.full(len(y), -1))
    assert unknown is not None
    assert (unknown == run.log_probs(x).argmax(1)).all()  # type: ignore[union-attr]
    asked = []

    def generate(n: int, label: int, *, mean: bool, given: None) -> torch.Tensor:
        assert mean
        assert given is None
        asked.append((label, n))
        return torch.full((n, 1, 8, 8), float(label))

    run.model.generate = generate  # type: ignore[method-assign]
    made = draw_components(run, components, len(components))
    assert asked == list(enumerate(np.bincount(components)))
    assert (made[:, 0, 0, 0].numpy() == components).all()


def test_a_component_without_labels_has_the_class_of_most_of_its_rows(clustered: Run) -> None:
    data = data_of(clustered)
    x, y = data.tensors(data.split.train)
    found = classes_of_components(clustered, x, y.numpy())
    log_probs = clustered.log_probs(x)
    assert log_probs is not None
    for k in range(5):
        rows = y.numpy()[log_probs.argmax(1) == k]
        wanted = np.bincount(rows).argmax() if len(rows) else -1
        assert found[k] == wanted
    assert (classes_of_components(clustered, x, np.full(len(x), -1)) == -1).all()
    numbers = measure_generation(clustered, data)
    assert numbers["recognized"] > 0.5
    assert numbers["judge_accuracy"] == 1


def test_without_any_class_there_is_no_judge(clustered: Run) -> None:
    data = data_of(clustered)
    unknown = dataclasses.replace(data.dataset, y=np.full_like(data.dataset.y, -1), classes=())
    data = dataclasses.replace(data, dataset=unknown)
    numbers = measure_generation(clustered, data)
    assert numbers["recognized"] is numbers["judge_accuracy"] is None
    assert numbers["spread"] > 0
    assert numbers["recall"] is not None


def test_the_nearest_training_row_is_found_in_any_part(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyro_gmmvae.runs.generator.TRAINING_ROWS", 100)
    data = data_of(Run.load(trained, device="cpu"))
    x, _ = data.tensors(data.split.train)
    queries = x[::90].flatten(1).numpy()
    distances, numbers = nearest_training_rows(data, flattener(x), queries)
    assert distances == pytest.approx(0, abs=1e-3)
    assert (numbers == data.split.train[::90]).all()


def test_missing_entries_are_set_to_the_mean_of_training_rows() -> None:
    x = torch.tensor([[1.0, float("nan")], [3.0, float("nan")]])
    flat = flattener(x)
    assert flat(torch.tensor([[float("nan"), 5.0]])).tolist() == [[2, 5]]
    assert flat(x).tolist() == [[1, 0], [3, 0]]  # 0 where no training row has the entry
    assert neighbor_measures(flat(torch.rand(9, 2)), flat(torch.rand(9, 2)))["precision"] >= 0
