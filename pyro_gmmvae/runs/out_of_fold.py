"""Scores of labelled rows that were held out: out-of-fold, or of the validation part."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write, require_file
from pyro_gmmvae.runs.data import TrainingData, some_of
from pyro_gmmvae.runs.folder import VALIDATION_SCORES

if TYPE_CHECKING:
    from pyro_gmmvae.runs.run import Run

PREFIX = "log_p_"
FIRST, LAST = ("row", "fold", "label"), "elbo"
MAX_ROWS = 1000  # of a validation part
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Scores of labelled rows, each by the model of the fold that was trained without the row.

    Validation rows are a single fold, scored by the run itself.

    Attributes:
        rows: (n,) the rows' numbers in the file; of windows those of their sequences.
        fold: (n,) the fold that left the row out, from 0.
        y: (n,) classes, as numbers of ``names``.
        log_probs: (n, K) log q(y|x) by the model of that fold.
        elbo: (n,) ELBO by the model of that fold, in nats; NaN for a model without a bound.
        names: the K names of the columns of ``log_probs``: classes, then further components.
    """

    rows: np.ndarray[Any, Any]
    fold: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]
    log_probs: np.ndarray[Any, Any]
    elbo: np.ndarray[Any, Any]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, run: "Run", data: TrainingData, rows: Any, fold: int = 0) -> "OutOfFold":
        """Scores of those of some rows that have a label.

        Args:
            run, data, rows: as for :func:`score_rows`; the run was not trained on these rows.
            fold: the number of the fold.
        """
        groups, rows = data.groups, rows[data.dataset.y[rows] >= 0]
        log_probs, elbo = score_rows(run, data, rows)
        numbers, _ = groups.among(rows)
        return cls(
            rows=numbers if groups.merges else data.dataset.row_numbers[numbers],
            fold=np.full(len(numbers), fold),
            y=groups.first(data.dataset.y[rows], rows),
            log_probs=log_probs,
            elbo=elbo,
            names=tuple(run.class_names()),
        )

    @classmethod
    def joined(cls, parts: "Sequence[OutOfFold]") -> "OutOfFold":
        """The scores of several folds."""
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("rows", "fold", "y", "log_probs", "elbo")
        }
        return cls(**arrays, names=parts[0].names)

    def save(self, path: Path) -> None:
        """Write a csv with the columns row, fold, label (its name), log_p_NAME of each, elbo.

        Raises:
            GMMVAEError: the disk is full or the place can't be written.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*FIRST, *(PREFIX + name for name in self.names), LAST])
        numbers = np.column_stack([self.log_probs, self.elbo]).astype(float).tolist()
        keys = zip(self.rows.tolist(), self.fold.tolist(), self.y.tolist(), strict=True)
        for (row, fold, y), values in zip(keys, numbers, strict=True):
            writer.writerow([row, fold, self.names[y], *values])
        atomic_write(path, text.getvalue().encode())

    @classmethod
    def load(cls, path: Path) -> "OutOfFold":
        """Read what :meth:`save` wrote.

        Raises:
            GMMVAEError: the file is missing, or damaged.
        """
        require_file(path)
        try:
            text = path.read_bytes().decode()  # line ends in names stay as they are
            lines = csv.reader(io.StringIO(text, newline=""))
            return cls._parsed(lines)
        except (ValueError, csv.Error, StopIteration, OSError) as error:
            reason = error if str(error) else "it ends early"
            raise GMMVAEError(f"{path} is damaged: {reason}; train again") from error

    @classmethod
    def _parsed(cls, lines: Iterator[list[str]]) -> "OutOfFold":
        header = next(lines)
        of_classes = header[len(FIRST) : -1]
        if (*header[: len(FIRST)], header[-1]) != (*FIRST, LAST) or not of_classes:
            raise ValueError(f"its first line is {','.join(header)[:80]!r}")
        names = tuple(name.removeprefix(PREFIX) for name in of_classes)
        number_of = {name: number for number, name in enumerate(names)}
        keys, values = [], []
        for number, line in enumerate(lines, 2):
            if len(line) != len(header) or line[2] not in number_of:
                raise ValueError(f"line {number} has no class of the first line")
            keys.append((int(line[0]), int(line[1]), number_of[line[2]]))
            values.append([float(value) for value in line[len(FIRST) :]])
        rows, fold, y = np.array(keys, np.int64).reshape(-1, 3).T
        numbers = np.array(values, float).reshape(len(keys), len(names) + 1)
        return cls(rows, fold, y, numbers[:, :-1], numbers[:, -1], names)


def score_rows(run: "Run", data: TrainingData, rows: Any) -> tuple[Array, Array]:
    """(n, K) log q(y|x) and (n,) ELBO (NaN without a bound) of rows or, pooled, of sequences.

    Args:
        run: a run with classes.
        data: the data set of the rows, in the units of this run.
        rows: their numbers in the data set.
    """
    log_probs = class_log_probs(run, data, rows)
    if not run.has_bound:
        return log_probs, np.full(len(log_probs), np.nan)
    x, _ = data.tensors(rows, run.device)
    return log_probs, data.groups.mean(run.elbo(x), rows)


def class_log_probs(run: "Run", data: TrainingData, rows: Any) -> Array:
    """The first of :func:`score_rows`."""
    log_probs = run.log_probs(data.tensors(rows, run.device)[0])
    assert log_probs is not None
    return data.groups.pool(log_probs, rows)


def save_validation_scores(run: "Run", data: TrainingData, out: Path) -> None:
    """Write scores of up to 1,000 validation rows, where the fit saw labels and some rows have one.

    Raises:
        GMMVAEError: the disk is full or the place can't be written.
    """
    rows = data.split.validation
    rows = rows[some_of(len(rows), MAX_ROWS)]
    if run.model.components and len(data.split.labelled) and (data.dataset.y[rows] >= 0).any():
        OutOfFold.of(run, data, rows).save(out / VALIDATION_SCORES)
