"""Sizes and numbers at the ends of their ranges: a result, or one line and the last checkpoint."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from .answers import Call, check

FIT = ("--preset", "paper", "--epochs", 2, "--set", "hidden=8", "--set", "cv=0", "--out", "out")


def write_rows(folder: Path, x: "np.ndarray", y: "np.ndarray") -> None:  # type: ignore[type-arg]
    np.savez(folder / "rows.npz", x=x, y=y)


X = np.random.default_rng(0).normal(size=(60, 4))
Y = np.arange(60) % 3
SIZES = {
    "one-component": ("--labels", 0, "--components", 1),
    "thousand-components": ("--labels", 0, "--components", 1000),
    "more-components-than-classes": ("--components", 50),
    "one-dimension": ("--latent-dim", 1),
    "one-hidden-unit": ("--set", "hidden=1"),
    "batch-of-two": ("--batch-size", 2, "--set", "labelled_per_batch=0"),
    "huge-batch": ("--batch-size", 10**6),
    "learning-rate-1e3": ("--learning-rate", 1e3),
    "learning-rate-1e-30": ("--learning-rate", 1e-30),
    "learning-rate-1e300": ("--learning-rate", 1e300),
    "temperature-small": ("--set", "temperature=1e-6"),
    "temperature-large": ("--set", "temperature=1e6"),
    "no-validation": ("--set", "validation=0"),
    "no-test": ("--set", "test=0"),
    "all-test": ("--set", "test=60"),
    "all-validation": ("--set", "validation=1.0"),
    "one-label-each": ("--labels", 3),
    "particles": ("--particles", 5),
}


@pytest.mark.parametrize("engine", ["svi", "captured"])
@pytest.mark.parametrize("name", SIZES)
def test_size(place: Path, call: Call, name: str, engine: str) -> None:
    write_rows(place, X, Y)
    options = ("--engine", engine, *SIZES[name])
    answer = check(place, call, ["train", "--data", "rows.npz", *FIT, *options], "out")
    if answer.code == 0:
        check(place, call, ["predict", "out", "rows.npz"])
        check(place, call, ["evaluate", "out", "--draws", 0, "--nll-rows", 3], "out/metrics.json")


ROWS = {
    "float16": X.astype(np.float16),
    "large-float16": (X * 1e4).astype(np.float16),
    "constant-columns": np.c_[X[:, :2], np.full((60, 2), 7.0)],
    "all-constant": np.ones((60, 4)),
    "1e30": X * 1e30,
    "1e-30": X * 1e-30,
    "mixed": X * np.array([1e-30, 1, 1e10, 1e30]),
    "one-outlier": np.vstack([X[:-1], np.full((1, 4), 1e30)]),
    "equal-rows": np.repeat(X[:1], 60, 0),
    "one-column": X[:, :1],
    "two-rows": X[:2],
    "many-columns": np.random.default_rng(0).normal(size=(60, 3000)),
}


@pytest.mark.parametrize("model", ["gmmvae", "m2", "vae"])
@pytest.mark.parametrize("name", ROWS)
def test_rows(place: Path, call: Call, name: str, model: str) -> None:
    write_rows(place, ROWS[name], Y[: len(ROWS[name])])
    options = ("--engine", "svi", "--model", model)
    answer = check(place, call, ["train", "--data", "rows.npz", *FIT, *options], "out")
    if answer.code == 0:
        check(place, call, ["predict", "out", "rows.npz"])


def test_a_class_of_one_row(place: Path, call: Call) -> None:
    write_rows(place, X[:12], np.array([0] * 9 + [1, 2, 3]))
    check(place, call, ["train", "--data", "rows.npz", *FIT, "--engine", "svi"], "out")
    table = pd.DataFrame(X[:5], columns=[*"abcd"]).assign(label=[*"vwxyz"])
    table.to_csv(place / "five.csv", index=False)
    check(place, call, ["train", "--data", "five.csv", *FIT, "--engine", "svi"], "out2")


def test_a_fit_that_diverges_keeps_its_last_checkpoint(place: Path, call: Call) -> None:
    write_rows(place, X, Y)
    fit = ("train", "--data", "rows.npz", *FIT, "--engine", "svi", "--epochs", 200)
    schedule = ("--set", "checkpoint_seconds=0", "--set", "kl_z=1:2e38:100")
    answer = check(place, call, [*fit, *schedule], "out")
    assert answer.code == 2, answer
    assert "; the last checkpoint is in out" in answer.err
    assert (place / "out" / "training.pt").exists()
    check(place, call, ["predict", "out", "rows.npz"])
