"""scikit-learn's 1,797 handwritten digits, 8 x 8 pixels: the data set that ships with us."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pyro_gmmvae.data.dataset import Dataset
from pyro_gmmvae.data.presets import CLUSTER

ROWS = {"labels": 100, "test": 500, "validation": 150}
# chosen on validation rows (means of five label draws)
INVARIANT: dict[str, Any] = {
    **ROWS,
    "batch_norm": True,
    "input_noise": 0.3,
    "alpha": 100,
    "kl_s": "0:1:200",
    "kl_y": "0:1:200",
    "learning_rate": 3e-3,
    "pseudo_threshold": 0.9,
    "pseudo_balance": True,
    "pseudo_from": 100,
    "epochs": 28,
}
PRESETS: dict[str, Mapping[str, Any]] = {
    "paper": {**ROWS, "alpha": 0, "labelled_per_batch": 0},
    "permutation-invariant": INVARIANT,
    "best": {
        **INVARIANT,
        "augment": "affine",
        "epochs": 50,
    },
    "cluster": CLUSTER
    | {
        "test": 500,
        "validation": 150,
        "hidden": (256, 256),
        "batch_norm": True,
        "dropout": 0.3,
        "init": "ae-gmm",
        "epochs": 150,
    },
}


def load_digits(data_dir: Path | None = None) -> Dataset:  # noqa: ARG001 - every loader's signature
    """All rows, x (1797, 1, 8, 8) with pixels 0..16; no published test set.

    Source: UCI Optical Recognition of Handwritten Digits (test part), via scikit-learn.
    """
    from sklearn.datasets import load_digits as load

    images, labels = load(return_X_y=True)
    return Dataset.of_arrays(
        x=images.astype(np.float32).reshape(-1, 1, 8, 8),
        y=labels.astype(np.int64),
        classes=tuple(str(digit) for digit in range(10)),
        unit=16.0,
    )
