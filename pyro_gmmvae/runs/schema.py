"""Facts about the training data that a run keeps: kind, classes and units."""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, PositiveInt

from pyro_gmmvae.data import Dataset, RowKind, Transform
from pyro_gmmvae.data.column_table import ColumnTable, covariate_row
from pyro_gmmvae.data.row_values import check_values
from pyro_gmmvae.data.transform import Floats
from pyro_gmmvae.data.value_range import low_in_range, standardized_otherwise
from pyro_gmmvae.datasets import KINDS
from pyro_gmmvae.errors import GMMVAEError, GMMVAEWarning, unknown_name
from pyro_gmmvae.likelihood_spec import LikelihoodSpec, parse_likelihood

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class _Kind(BaseModel):
    name: str
    likelihood: str
    x_shape: list[PositiveInt] | None = None
    columns: list[str] | None = None
    specs: list[dict[str, Any]] = []
    missing: bool = False
    layout: dict[str, Any] | None = None
    features: list[str] = []
    statistics: list[str] = []


class _Transform(BaseModel):
    shift: float | list[Any]
    scale: float | list[Any]
    limit: float | None = None
    binarize: str | None = None


class SchemaContent(BaseModel):
    """The types of :meth:`Schema.to_json`."""

    kind: _Kind
    classes: list[str]
    transform: _Transform
    fingerprint: str
    factors: list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Schema:
    """Facts about the training data that a run keeps in its folder.

    Attributes:
        kind: of the rows.
        classes: names of the classes, in the order of the model's components.
        transform: from the file's units to the model's.
        fingerprint: of rows and labels, to notice that the data changed.
        factors: further classes, a name and the classes' names for each.
    """

    kind: RowKind
    classes: tuple[str, ...]
    transform: Transform
    fingerprint: str
    factors: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def to_json(self) -> dict[str, Any]:
        kind = {"name": self.kind.name} | self.kind.to_json()
        return {**vars(self), "kind": kind, "transform": self.transform.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Schema":
        """The schema that :meth:`to_json` described.

        Raises:
            KeyError, TypeError, ValueError: content that does not describe a schema.
        """
        values = dict(content["kind"])
        name = values.pop("name")
        if name not in KINDS:
            raise unknown_name("kind of rows", name, list(KINDS))
        kind = KINDS[name].from_json(values)
        parse_likelihood(kind.likelihood).completed(None, "the data")  # raises where it is none
        transform = Transform.from_json(content["transform"])
        for numbers in (transform.shift, transform.scale):
            channels = (*kind.x_shape[:1], *[1] * (len(kind.x_shape) - 1))
            if numbers.shape not in ((), channels, kind.x_shape):
                raise ValueError(f"a transform of {numbers.shape} for rows of {kind.x_shape}")
        return cls(
            kind,
            tuple(str(name) for name in content["classes"]),
            transform,
            str(content["fingerprint"]),
            tuple((str(name), tuple(map(str, names))) for name, names in content["factors"]),
        )

    @property
    def likelihood(self) -> LikelihoodSpec:
        """Family and number of the rows' likelihood."""
        return parse_likelihood(self.kind.likelihood)

    def featurize(self, rows: Any) -> Floats:
        """Rows as a data set holds them -> as the model takes them."""
        return self.transform(self.kind.featurize_array(rows))

    def featurizer(
        self, device: "torch.device", dtype: "torch.dtype"
    ) -> "Callable[[Tensor], Tensor]":
        """:meth:`featurize` for tensors on a device."""
        import torch

        from pyro_gmmvae.training.batches import Featurizer

        shift, scale = (
            torch.as_tensor(one, device=device).to(dtype)
            for one in (self.transform.shift, self.transform.scale)
        )
        return Featurizer(self.kind.featurize, shift, scale, self.transform.limit)

    def rows_for_model(
        self, dataset: Dataset, source: str, given: Mapping[str, Any] | None = None
    ) -> Floats:
        """A file's rows in the model's units, columns matched by name.

        Notes on the rows, such as values that the training rows did not have and that are taken as
        missing, are given as a :class:`pyro_gmmvae.errors.GMMVAEWarning`.

        Args:
            dataset: the rows.
            source: of the rows, for messages.
            given: values of covariates by name, in the place of each row's own; their columns may
                be absent.

        Raises:
            GMMVAEError: rows of another kind than the training rows, missing cells where the
                model has no mask for them, or values that covariates can't have.
        """
        for note in dataset.notes:
            warnings.warn(GMMVAEWarning(f"{source}: {note}"), stacklevel=2)
        rows = self.checked(self._in_order(dataset, source, given or {}), source)
        self._warn_of_units(rows, source)
        if not given:
            return rows
        covariates = self.covariates(given)
        return np.where(np.isnan(covariates), rows, covariates)

    def of_further_rows(self, dataset: Dataset, source: str) -> Dataset:
        """Rows of this run's kind, to fit in its units.

        Args:
            dataset: the rows.
            source: of the rows, for messages.

        Raises:
            GMMVAEError: as :meth:`rows_for_model`, or a column with another kind or other values.
        """
        x = self._in_order(dataset, source, {})
        theirs = {spec.name: (spec.kind, spec.values) for spec in dataset.kind.specs}
        for spec in self.kind.specs:
            if theirs.get(spec.name, (spec.kind, spec.values)) != (spec.kind, spec.values):
                raise GMMVAEError(
                    f"{source}: column {spec.name!r} has another kind or other values than in the "
                    f"run that the fit starts from ({spec.kind}); give the rows as a file"
                )
        self.checked(x, source)
        return replace(dataset, x=x, kind=self.kind)

    def _in_order(self, dataset: Dataset, source: str, given: Collection[str]) -> Any:
        """A file's rows (N, *x_shape) in its units, columns matched by name.

        Those of ``given`` may be absent.
        """
        x, shape = dataset.x, self.kind.x_shape
        if self.kind.columns is not None and dataset.kind.columns is not None:
            place = {name: number for number, name in enumerate(dataset.kind.columns)}
            absent = [name for name in self.kind.columns if name not in place]
            missing = [name for name in absent if name not in given]
            if missing:
                raise GMMVAEError(f"{source} lacks the columns {', '.join(missing[:5])}")
            x = x[:, [place.get(name, 0) for name in self.kind.columns]]
            if absent:
                x[:, [name in absent for name in self.kind.columns]] = np.nan
        if int(np.prod(x.shape[1:])) == int(np.prod(shape)) and (x.ndim == 2 or len(shape) == 1):
            x = x.reshape(-1, *shape)
        if x.shape[1:] != shape:
            raise GMMVAEError(
                f"{source} holds rows of shape {x.shape[1:]}; the model was trained on {shape}"
            )
        if not self.kind.missing and np.isnan(x).any():
            raise GMMVAEError(
                f"{source} has missing cells (NaN), and the model was trained on rows without any; "
                "fill them in, leave these rows out (--drop-nonfinite), or train on rows of which "
                "some have missing cells"
            )
        return x

    def _warn_of_units(self, rows: Floats, source: str) -> None:
        """Warn of rows that look as if they were in another unit than the training rows."""
        if isinstance(self.kind, ColumnTable):
            real = [spec.kind in ("real", "student-t") for spec in self.kind.specs]
            note = standardized_otherwise(rows[:, real])
        elif not self.likelihood.bounded:
            note = standardized_otherwise(rows.reshape(len(rows), -1))
        elif self.likelihood.number is None:
            note = low_in_range(rows, self.transform)
        else:  # of counts and levels every value is checked
            return
        if note is not None:
            warnings.warn(
                f"{source} may be in another unit than the training rows: {note}",
                GMMVAEWarning,
                stacklevel=3,
            )

    def kind_of_files(self, given: Mapping[str, Any] | None = None) -> RowKind:
        """The kind of rows of a file, without the covariates that have a value here.

        Raises:
            GMMVAEError: as :meth:`covariates`.
        """
        if not given or not isinstance(self.kind, ColumnTable):
            return self.kind
        self.covariates(given)
        return replace(self.kind, specs=tuple(c for c in self.kind.specs if c.name not in given))

    def covariates(self, values: Mapping[str, Any]) -> Floats:
        """A row (1, D) in the model's units with some covariates by name, and NaN elsewhere.

        Raises:
            GMMVAEError: as :func:`pyro_gmmvae.data.column_table.covariate_row`.
        """
        return self.transform.scaled(covariate_row(self.kind.specs, values)[None])

    def checked(self, rows: Any, source: str) -> Floats:
        """Rows (N, *x_shape) of numbers in the model's units, if the likelihood accepts them.

        Args:
            rows: in the file's units.
            source: of the rows, for messages.

        Raises:
            GMMVAEError: as :func:`pyro_gmmvae.data.row_values.check_values`.
        """
        x = self.transform.scaled(rows)
        check_values(x, self.likelihood, self.transform, source)
        return self.transform.binarized(x)
