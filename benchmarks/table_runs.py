"""gmmvae as a method of the table benchmark: a run on a csv file with empty labels."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from table_data import MISSING, Draw

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import Run, default_config, train

LABEL = "label of the row"
# the benchmark has its own test rows
ALONE = {"test": 0, "device": "cpu"}


def predict(
    draw: Draw, settings: Mapping[str, Any], *, folds: bool = False, coverage: float | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64], pd.DataFrame]:
    """Class numbers (N,) and probabilities (N, K) of the test rows, and all columns of predict.

    Args:
        draw: the rows.
        settings: keys over those of the preset.
        folds: cross-validate, which calibrated probabilities and the column "new" need.
        coverage: of the sets of classes.

    Raises:
        GMMVAEError: a table that is refused.
    """
    x, classes = draw.table.x, draw.table.classes
    names = [classes[label] if label != MISSING else None for label in draw.visible]
    keys = ALONE | ({} if folds else {"cv": 0}) | {"label_column": LABEL, "seed": draw.seed}
    with tempfile.TemporaryDirectory() as folder:
        file, test = Path(folder) / "train.csv", Path(folder) / "test.csv"
        x.iloc[draw.train].assign(**{LABEL: names}).to_csv(file, index=False)
        x.iloc[draw.test].to_csv(test, index=False)
        try:
            train(default_config(str(file), keys, settings), Path(folder) / "run")
            asked = {} if coverage is None else {"coverage": coverage}
            found = Run.load(Path(folder) / "run", device="cpu").predict(test, **asked)
        except GMMVAEError as error:
            raise GMMVAEError(str(error).replace(f"{folder}/", "")) from error
    # a class without training rows has no column
    probabilities = found.reindex(columns=[f"p_{name}" for name in classes], fill_value=0.0)
    label = found["label"].astype(str).map({name: k for k, name in enumerate(classes)})
    return label.to_numpy(np.int64), probabilities.to_numpy(float), found
