"""A small run with a log and the same run without, for all tests of loggers."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pyro_gmmvae.runs import default_config, train

STEPS = 15  # of an epoch
KEYS = {"epochs": 2, "hidden": "16", "latent_dim": 2, "engine": "svi", "checkpoint_seconds": 0}


def history(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "history.csv").drop(columns="seconds")


@pytest.fixture(scope="session")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a log."""
    return train(default_config("digits", KEYS), tmp_path_factory.mktemp("silent") / "run").path


@pytest.fixture(scope="session")
def boarded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, which logs to TensorBoard."""
    config = default_config("digits", {**KEYS, "log": "tensorboard"})
    return train(config, tmp_path_factory.mktemp("boarded") / "run").path


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    def copy(run: Path) -> Path:
        return Path(shutil.copytree(run, tmp_path / "copy"))

    return copy
