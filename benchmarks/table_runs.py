"""gmmvae as a method of the table benchmark: a run on a csv file with empty labels."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from table_data import MISSING, Draw

from pyro_gmmvae.config import Config
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs import Run, default_config, train

LABEL = "label of the row"
# neither test rows nor cross-validation: the benchmark has its own test rows
ALONE = {"test": 0, "cv": 0, "device": "cpu"}


def predict(
    draw: Draw, settings: Mapping[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Class numbers (N,) and probabilities (N, K) of the test rows.

    Args:
        draw: the rows.
        settings: keys over those of the preset.

    Raises:
        GMMVAEError: a table that is refused.
    """
    x, classes = draw.table.x, draw.table.classes
    names = [classes[label] if label != MISSING else None for label in draw.visible]
    alone = {key: value for key, value in ALONE.items() if key in Config.model_fields}
    with tempfile.TemporaryDirectory() as folder:
        file, test = Path(folder) / "train.csv", Path(folder) / "test.csv"
        x.iloc[draw.train].assign(**{LABEL: names}).to_csv(file, index=False)
        x.iloc[draw.test].to_csv(test, index=False)
        keys = alone | {"label_column": LABEL, "seed": draw.seed}
        try:
            train(default_config(str(file), keys, settings), Path(folder) / "run")
            found = Run.load(Path(folder) / "run", device="cpu").predict(test)
        except GMMVAEError as error:
            raise GMMVAEError(str(error).replace(f"{folder}/", "")) from error
    probabilities = found[[f"p_{name}" for name in classes]].to_numpy(float)
    label = found["label"].astype(str).map({name: k for k, name in enumerate(classes)})
    return label.to_numpy(np.int64), probabilities
