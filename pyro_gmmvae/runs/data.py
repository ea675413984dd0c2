"""Data ready to fit: rows in the model's units, and who is in which part."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.config import Config
from pyro_gmmvae.data import (
    Dataset,
    Shards,
    Split,
    StreamedRows,
    Transform,
    split_rows,
    split_sequences,
)
from pyro_gmmvae.data.dataset import Labels
from pyro_gmmvae.datasets import load_data
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs.schema import Schema
from pyro_gmmvae.skeletons import DataOptions
from pyro_gmmvae.training import dtype_of


@dataclass(frozen=True)
class Rows:
    """Data ready to fit: rows in the model's units, labels, and who is in which part.

    ``fitted`` are the rows that a fit sees, of which it knows the labels of ``split.labelled``
    alone; ``factors`` are the names of further classes that the model has latents for.
    """

    dataset: Dataset
    split: Split
    schema: Schema
    dtype: torch.dtype
    fitted: Labels
    factors: tuple[str, ...] = ()

    def factor_labels(self, name: str, rows: Labels) -> Labels:
        """Classes of a further factor, of some rows; -1 where unknown."""
        found = {factor.name: factor.y for factor in self.dataset.factors}
        return found[name][rows] if name in found else np.full(len(rows), -1, np.int64)

    def describe(self) -> str:
        """One line on what was read, so that a label mistaken for a feature is seen."""
        split, shape = self.split, "x".join(str(n) for n in self.schema.x_shape)
        classes = len(self.schema.classes)
        if self.dataset.sequences is not None:
            return self._describe_sequences()
        return (
            f"{len(self.dataset.x)} rows of {shape}, {classes or 'no'} classes; "
            f"{len(split.train)} train ({len(split.labelled)} labelled), "
            f"{len(split.validation)} validation, {len(split.test)} test"
        )

    def _describe_sequences(self) -> str:
        """The same in sequences, with what a user should know of them."""
        sequences, split, data = self.dataset.sequences, self.split, self.dataset
        assert sequences is not None
        shape = "x".join(str(n) for n in self.schema.x_shape)
        parts = (split.train, split.labelled, split.validation, split.test)
        train, labelled, validation, test = (
            len(np.unique(sequences.of_row[rows])) for rows in parts
        )
        line = (
            f"{len(sequences.names)} sequences in {len(data.x)} windows of {shape}, "
            f"{len(data.classes) or 'no'} classes; {train} train ({labelled} labelled), "
            f"{validation} validation, {test} test"
        )
        strangers = len(sequences.unseen_names)
        line += f"; {strangers} persons in test are no class" if strangers else ""
        both = sequences.shared_frames(sequences.of_row[split.train], sequences.of_row[split.test])
        line += f"; {both} frames stand in both training and test sequences" if both else ""
        return "; ".join((line, *data.notes))

    def watched(self, most: int) -> Labels:
        """Up to ``most`` validation rows (training rows where there are none), always the same."""
        rows = self.split.validation if len(self.split.validation) else self.split.train
        return rows[some_of(len(rows), most)]

    def part(self, rows: Labels, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """x and true y of some rows, on a device."""
        x = torch.from_numpy(self.schema.described(self.dataset.x[rows]))
        x = x.to(device, self.dtype)
        return x, torch.from_numpy(self.dataset.y[rows]).to(device)

    @property
    def labels(self) -> int:
        """How many labels the fit sees: one per row, or per sequence where rows are parts."""
        sequences, labelled = self.dataset.sequences, self.split.labelled
        return len(labelled if sequences is None else np.unique(sequences.of_row[labelled]))

    def training(
        self, device: torch.device, *, described: bool = True
    ) -> tuple[Tensor | StreamedRows, Tensor]:
        """x and y of the training rows, y = -1 where the label is not shown.

        Shards stay on disk: their rows are read as batches ask for them. Without ``described``
        skeletons stay windows of poses, which augmentation changes.
        """
        numbers, x = self.fitted, self.dataset.x
        hidden = np.isin(numbers, self.split.labelled, invert=True)
        known = np.where(hidden, -1, self.dataset.y[numbers])
        # of test rows that are fitted too, nothing is shown
        train = np.isin(numbers, self.split.train)
        columns = [np.where(train, self.factor_labels(f, numbers), -1) for f in self.factors]
        y = torch.from_numpy(np.stack([known, *columns], -1) if columns else known).to(device)
        if not described:
            return torch.from_numpy(x[numbers]).to(device, self.dtype), y
        if isinstance(x, Shards):
            return StreamedRows(x, numbers, self.schema.transform, device, self.dtype), y
        return self.part(numbers, device)[0], y


def load_rows(config: Config, schema: Schema | None = None) -> Rows:
    """Load and split what ``config`` names.

    Args:
        config: the run's configuration.
        schema: of a run that exists; the data must still be what it was trained on.

    Raises:
        GMMVAEError: data that can't be used, or that changed.
    """
    dataset = load_data(config.data, data_options(config))
    if config.labels and not dataset.classes:
        where = (
            f"no column or array {config.label_column!r} (name it with --label-column, or"
            if dataset.sequences is None
            else "no person is named (name them with --labels-file, or"
        )
        raise GMMVAEError(f"{config.data} has no labels: {where} give --labels 0)")
    return make_rows(config, dataset, _split(dataset, config), schema)


def make_rows(
    config: Config,
    dataset: Dataset,
    split: Split,
    schema: Schema | None = None,
    transform: Transform | None = None,
) -> Rows:
    """Rows that were read, ready to fit.

    Args:
        config: the run's configuration.
        dataset: the rows.
        split: who is in which part.
        schema: of a run that exists; the data must still be what it was trained on.
        transform: to the model's units; None: what suits the data, fitted on the fitted rows.

    Raises:
        GMMVAEError: nothing to fit, rows that the likelihood can't take, or data that changed.
    """
    fitted = _fitted(split, config)
    if not len(split.train):
        raise GMMVAEError("no training rows: all are test or validation ones")
    if not len(fitted):
        raise GMMVAEError("use_unlabelled=false leaves nothing to fit: no row has a label")
    fingerprint = _fingerprint(dataset)
    if schema is None:
        schema = Schema(
            x_shape=dataset.x_shape,
            classes=dataset.classes,
            columns=dataset.columns,
            likelihood=config.likelihood or dataset.likelihood,
            transform=transform or dataset.fit_transform_on(fitted),
            fingerprint=fingerprint,
            missing=dataset.features is not None,
            features=dataset.features,
            dimensions=None if dataset.features is None else dataset.x.shape[-1],
            factors=tuple((factor.name, factor.classes) for factor in dataset.factors),
        )
    elif schema.fingerprint != fingerprint:
        raise GMMVAEError(f"{config.data} is not the data this run was trained on: it has changed")
    factors = tuple(text.partition("=")[0] for text in config.factors)
    dtype = dtype_of(config.precision)
    rows = Rows(dataset, split, schema, dtype, fitted, factors)
    schema.in_range(schema.described(dataset.x[rows.watched(1000)]), config.data)
    return rows


def _split(dataset: Dataset, config: Config) -> Split:
    sizes: dict[str, Any] = {
        "classes": len(dataset.classes),
        "labels": config.labels,
        "test": config.test if dataset.test is None else dataset.test,
        "validation": config.validation if dataset.validation is None else dataset.validation,
        "split_seed": config.split_seed,
        "label_seed": config.seed if config.label_seed is None else config.label_seed,
    }
    if dataset.sequences is not None:
        return split_sequences(dataset.y, dataset.sequences, **sizes)
    return split_rows(dataset.y, **sizes)


def _fitted(split: Split, config: Config) -> Labels:
    """Numbers of the rows to fit: the training ones, those with a label, or the test ones too."""
    rows = split.train if config.use_unlabelled else split.labelled
    return np.union1d(rows, split.test) if config.transductive else rows


def data_options(config: Config) -> DataOptions:
    """What a config tells loaders of data."""
    given = config.model_dump(include=set(DataOptions.__dataclass_fields__))
    for key in ("data_dir", "tracks", "labels_file"):
        given[key] = None if given[key] is None else Path(given[key])
    return DataOptions(**given)


def some_of(rows: int, most: int) -> Labels:
    """Up to ``most`` row numbers below ``rows`` (0: all), the same ones each time."""
    if most == 0 or rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def _fingerprint(dataset: Dataset) -> str:
    x = dataset.x
    digest = hashlib.sha256(f"{x.dtype}{x.shape}{dataset.classes}".encode())
    # of shards some rows must do: reading all would take as long as an epoch
    digest.update(np.ascontiguousarray(x.sample() if isinstance(x, Shards) else x).tobytes())
    digest.update(np.ascontiguousarray(dataset.y).tobytes())
    if dataset.sequences is not None:  # parts and further classes are given, and may change
        others = [dataset.sequences.of_row, dataset.test, dataset.validation]
        for rows in (*others, *(factor.y for factor in dataset.factors)):
            digest.update(b"-" if rows is None else rows.tobytes() + b"+")
    return digest.hexdigest()
