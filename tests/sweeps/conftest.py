"""Synthetic rows, and a small study on them that several tests read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.sweeps import Tuned, tune

SMALL: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 32,
    "labelled_per_batch": 6,
    "validation": 30,
    "test": 20,
    "dropout": 0,
    "engine": "svi",
}
# of the model gmmvae, which is tuned where none is named
GMMVAE = {"alpha": 10, "kl_s": 1, "temperature": 0.5, "label_eps": 1e-3}
SEARCH = {"hidden": "8,16", "latent_dim": "2:4", "learning_rate": "1e-3:1e-2:log"}
Keys = Mapping[str, Any]
Study = Callable[..., Tuned]


def silent(_: Any) -> None: ...


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 rows of three overlapping classes."""
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    generator, y = np.random.default_rng(0), np.arange(120) % 3
    x = generator.normal(size=(120, 4)) + 2 * np.eye(4)[y]
    table = pd.DataFrame(x, columns=[*"abcd"]).assign(label=np.array(["ann", "bob", "cy"])[y])
    table.to_csv(file, index=False)
    return file


@pytest.fixture(scope="session")
def study(rows: Path) -> Study:
    """A function that runs a small study in a folder; it takes the keywords of ``tune``."""

    def run(out: Path, keys: Keys | None = None, **options: Any) -> Tuned:
        keys = keys or {}
        own = {} if "model" in keys else GMMVAE
        merged = {**SMALL, "data": str(rows), **own, **keys}
        options = {
            "search": SEARCH,
            "sampler": "random",
            "log": silent,
            "pictures": False,
        } | options
        return tune(merged, out, **options)

    return run


@pytest.fixture(scope="session")
def finished_study(study: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tuned]:
    """A study of four trials, whose files tests read but do not change."""
    out = tmp_path_factory.mktemp("studies") / "small"
    return out, study(out, trials=4, pictures=True)
