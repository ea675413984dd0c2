"""The rows of a data source: values, labels, kind and given parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.kinds import Image, RowKind, Table
from pyro_gmmvae.data.row_groups import RowGroups, Sequences
from pyro_gmmvae.data.transform import Labels, Moments, Transform
from pyro_gmmvae.errors import GMMVAEError, unknown_name

DEFAULT_LABEL = "label"


@dataclass(frozen=True)
class Factor:
    """A further class of each row, beside y.

    Attributes:
        name: of the factor (view, action, ...).
        classes: the classes' names.
        y: (N,) class numbers, -1 where unknown.
    """

    name: str
    classes: tuple[str, ...]
    y: Labels


@dataclass(frozen=True)
class Dataset:
    """Rows as they are in the file, before splits and transforms.

    Attributes:
        x: (N, ...), in the file's units; an array, or shards to be indexed like one.
        y: (N,) int64 in 0..len(classes)-1, -1 where no label is known.
        classes: the classes' names, in the order of y.
        kind: of the rows.
        unit: the largest value that the rows of a named set can hold (x / unit is in [0, 1]);
            None: not known, see :mod:`pyro_gmmvae.data.value_range`.
        test: row numbers of a published test set, or None to draw one.
        kept: where rows were left out, the numbers in the file of those that stay.
        validation: row numbers of given validation rows, or None to draw them.
        sequences: the sequences of which the rows are windows; None: rows are independent.
        factors: further classes of each row.
        notes: lines a user should read.
        soft_labels: (N, classes) the distribution of a row's class where its label is soft, and y
            the most probable one; NaN in other rows. None: no row has one.
        weights: (N,) of the rows, in proportion to which a fit draws them; None: all are equal.
        together: (N,) numbers of groups of rows that are on one side of each split, such as those
            of one patient; None: each row by itself.
        left_out: numbers of the rows of a class that was left out; they are in no part.
    """

    x: Any
    y: Labels
    classes: tuple[str, ...]
    kind: RowKind
    unit: float | None = None
    test: Labels | None = None
    kept: Labels | None = None
    validation: Labels | None = None
    sequences: Sequences | None = None
    factors: tuple[Factor, ...] = ()
    notes: tuple[str, ...] = ()
    soft_labels: NDArray[np.float64] | None = None
    weights: NDArray[np.float64] | None = None
    together: Labels | None = None
    left_out: Labels | None = None

    @classmethod
    def of_arrays(
        cls,
        x: Any,
        y: Labels,
        classes: Sequence[str],
        *,
        columns: Sequence[str] | None = None,
        unit: float | None = None,
        likelihood: str | None = None,
        test: Labels | None = None,
        kept: Labels | None = None,
        missing: bool = False,
    ) -> "Dataset":
        """Images (N, channels, height, width), or rows of plain numbers (N, D).

        Args:
            x: the rows.
            y: (N,) class numbers, -1 where unknown.
            classes: their names.
            columns: names of the D entries.
            unit: the largest value that pixels can have, or None where it is not known.
            likelihood: the one that suits the rows; None: Bernoulli where the unit is known, else
                Normal.
            test: row numbers of a published test set.
            kept: numbers in the file of the rows that stay, where some were left out.
            missing: whether rows hold NaN, for entries that are not known.
        """
        shape = tuple(x.shape[1:])
        likelihood = likelihood or ("normal" if unit is None else "bernoulli")
        kind = (Image if len(shape) == 3 else Table)(
            shape, likelihood, None if columns is None else tuple(columns), missing
        )
        return cls(x, y, tuple(classes), kind, unit, test=test, kept=kept)

    def leaving_out(self, name: str) -> "Dataset":
        """The same rows, without a class: its rows have no label, and are ``left_out``.

        Left-out sequences are of an unknown person.

        Raises:
            GMMVAEError: not the name of a class, or that of the only one.
        """
        if name not in self.classes:
            raise unknown_name("class", name, list(self.classes))
        if len(self.classes) == 1:
            raise GMMVAEError(f"the class {name!r} can't be left out: it is the only one")
        number = self.classes.index(name)
        rows = np.flatnonzero(self.y == number)
        y = np.where(self.y == number, -1, self.y - (self.y > number))
        soft = self.soft_labels
        if soft is not None:
            soft = np.delete(soft, number, axis=1)
            with np.errstate(invalid="ignore"):  # a row of the left-out class alone
                soft = soft / soft.sum(1, keepdims=True)
            soft[rows] = np.nan
        return replace(
            self,
            y=y,
            classes=tuple(one for one in self.classes if one != name),
            soft_labels=soft,
            sequences=None if self.sequences is None else self.sequences.with_unknown(name, rows),
            left_out=rows,
            notes=(*self.notes, f"{len(rows)} rows of the class {name!r} are left out"),
        )

    @cached_property
    def groups(self) -> RowGroups:
        """Rows that are evaluated together: the windows of a sequence, or each by itself."""
        return self.sequences or RowGroups.of_single_rows(self.row_numbers)

    @property
    def drawn_labels(self) -> Labels:
        """(N,) y, with -1 for rows of weight 0, whose labels no fit sees."""
        return self.y if self.weights is None else np.where(self.weights > 0, self.y, -1)

    @property
    def never_drawn(self) -> Labels:
        """Row numbers of weight 0."""
        return np.arange(0) if self.weights is None else np.flatnonzero(self.weights == 0)

    @property
    def row_numbers(self) -> Labels:
        """(N,) the rows' numbers in the file, from 0."""
        return np.arange(len(self.x)) if self.kept is None else self.kept

    def fit_transform_on(self, rows: Labels) -> Transform:
        """Zero mean and unit variance of each entry, or of a channel of images, over some rows."""
        kind = self.kind
        if isinstance(self.x, np.ndarray):
            moments = Moments.of(kind.featurize_array(self.x[rows]))
        else:
            moments = self.x.moments(rows)
        moments = moments.of_channels() if isinstance(kind, Image) else moments
        return Transform.of_moments(moments, kind.limit, kind.rounding)


@dataclass(frozen=True)
class DataOptions:
    """Options of loaders: paths, columns and joints; each loader uses those that concern it.

    Attributes:
        data_dir: folder of a named set's files.
        label_column: of files and shards.
        weight_column, group_column: of files: weights of rows, and groups that stay together.
        column: kinds of columns of tables, "NAME=KIND".
        covariates: names of columns of tables that are given, and are no part of x.
        likelihood: of the rows of tables; None or "columns": one for each column.
        missing: of NaN in files: "model" (not known), or "refuse".
        drop_nonfinite: leave out rows of files that hold NaN or infinities.
        tracks: file of tracks (``data="skeleton"``); see ``read_tracks``.
        labels_file: CSV of people and splits, see ``people.read_people``.
        layout: name or TOML file of the joints.
        protocol: which sequences of a named skeleton set are trained on, and which are tested.
        shapes_rows, shapes_size: of ``data="shapes"``; see ``load_shapes``.
        pose_window: keyword arguments of :class:`pyro_gmmvae.skeletons.PoseWindow`.
    """

    data_dir: Path | None = None
    label_column: str = DEFAULT_LABEL
    weight_column: str | None = None
    group_column: str | None = None
    column: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    likelihood: str | None = None
    missing: str = "model"
    drop_nonfinite: bool = False
    tracks: Path | None = None
    labels_file: Path | None = None
    layout: str | None = None
    protocol: str | None = None
    shapes_rows: int = 10_000
    shapes_size: int = 32
    pose_window: Mapping[str, Any] = field(default_factory=dict)
