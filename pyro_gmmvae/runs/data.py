"""Data that is ready to fit: rows in the model's units, their parts and their labels."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.config import Config
from pyro_gmmvae.data import (
    DataOptions,
    Dataset,
    RowGroups,
    RowKind,
    Sequences,
    Shards,
    Split,
    StreamedRows,
    Transform,
)
from pyro_gmmvae.data.column_table import ColumnTable
from pyro_gmmvae.data.row_values import in_model_units
from pyro_gmmvae.data.splits import hold_out_fold, number_of_folds
from pyro_gmmvae.data.transform import Floats, Labels
from pyro_gmmvae.datasets import IN_MEMORY, load_data
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs.folder import read_config
from pyro_gmmvae.runs.schema import Schema
from pyro_gmmvae.skeletons import PoseWindow

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# configuration keys that only windows of poses have
POSE_KEYS = frozenset(PoseWindow.own_keys())
# with fewer labels in a table all of them are trained on, and cross-validated
LABELS_TO_SPARE, FOLDS = 1000, 5


@dataclass(frozen=True)
class TrainingData:
    """Data that is ready to fit: rows in the model's units, their parts and their labels.

    Attributes:
        dataset: the rows as they are in the file.
        split: the row numbers of each part.
        schema: the facts that a run keeps about the data.
        dtype: of the rows as tensors.
        training_rows: numbers of the rows that a fit sees; it sees the labels of
            ``split.labelled`` only.
        factors: names of the further classes that the model has latents for.
        taught: (training rows,) classes by a teacher, which are pseudo-labels from the start, -1
            where it gives none; None: there is no teacher.
        teacher_seconds: the time that the teacher took, which is part of a fit's budget.
    """

    dataset: Dataset
    split: Split
    schema: Schema
    dtype: "torch.dtype"
    training_rows: Labels
    factors: tuple[str, ...] = ()
    taught: Labels | None = None
    teacher_seconds: float = 0.0

    @classmethod
    def from_config(
        cls, config: Config, schema: Schema | None = None, dataset: Dataset | None = None
    ) -> "TrainingData":
        """Load and split the data that ``config`` names.

        Args:
            config: the run's configuration.
            schema: of a run that exists; the data must still be what it was trained on.
            dataset: the data, where it was loaded before.

        Raises:
            GMMVAEError: data that can't be used, or that changed.
        """
        if config.label_column in config.covariates:
            raise GMMVAEError(
                f"covariates {config.label_column}: it is the label column; leave it out, or name "
                "another one with --label-column"
            )
        dataset = dataset or _loaded(config, schema)
        config = _with_parts(config, dataset)
        if config.labels and not dataset.classes:
            where = (
                "no person is named (name people with --labels-file"
                if dataset.groups.merges
                else f"no column or array {config.label_column!r} (name it with --label-column"
            )
            raise GMMVAEError(f"{config.data} has no labels: {where}, or give --labels 0)")
        split = dataset.groups.split(
            dataset.drawn_labels,
            classes=len(dataset.classes),
            labels=config.labels,
            test=config.test if dataset.test is None else dataset.test,
            validation=config.validation if dataset.validation is None else dataset.validation,
            split_seed=config.split_seed,
            label_seed=config.seed if config.label_seed is None else config.label_seed,
            together=dataset.together,
        )
        if dataset.left_out is not None:
            split = split.leaving_out(dataset.left_out, to_test=dataset.groups.merges)
        if config.fold is not None:
            folds = number_of_folds(dataset.y[split.labelled], config.cv or FOLDS)
            split = hold_out_fold(
                split, dataset.y, folds, config.fold, config.split_seed, dataset.together
            )
        return cls.from_arrays(config, dataset, split, schema)

    @classmethod
    def from_arrays(
        cls,
        config: Config,
        dataset: Dataset,
        split: Split,
        schema: Schema | None = None,
        transform: Transform | None = None,
    ) -> "TrainingData":
        """Rows in memory, ready to fit.

        Args:
            config: the run's configuration.
            dataset: the rows.
            split: the row numbers of each part.
            schema: of a run that exists; the data must still be what it was trained on.
            transform: to the model's units; None: what suits the data, fitted on the training
                rows.

        Raises:
            GMMVAEError: nothing to fit, or data that changed.
        """
        source = "X" if config.data == IN_MEMORY else config.data
        start = None
        if config.init_run is not None:
            start = schema or read_config(config.init_run)[1]
            dataset = start.of_further_rows(dataset, source)
        if dataset.weights is not None:
            split = split.without(dataset.never_drawn)
        if config.covariates and not dataset.kind.specs:
            raise GMMVAEError(
                f"covariates {', '.join(config.covariates)}: they are columns of a table, and the "
                f"rows of {config.data} are {dataset.kind.plural}; leave covariates out"
            )
        training_rows = _training_rows(split, config)
        if not len(split.train):
            raise GMMVAEError("no training rows: all rows are test or validation rows")
        if not len(training_rows):
            raise GMMVAEError("use_unlabelled=false leaves nothing to fit: no row has a label")
        fingerprint = _fingerprint(dataset)
        if schema is None:
            if start is not None:
                kind, transform = start.kind, start.transform
            else:
                kind, transform = in_model_units(dataset, config, training_rows, transform, source)
            schema = Schema(
                kind=kind,
                classes=dataset.classes,
                transform=transform,
                fingerprint=fingerprint,
                factors=tuple((factor.name, factor.classes) for factor in dataset.factors),
            )
        elif schema.fingerprint != fingerprint:
            raise GMMVAEError(
                f"{config.data} is not the data this run was trained on: it has changed"
            )
        factors = tuple(text.partition("=")[0] for text in getattr(config, "factors", ()))
        return cls(dataset, split, schema, dtype_of(config.precision), training_rows, factors)

    @property
    def kind(self) -> RowKind:
        """The kind of the rows."""
        return self.schema.kind

    def folds(self, config: Config) -> int:
        """The number of folds of the cross-validation that a configuration asks for; 0: none."""
        asked = 0 if config.fold is not None else config.cv
        if asked is None:
            few = isinstance(self.kind, ColumnTable) and not len(self.split.test)
            asked = FOLDS if few and _has_classes(config) else 0
        if asked and not _has_classes(config):
            raise GMMVAEError(
                f"cv is a cross-validation of the class, and the model {config.model!r} has none; "
                "leave cv out"
            )
        return number_of_folds(self.dataset.y[self.split.labelled], asked)

    @property
    def groups(self) -> RowGroups:
        """Rows that are evaluated together."""
        return self.dataset.groups

    @property
    def unknown(self) -> Labels:
        """Numbers of the rows of a class that was left out, or of unknown people in the test."""
        if isinstance(self.groups, Sequences):
            test = self.split.test
            return test[self.groups.unknown_person[self.groups.of_row[test]] >= 0]
        return np.arange(0) if self.dataset.left_out is None else self.dataset.left_out

    def factor_labels(self, name: str, rows: Labels) -> Labels:
        """Classes of a further factor, of some rows; -1 where unknown."""
        of_name = {factor.name: factor.y for factor in self.dataset.factors}
        return of_name[name][rows] if name in of_name else np.full(len(rows), -1, np.int64)

    def describe(self) -> str:
        """One line on the data that was read, so that a label mistaken for a feature is seen."""
        split, groups, kind, binary = self.split, self.groups, self.kind, self._binary()
        shape = "x".join(str(n) for n in kind.x_shape)
        parts = (split.train, split.labelled, split.validation, split.test)
        train, labelled, validation, test = map(groups.count, parts)
        line = (
            f"{groups.describe(shape)}, {len(self.schema.classes) or 'no'} classes; "
            f"{train} train ({labelled} labelled), {validation} validation, {test} test"
        )
        notes = (*groups.notes(split), *self.dataset.notes)
        return "; ".join((line, *notes, f"likelihood {kind.likelihood}", *binary))

    def _binary(self) -> tuple[str, ...]:
        """A note on rows that are made binary."""
        how = self.schema.transform.binarize
        words = {"threshold": "binarized by threshold", "dynamic": "binarized in each batch"}
        return () if how is None else (words[how],)

    def validation_rows(self, most: int) -> Labels:
        """Up to ``most`` validation rows, always the same; training rows if there are none."""
        rows = self.split.validation if len(self.split.validation) else self.split.train
        return rows[some_of(len(rows), most)]

    def tensors(
        self, rows: Labels, device: "torch.device | str" = "cpu"
    ) -> "tuple[Tensor, Tensor]":
        """x (n, *x_shape) in the model's units and true y (n,) of some rows, on a device."""
        import torch

        x = torch.from_numpy(self.schema.featurize(self.dataset.x[rows]))
        x = x.to(device, self.dtype)
        return x, torch.from_numpy(self.dataset.y[rows]).to(device)

    def points(self, rows: Labels) -> Floats:
        """(n, features) finite numbers of some rows, for methods that compare distances.

        Columns of a table enter as a network takes them, standardized and without the mask; of
        other rows a missing entry is 0.
        """
        x = self.tensors(rows)[0].float()
        if not self.kind.specs:
            return x.flatten(1).nan_to_num().numpy()
        from pyro_gmmvae.networks.columns import ColumnInputs

        inputs = ColumnInputs(self.kind.specs).eval()(x)[:, : -len(self.kind.specs)]
        return ((inputs - inputs.mean(0)) / inputs.std(0).clamp_min(1e-6)).numpy()

    def _training_rows_on(self, device: "torch.device") -> "Tensor":
        """x of the training rows, not yet drawn where each batch draws them."""
        import torch

        kind, transform = self.kind, self.schema.transform.before_draws
        if kind.specs:
            x = torch.from_numpy(transform.of_rows(self.dataset.x, self.training_rows))
        else:
            rows = kind.featurize_array(self.dataset.x[self.training_rows])
            x = torch.from_numpy(transform(rows))
        return x.to(device, self.dtype)

    def soft_labels(self) -> tuple[Labels, NDArray[np.float64]]:
        """Places among the training rows of those with a soft label that the fit sees, and (R, C).

        The second are the distributions over classes.
        """
        soft = self.dataset.soft_labels
        if soft is None:
            return np.arange(0), np.empty((0, len(self.schema.classes)))
        seen = np.isin(self.training_rows, self.split.labelled)
        places = np.flatnonzero(seen & ~np.isnan(soft[self.training_rows]).all(1))
        return places, soft[self.training_rows[places]]

    @property
    def training_weights(self) -> "Tensor | None":
        """(n,) weights of the training rows; None: all are equal."""
        import torch

        if self.dataset.weights is None:
            return None
        weights = self.dataset.weights[self.training_rows]
        return None if (weights == weights[0]).all() else torch.from_numpy(weights)

    @property
    def labels(self) -> int:
        """The number of labels that the fit sees: one per row, or per sequence of windows."""
        return self.groups.count(self.split.labelled)

    def training_tensors(self, device: "torch.device") -> "tuple[Tensor | StreamedRows, Tensor]":
        """x of the training rows in the model's units, and the labels that the fit sees.

        Shards stay on disk: their rows are read when a batch asks for them. Rows that each batch
        draws anew (``binarize=dynamic``) are not drawn yet.
        """
        numbers, x, y = self.training_rows, self.dataset.x, self.visible_labels(device)
        if isinstance(x, Shards):
            transform = self.schema.transform.before_draws
            return StreamedRows(x, numbers, transform, device, self.dtype), y
        return self._training_rows_on(device), y

    def raw_training_tensors(self, device: "torch.device") -> "tuple[Tensor, Tensor]":
        """:meth:`training_tensors` before rows are featurized, in the file's units."""
        import torch

        x = torch.from_numpy(self.dataset.x[self.training_rows])
        return x.to(device, self.dtype), self.visible_labels(device)

    def visible_labels(self, device: "torch.device | str" = "cpu") -> "Tensor":
        """(n,) labels of the training rows, -1 where the fit does not see them.

        With further factors (n, 1 + factors), the class first.
        """
        import torch

        numbers = self.training_rows
        hidden = np.isin(numbers, self.split.labelled, invert=True)
        y = np.where(hidden, -1, self.dataset.y[numbers])
        if self.taught is not None:
            y = np.where((y < 0) & (self.taught >= 0), -2 - self.taught, y)
        # test rows that are fitted too show nothing
        train = np.isin(numbers, self.split.train)
        columns = [np.where(train, self.factor_labels(f, numbers), -1) for f in self.factors]
        return torch.from_numpy(np.stack([y, *columns], -1) if columns else y).to(device)


def _loaded(config: Config, schema: Schema | None) -> Dataset:
    options, kind = data_options(config), None
    if config.init_run is not None:  # columns, kinds and units are those of that run
        kind = (schema or read_config(config.init_run)[1]).kind
        options = replace(options, column=(), covariates=())
    dataset = load_data(config.data, options, kind)
    return dataset if config.leave_out is None else dataset.leaving_out(config.leave_out)


def _with_parts(config: Config, dataset: Dataset) -> Config:
    """The configuration without test and validation rows, where a table has few labels.

    A part that was asked for stays.
    """
    labels = int((dataset.y >= 0).sum())
    if not isinstance(dataset.kind, ColumnTable) or not 0 < labels < LABELS_TO_SPARE:
        return config
    if not _has_classes(config):
        return config
    parts = {"test", "validation"} - config.given
    return config.with_defaults(**dict.fromkeys(parts, 0)) if config.labels != 0 else config


def _has_classes(config: Config) -> bool:
    return "components" in config.shared_parameters


def _training_rows(split: Split, config: Config) -> Labels:
    """Numbers of the rows to fit: the training rows, those with a label, or test rows too."""
    rows = split.train if config.use_unlabelled else split.labelled
    return np.union1d(rows, split.test) if config.transductive else rows


def dtype_of(precision: str) -> "torch.dtype":
    """The type of parameters and rows; bf16 rounds the operands of matrix products."""
    import torch

    return torch.float64 if precision == "f64" else torch.get_default_dtype()


def data_options(config: Config) -> DataOptions:
    """The options of a config that concern loaders of data."""
    keys = DataOptions.__dataclass_fields__.keys() - {"pose_window"}
    values = config.model_dump(include=set(keys))
    for key in ("data_dir", "tracks", "labels_file"):
        values[key] = None if values[key] is None else Path(values[key])
    pose_window = config.model_dump(include=set(POSE_KEYS))
    return DataOptions(**values, pose_window=pose_window)


def some_of(rows: int, most: int) -> Labels:
    """Up to ``most`` row numbers below ``rows`` (0: all), the same ones each time."""
    if most == 0 or rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def _fingerprint(dataset: Dataset) -> str:
    x = dataset.x
    digest = hashlib.sha256(f"{x.dtype}{x.shape}{dataset.classes}".encode())
    # of shards some rows must do: reading all would take as long as an epoch
    content = np.ascontiguousarray(x.sample() if isinstance(x, Shards) else x)
    digest.update(content.data.cast("B"))  # without a copy
    digest.update(np.ascontiguousarray(dataset.y).tobytes())
    for values in (dataset.soft_labels, dataset.weights, dataset.together):
        if values is not None:
            digest.update(np.ascontiguousarray(values).tobytes())
    if dataset.groups.merges:  # parts and further classes are given, and may change
        others = [dataset.groups.of_row, dataset.test, dataset.validation]
        for rows in (*others, *(factor.y for factor in dataset.factors)):
            digest.update(b"-" if rows is None else rows.tobytes() + b"+")
    return digest.hexdigest()
