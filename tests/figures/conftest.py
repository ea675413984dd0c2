"""Small runs of every kind that has pictures."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyro_gmmvae.figures import RunView
from pyro_gmmvae.runs import Run, default_config, train

Fit = Callable[..., Run]
SMALL = {"epochs": 1, "hidden": "8", "latent_dim": 2, "engine": "svi", "batch_size": 64}


@pytest.fixture(scope="session")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    """Train on random rows, or on the data of a name; the same keys give the same run."""
    known: dict[str, Run] = {}

    def call(data: str | None = None, **keys: Any) -> Run:
        name = repr((data, sorted(keys.items())))
        if name not in known:
            folder = tmp_path_factory.mktemp("figures")
            if data is None:
                data = str(folder / "rows.npy")
                np.save(data, np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32))
                keys = {"labels": 0, "labelled_per_batch": 0, "components": 3, **keys}
            keys = {key: value for key, value in keys.items() if value is not None}
            known[name] = train(default_config(data, SMALL, keys), folder / "run")
        return known[name]

    return call


@pytest.fixture(scope="session")
def digits(trained: Path) -> RunView:
    """Images of ten named classes; z has four entries."""
    return RunView(Run.load(trained))


@pytest.fixture(scope="session")
def plane(fit: Fit) -> RunView:
    """Images of ten named classes; z has two entries."""
    return RunView(fit("digits", epochs=2))


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A run that may be written into."""
    return Path(shutil.copytree(trained, tmp_path / "copied"))
