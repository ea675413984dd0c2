"""Rows of a table whose columns have kinds of their own."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data.augment import gaps, hide, noise, swap
from pyro_gmmvae.data.kinds import RowKind
from pyro_gmmvae.data.transform import Labels, Transform
from pyro_gmmvae.errors import GMMVAEError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

KNOTS = 101  # a percent of the rows between two of them
ROWS_OF_KNOTS = 100_000


@dataclass(frozen=True)
class ColumnTable(RowKind):
    """Rows (D,) of a table, an entry for each column, NaN where a cell is missing.

    Args:
        specs: of the columns.
    """

    name: ClassVar[str] = "columns"
    plural: ClassVar[str] = "rows of a table"
    augmentations: ClassVar[Mapping[str, Callable[..., "Tensor"]]] = {
        "noise": noise,
        "dropout": gaps,
        "hide": hide,
        "swap": swap,
    }
    default_augmentation: ClassVar[str] = "swap"

    specs: tuple[Column, ...]
    likelihood: str = "columns"

    @property
    def x_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(D,)."""
        return (len(self.specs),)

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """The columns' names."""
        return tuple(column.name for column in self.specs)

    @property
    def missing(self) -> bool:  # type: ignore[override]
        """True: any cell may be missing."""
        return True

    @property
    def drawing(self) -> str:
        return "profile"

    def fitted_on(
        self, x: NDArray[Any], rows: Labels | slice = slice(None)
    ) -> tuple[Self, Transform]:
        """The kind with the units and knots of its columns, and the transform to these units.

        Real columns are standardized, positive ones divided by their geometric mean; counts and
        codes stay as they are.

        Args:
            x: (N, D) rows in the file's units.
            rows: numbers of the rows that units and knots are taken from.
        """
        shift, unit = np.zeros(len(self.specs)), np.ones(len(self.specs))
        for number, column in enumerate(self.specs):  # one at a time: x may fill the memory
            values = x[rows, number]
            if column.kind in ("real", "student-t"):
                moments = Transform.standardizing(values)
                shift[number], unit[number] = moments.shift, moments.scale
            elif column.kind == "positive":
                unit[number] = np.exp(np.log(values[np.isfinite(values)]).mean())
        transform = Transform(shift, unit)
        some = np.arange(len(x))[rows]
        knots = _knots(transform.scaled(x[some[_some(len(some))]]))
        specs = tuple(
            replace(
                column,
                unit=float(unit[number]),
                knots=_knots_of(column, x[rows, number], knots[number]),
            )
            for number, column in enumerate(self.specs)
        )
        return replace(self, specs=specs), transform

    def _bind(self, function: "Callable[..., Tensor]") -> "Callable[[Tensor], Tensor]":
        given = [column.given for column in self.specs]
        if function is noise:
            # other kinds have units of their own
            return partial(
                _changed_where, [c.kind not in ("real", "student-t") for c in self.specs], noise
            )
        if function is not swap or not any(given):
            return function
        return partial(_changed_where, given, swap)

    def to_json(self) -> dict[str, Any]:
        specs = [column.to_json() for column in self.specs]
        return {"likelihood": self.likelihood, "specs": specs}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        specs = tuple(Column.from_json(one) for one in content["specs"])
        if not specs or len({column.name for column in specs}) != len(specs):
            raise ValueError("no columns, or two of one name")
        return cls(specs, str(content["likelihood"]))


def covariate_row(specs: Sequence[Column], values: Mapping[str, Any]) -> NDArray[np.float64]:
    """A row (D,) in the file's units with values of covariates by name; all else is NaN.

    Args:
        specs: of the columns.
        values: as they are in the file, texts or numbers.

    Raises:
        GMMVAEError: a name that is not a covariate's, or a value that its column does not have.
    """
    row = np.full(len(specs), np.nan)
    places = {column.name: place for place, column in enumerate(specs) if column.given}
    for name, value in values.items():
        if not places:
            raise GMMVAEError(
                f"{name}={value}: this run has no covariates; train one with --covariates {name}"
            )
        if name not in places:
            raise unknown_name("covariate", name, list(places))
        row[places[name]] = specs[places[name]].entry_of(value)
    return row


def _changed_where(
    kept: Sequence[bool], function: "Callable[[Tensor], Tensor]", x: "Tensor"
) -> "Tensor":
    """Change cells, but for some columns: a row without its covariates would be another's.

    Slices are put together, as a mask of the host can't be used while CUDA records a graph.
    """
    import torch

    changed, parts, start = function(x), [], 0
    for keep, run in itertools.groupby(kept):
        columns = slice(start, start + len(list(run)))
        parts.append((x if keep else changed)[:, columns])
        start = columns.stop
    return torch.cat(parts, 1)


def _knots_of(column: Column, values: NDArray[Any], knots: tuple[float, ...]) -> tuple[float, ...]:
    """Knots of a column from its values (n,) in the file's units and its quantiles.

    A covariate of codes keeps the codes at the middles of equal steps of probability.
    """
    if column.kind not in ("binary", "category"):
        return knots
    known = values[~np.isnan(values)]
    if not column.given or not len(known):
        return ()
    steps = (np.arange(KNOTS) + 0.5) / KNOTS
    return tuple(np.quantile(known, steps, method="inverted_cdf").tolist())


def _some(rows: int) -> NDArray[np.int64] | slice:
    """Numbers of up to ``ROWS_OF_KNOTS`` rows, always the same ones."""
    if rows <= ROWS_OF_KNOTS:
        return slice(None)
    return np.sort(np.random.default_rng(0).choice(rows, ROWS_OF_KNOTS, replace=False))


def _knots(rows: NDArray[Any]) -> Sequence[tuple[float, ...]]:
    """Quantiles of each column of rows (n, D); (0, 1) where all cells are missing."""
    from sklearn.preprocessing import QuantileTransformer

    empty = np.isnan(rows).all(0)
    known = np.where(empty, np.resize([0.0, 1.0], (len(rows), 1)), rows)
    numbers = max(2, min(KNOTS, len(rows)))
    made = QuantileTransformer(n_quantiles=numbers, subsample=None).fit(known)
    return [tuple(column) for column in made.quantiles_.T.tolist()]
