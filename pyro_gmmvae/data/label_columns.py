"""Columns of a table that are no part of x: labels, weights, and groups that stay together."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.row_labels import (
    checked_soft_labels,
    checked_weights,
    encode_labels,
    group_codes,
    soft_label_names,
)
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError


@dataclass(frozen=True)
class LabelColumns:
    """Labels, weights and groups of rows.

    Attributes:
        y, soft_labels, weights, together: as of a :class:`pyro_gmmvae.data.Dataset`, (N, ...).
        classes: the classes' names.
        soft_columns: names of the columns with soft labels.
        notes: lines a user should read.
    """

    y: Labels
    classes: tuple[str, ...] = ()
    soft_labels: NDArray[np.float64] | None = None
    weights: NDArray[np.float64] | None = None
    together: Labels | None = None
    soft_columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of_columns(
        cls,
        columns: Any,
        rows: int,
        path: Path,
        *,
        label: Any = None,
        soft: Iterable[str] = (),
        weight: str | None = None,
        group: str | None = None,
    ) -> "LabelColumns":
        """The labels, weights and groups of a file's columns.

        A label counts more than the soft label of the same row.

        Args:
            columns: mapping or frame of columns (N,) by name; text as objects or categoricals.
            rows: N.
            path: of the file, for messages.
            label: (N,) labels, as for :func:`encode_labels`; None: no labels.
            soft: names of columns, of which those named p_<class> hold soft labels (see
                :func:`soft_label_names`).
            weight, group: names of the columns with weights and groups.

        Raises:
            GMMVAEError: labels, probabilities or weights that can't be used.
        """
        y, classes = encode_labels(label, rows, path)
        made = cls(y, classes)
        if soft:
            made = made._with_soft_labels(columns, soft, path)
        if weight is not None:
            made = made._with_weights(columns[weight], weight, path)
        if group is not None:
            together = group_codes(np.asarray(columns[group], object))
            number = len(np.unique(together))
            note = f"{number} groups ({group}) stay on one side of each split"
            made = replace(made, together=together, notes=(*made.notes, note))
        return made

    def _with_soft_labels(self, columns: Any, soft: Iterable[str], path: Path) -> "LabelColumns":
        names = soft_label_names(tuple(soft), self.classes)
        if not names:
            return self
        for name in names:
            if np.asarray(columns[name]).dtype.kind not in "biuf":
                raise GMMVAEError(f"{path}: column {name!r} must hold probabilities, and has text")
        p = np.stack([np.asarray(columns[name], np.float64) for name in names], 1)
        try:
            found, pi = checked_soft_labels(p, str(path))
        except GMMVAEError as error:
            raise GMMVAEError(
                f"{error}; where p_<class> are measurements, give each a kind, such as --column "
                f"{next(iter(names))}=real"
            ) from error
        classes = tuple(names.values())
        place = np.array([*(classes.index(name) for name in self.classes), -1], np.int64)
        y = np.where(self.y >= 0, place[self.y], found)
        if pi is not None:
            pi[self.y >= 0] = np.nan
        number = 0 if pi is None else int((~np.isnan(pi).all(1)).sum())
        note = f"soft labels of {number} rows ({', '.join([*names][:5])})"
        notes, used = (*self.notes, note), tuple(names)
        return replace(self, y=y, classes=classes, soft_labels=pi, soft_columns=used, notes=notes)

    def _with_weights(self, values: Any, name: str, path: Path) -> "LabelColumns":
        weights = checked_weights(values, len(self.y), f"{path}, weights of column {name!r}")
        note = f"rows are drawn by their weights ({name})"
        if weights is None:
            note = f"the weights ({name}) are all equal"
        elif not weights.all():
            note += f", {int((weights == 0).sum())} of weight 0 never"
        return replace(self, weights=weights, notes=(*self.notes, note))

    def at(self, rows: Labels) -> "LabelColumns":
        """Those of some rows."""
        beside: dict[str, Any] = {k: v if v is None else v[rows] for k, v in self.beside.items()}
        return replace(self, y=self.y[rows], **beside)

    @property
    def beside(self) -> dict[str, Any]:
        """The fields of a data set beside y and classes."""
        return {
            "soft_labels": self.soft_labels,
            "weights": self.weights,
            "together": self.together,
        }
