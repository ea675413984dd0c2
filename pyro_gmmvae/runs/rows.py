"""Data ready to fit, and what a run remembers of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.config import Config
from pyro_gmmvae.data import Dataset, Shards, Split, StreamedRows, Transform, load_data, split_rows
from pyro_gmmvae.data.dataset import Floats, Labels
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.inference import dtype_of


@dataclass(frozen=True)
class Schema:
    """What a run must remember of the data it was trained on.

    Attributes:
        x_shape: shape of one observation.
        classes: names of the classes, in the order of the model's components.
        columns: names of the features of a table, or None.
        likelihood: the likelihood that suits the rows.
        transform: from the file's units to the model's.
        fingerprint: of rows and labels, to notice that the data changed.
    """

    x_shape: tuple[int, ...]
    classes: tuple[str, ...]
    columns: tuple[str, ...] | None
    likelihood: str
    transform: Transform
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "transform": self.transform.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Schema":
        columns, shape = content["columns"], content["x_shape"]
        transform = Transform.from_json(content["transform"])
        if not all(isinstance(n, int) and n > 0 for n in shape):
            raise ValueError(f"x_shape {shape!r}")
        for values in (transform.shift, transform.scale):
            np.broadcast_to(values, shape)
        if not (np.isfinite(transform.shift).all() and (transform.scale > 0).all()):
            raise ValueError("transform out of range")
        return cls(
            x_shape=tuple(content["x_shape"]),
            classes=tuple(content["classes"]),
            columns=None if columns is None else tuple(columns),
            likelihood=content["likelihood"],
            transform=transform,
            fingerprint=content["fingerprint"],
        )

    def rows_for_model(self, dataset: Dataset, source: str) -> Floats:
        """A file's rows in the model's units, columns matched by name.

        Raises:
            GMMVAEError: if they are not the rows this run was trained on in kind.
        """
        x, columns = dataset.x, dataset.columns
        if self.columns is not None and columns is not None:
            missing = [name for name in self.columns if name not in columns]
            if missing:
                raise GMMVAEError(f"{source} lacks the columns {', '.join(missing[:5])}")
            x = x[:, [columns.index(name) for name in self.columns]]
        if int(np.prod(x.shape[1:])) == int(np.prod(self.x_shape)) and (
            x.ndim == 2 or len(self.x_shape) == 1
        ):
            x = x.reshape(-1, *self.x_shape)
        if x.shape[1:] != self.x_shape:
            raise GMMVAEError(
                f"{source} holds rows of shape {x.shape[1:]}; the model was trained on "
                f"{self.x_shape}"
            )
        return self.in_range(self.transform(x), source)

    def in_range(self, x: Floats, source: str) -> Floats:
        """The rows, if the likelihood has a density there.

        Raises:
            GMMVAEError: for a Bernoulli likelihood of rows outside [0, 1].
        """
        low, high = float(x.min()), float(x.max())
        if self.likelihood == "bernoulli" and not -1e-6 <= low <= high <= 1 + 1e-6:
            raise GMMVAEError(
                f"{source}: the bernoulli likelihood needs rows in [0, 1]; in the model's units "
                f"these go from {low:.3g} to {high:.3g} (another unit, or likelihood=normal?)"
            )
        return x


@dataclass(frozen=True)
class Rows:
    """Data ready to fit: rows in the model's units, labels, and who is in which part."""

    dataset: Dataset
    split: Split
    schema: Schema
    dtype: torch.dtype

    def describe(self) -> str:
        """One line on what was read, so that a label mistaken for a feature is seen."""
        split, shape = self.split, "x".join(str(n) for n in self.schema.x_shape)
        classes = len(self.schema.classes)
        return (
            f"{len(self.dataset.x)} rows of {shape}, {classes or 'no'} classes; "
            f"{len(split.train)} train ({len(split.labelled)} labelled), "
            f"{len(split.validation)} validation, {len(split.test)} test"
        )

    def watched(self, most: int) -> Labels:
        """Up to ``most`` validation rows (training rows where there are none), always the same."""
        rows = self.split.validation if len(self.split.validation) else self.split.train
        return rows[some_of(len(rows), most)]

    def part(self, rows: Labels, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """x and true y of some rows, on a device."""
        x = torch.from_numpy(self.schema.transform(self.dataset.x[rows]))
        x = x.to(device, self.dtype)
        return x, torch.from_numpy(self.dataset.y[rows]).to(device)

    def training(self, device: torch.device) -> tuple[Tensor | StreamedRows, Tensor]:
        """x and y of the training rows, y = -1 where the label is not shown.

        Shards stay on disk: their rows are read as batches ask for them.
        """
        numbers, x = self.split.train, self.dataset.x
        hidden = np.isin(numbers, self.split.labelled, invert=True)
        y = torch.from_numpy(np.where(hidden, -1, self.dataset.y[numbers])).to(device)
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
    dataset = load_data(
        config.data,
        None if config.data_dir is None else Path(config.data_dir),
        label_column=config.label_column,
        drop_nonfinite=config.drop_nonfinite,
    )
    if config.labels and not dataset.classes:
        raise GMMVAEError(
            f"{config.data} has no labels: no column or array {config.label_column!r} "
            "(name it with --label-column, or give --labels 0)"
        )
    split = split_rows(
        dataset.y,
        classes=len(dataset.classes),
        labels=config.labels,
        test=config.test if dataset.test is None else dataset.test,
        validation=config.validation,
        split_seed=config.split_seed,
        label_seed=config.seed if config.label_seed is None else config.label_seed,
    )
    fingerprint = _fingerprint(dataset)
    if schema is None:
        schema = Schema(
            x_shape=dataset.x_shape,
            classes=dataset.classes,
            columns=dataset.columns,
            likelihood=config.likelihood or dataset.likelihood,
            transform=dataset.fit_transform_on(split.train),
            fingerprint=fingerprint,
        )
    elif schema.fingerprint != fingerprint:
        raise GMMVAEError(f"{config.data} is not the data this run was trained on: it has changed")
    rows = Rows(dataset, split, schema, dtype_of(config.precision))
    schema.in_range(schema.transform(dataset.x[rows.watched(1000)]), config.data)
    return rows


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
    return digest.hexdigest()
