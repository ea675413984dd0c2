"""A small run without labels, for all tests that read its components."""

import numpy as np
import pandas as pd
import pytest

from pyro_gmmvae.runs import Run, default_config, train

ROWS, CLASSES = 150, ("ann", "bob", "cy")


@pytest.fixture(scope="session")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Five components on a table of three classes that it was not told."""
    folder = tmp_path_factory.mktemp("clustered")
    generator, y = np.random.default_rng(0), np.arange(ROWS) % 3
    x = generator.normal(size=(ROWS, 4)) * 0.3 + 4 * np.eye(4)[y]
    table = pd.DataFrame(x, columns=[*"abcd"]).assign(label=np.array(CLASSES)[y])
    table.to_csv(folder / "rows.csv", index=False)
    keys = {
        "labels": 0,
        "components": 5,
        "init": "kmeans",
        "epochs": 4,
        "hidden": "16",
        "latent_dim": 2,
        "batch_size": 32,
        "labelled_per_batch": 0,
        "learning_rate": 0.01,
        "validation": 20,
        "test": 30,
        "engine": "svi",
    }
    return train(default_config(str(folder / "rows.csv"), keys), folder / "run")
