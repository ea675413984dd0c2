"""Out-of-fold scores: each labelled row by a model that was trained without it."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import atomic_write, require_file

PREFIX = "log_p_"
FIRST, LAST = ("row", "fold", "label"), "elbo"


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Scores of labelled rows, each by the model of the fold that was trained without the row.

    Attributes:
        rows: (n,) the rows' numbers in the file.
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
