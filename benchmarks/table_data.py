"""Tables of the benchmark of few labels, and draws of test rows and labels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.model_selection import train_test_split

from pyro_gmmvae.errors import GMMVAEError

# scikit-learn's own
OWN: dict[str, Callable[..., Any]] = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
}
# label columns of known files that are not the last one, or stand for more than their place
LABEL_COLUMNS = {"HouseVotes84": "Class", "LetterRecognition": "lettr"}
MAX_ROWS = 4000  # a sample of larger files
TEST_SHARE = 0.3
MISSING = -1


@dataclass(frozen=True)
class LabelledTable:
    """A table with a class for each row.

    Attributes:
        name: of the table.
        x: the columns, with missing cells.
        labels: (N,) texts.
    """

    name: str
    x: pd.DataFrame
    labels: NDArray[Any]

    @cached_property
    def classes(self) -> list[str]:
        return sorted(set(self.labels))

    @cached_property
    def y(self) -> NDArray[np.int64]:
        """(N,) numbers of the classes."""
        return np.searchsorted(self.classes, self.labels)


@dataclass(frozen=True)
class Draw:
    """A split of a table and its labels that methods may see.

    Attributes:
        table: the table.
        seed: of the split, the labels and the methods.
        train, test: row numbers.
        visible: (N_train,) class numbers, -1 where the label is hidden.
    """

    table: LabelledTable
    seed: int
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    visible: NDArray[np.int64]


def table_names(data_dir: Path | None) -> list[str]:
    """Names of scikit-learn's tables and of the csv files of a folder."""
    files = [] if data_dir is None else sorted(data_dir.glob("*.csv"))
    return [*OWN, *(file.stem for file in files)]


def read_labelled(name: str, data_dir: Path | None) -> LabelledTable:
    """A table by its name.

    Raises:
        GMMVAEError: a file without the label column that it is known to have.
    """
    if name in OWN:
        found = OWN[name](as_frame=True)
        classes = np.asarray(found.target_names).astype(str)
        return LabelledTable(name, found.data, classes[found.target.to_numpy()])
    assert data_dir is not None
    file = data_dir / f"{name}.csv"
    frame = pd.read_csv(file)
    column = LABEL_COLUMNS.get(name, str(frame.columns[-1]))
    if column not in frame:
        raise GMMVAEError(f"{file} has no column {column!r} to take labels from")
    frame = frame[frame[column].notna()]
    if len(frame) > MAX_ROWS:
        frame = frame.sample(MAX_ROWS, random_state=0).reset_index(drop=True)
    labels = frame.pop(column).astype(str).to_numpy(object)
    return LabelledTable(name, frame, labels)


def draw(table: LabelledTable, labels: int, seed: int, validation: bool = False) -> Draw:
    """Hold out test rows, stratified, and show ``labels`` labels of each class.

    The labels of a smaller number are among those of a larger one. With ``validation`` the test
    rows are left out, and a part of the training rows is held out in their place.
    """
    train = np.arange(len(table.y))
    for _ in range(1 + validation):
        train, test = train_test_split(
            train, test_size=TEST_SHARE, stratify=table.y[train], random_state=seed, shuffle=True
        )
    y, order = table.y[train], np.random.default_rng(seed).permutation(len(train))
    visible = np.full(len(train), MISSING)
    for label in range(len(table.classes)):
        shown = order[y[order] == label][:labels]
        visible[shown] = label
    return Draw(table, seed, train, test, visible)


def leaving_out(draw: Draw) -> tuple[Draw, int]:
    """The draw without the training rows of a class (in each draw another), and its number."""
    left_out = draw.seed % len(draw.table.classes)
    kept = draw.table.y[draw.train] != left_out
    return replace(draw, train=draw.train[kept], visible=draw.visible[kept]), left_out
