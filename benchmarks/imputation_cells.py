"""Hidden cells of the benchmark of imputation, the imputers of scikit-learn, and their errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from table_data import read_labelled

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data.column_codes import encode
from pyro_gmmvae.data.column_kinds import infer_columns
from pyro_gmmvae.data.frames import frame_of

MOST_ROWS = 1500
IMPUTERS = {"simple": SimpleImputer, "knn": KNNImputer, "iterative": IterativeImputer}
MECHANISMS = ("random", "rank")
FEWEST = 3  # cells that stay in each column


@dataclass(frozen=True)
class HiddenCells:
    """A table of which some cells are hidden.

    Attributes:
        columns: D of them, by kind.
        x: (N, D) the known cells; codes of binary and category columns.
        hidden: (N, D) which cells are hidden.
    """

    columns: tuple[Column, ...]
    x: NDArray[np.float64]
    hidden: NDArray[np.bool_]

    @property
    def seen(self) -> NDArray[np.float64]:
        """(N, D) the cells that imputers see; NaN: missing."""
        return np.where(self.hidden, np.nan, self.x)

    def errors(self, filled: NDArray[np.float64]) -> dict[str, float]:
        """Of the hidden cells of filled rows (N, D), means over columns.

        Of a column of numbers the root of the mean squared error over the column's standard
        deviation (nrmse), of others the share of wrong values (wrong).
        """
        found: dict[str, list[float]] = {"nrmse": [], "wrong": []}
        for place, column in enumerate(self.columns):
            cells = self.hidden[:, place]
            if not cells.any():
                continue
            true, given = self.x[cells, place], filled[cells, place]
            if column.is_discrete:
                found["wrong"].append(float((true != given).mean()))
            else:
                deviation = np.nanstd(self.x[:, place])
                found["nrmse"].append(float(np.sqrt(np.square(true - given).mean()) / deviation))
        means = {name: float(np.mean(each)) for name, each in found.items() if each}
        return {"error": float(np.mean([e for each in found.values() for e in each])), **means}


def hide(name: str, data_dir: Path | None, mechanism: str, share: float, seed: int) -> HiddenCells:
    """Hide a share of the known cells of a table, without its labels; at most ``MOST_ROWS`` rows.

    - random: each cell with the same probability;
    - rank: half of the columns, drawn at random, stay as they are. In each other one the
      probability grows with the rank of the row in one of these (missing at random).

    Args:
        name: of the table.
        data_dir: folder of csv files.
        mechanism: a name of ``MECHANISMS``.
        share: of the cells, or of those of the columns that have any hidden.
        seed: of the draws.
    """
    frame = read_labelled(name, data_dir).x
    if len(frame) > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, random_state=0).reset_index(drop=True)
    raw = frame_of(frame)
    columns = tuple(report.column for report in infer_columns(raw) if report.column is not None)
    x, _ = encode(raw, columns)
    random, chance = np.random.default_rng(seed), np.full(x.shape, share)
    if mechanism == "rank":
        order = random.permutation(len(columns))
        fixed, others = np.array_split(order, 2)
        for place, driver in zip(others, np.resize(fixed, len(others)), strict=True):
            ranks = pd.Series(x[:, driver]).rank(pct=True).fillna(0.5).to_numpy()
            chance[:, place] = np.clip(2 * share * ranks, 0, 0.95)
        chance[:, fixed] = 0
    hidden = (random.random(x.shape) < chance) & ~np.isnan(x)
    for place in range(x.shape[1]):
        known = np.flatnonzero(~np.isnan(x[:, place]))
        if (~hidden[known, place]).sum() < FEWEST:
            hidden[known[:FEWEST], place] = False
        if len(np.unique(x[~hidden[:, place], place])) < 2:
            hidden[:, place] = False  # what is left of a nearly constant column is constant
    return HiddenCells(columns, x, hidden)


def filled_by(method: str, cells: HiddenCells, seed: int) -> NDArray[np.float64]:
    """Rows (N, D) filled by an imputer of scikit-learn.

    It gets standardized numbers, 0 and 1 for a binary column, and one number for each value of a
    category; the largest of these, or the nearest of 0 and 1, is the value.
    """
    seen = cells.seen
    blocks = [_block(seen[:, place], column) for place, column in enumerate(cells.columns)]
    z = np.concatenate(blocks, 1)
    mean, scale = np.nanmean(z, 0), np.nanstd(z, 0)
    scale[scale == 0] = 1
    options: dict[str, Any] = {"random_state": seed} if method == "iterative" else {}
    imputer = IMPUTERS[method](keep_empty_features=True, **options)
    z = imputer.fit_transform((z - mean) / scale) * scale + mean
    ends = np.cumsum([block.shape[1] for block in blocks])
    filled = [
        _values(part, column)
        for part, column in zip(np.split(z, ends[:-1], 1), cells.columns, strict=True)
    ]
    return np.where(np.isnan(seen), np.stack(filled, -1), seen)


def _block(values: NDArray[np.float64], column: Column) -> NDArray[np.float64]:
    if column.kind != "category":
        return values[:, None]
    each = (values[:, None] == np.arange(len(column.values))).astype(float)
    return np.where(np.isnan(values)[:, None], np.nan, each)


def _values(part: NDArray[np.float64], column: Column) -> NDArray[np.float64]:
    if column.kind == "category":
        return part.argmax(1).astype(float)
    return (part[:, 0] > 0.5).astype(float) if column.kind == "binary" else part[:, 0]


def as_frame(x: NDArray[np.float64], columns: Sequence[Column]) -> pd.DataFrame:
    """Rows (N, D) as a table: texts for codes."""
    frame = pd.DataFrame(x, columns=[column.name for column in columns])
    for column in columns:
        if column.is_discrete:
            texts = dict(enumerate(column.values))
            frame[column.name] = frame[column.name].map(texts)
    return frame
