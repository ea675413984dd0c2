"""Where the entries and parameters of each kind of column are in a row of a table."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pyro_gmmvae.column_spec import Column, outputs_of
from pyro_gmmvae.errors import GMMVAEError

EDGE = 1e4  # a cut point that no location reaches, in place of infinity
_NARROW = 16  # categories with as many values share one padded tensor
# the families in the order in which a row is computed; categories follow
SCALED = ("real", "positive", "student-t", "count")
ORDER = (*SCALED, "binary", "ordinal")


class ColumnLayout(nn.Module):
    """Where the entries and parameters of each kind of column are in a row.

    It holds index tensors, which move with the module and are no part of its state.

    Args:
        columns: of the table, in the order of a row's entries.

    Attributes:
        columns: as given.
        order: numbers of the columns in the order in which they are computed, by kind.
        sizes: the number of columns of each kind but categories; covariates do not count.
        outputs: P, the number of parameters of a row.
        scales: S, the number of scales and dispersions.
        cuts: the number of cut points of each ordinal column.
        coded: where, among the entries that are codes, ordinal columns begin and end.
        groups: the number of groups of categories, each computed at once.

    Raises:
        GMMVAEError: all columns are covariates, so that there is no x.
    """

    entries: Tensor
    places: Tensor
    singles: Tensor
    log_units: Tensor
    last_codes: Tensor
    count_places: Tensor
    log_means: Tensor
    edges: Tensor

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns, self.outputs = tuple(columns), outputs_of(columns)
        if not self.outputs:
            raise GMMVAEError("all columns are covariates; leave at least one of them in x")
        starts = list(accumulate((column.outputs for column in columns), initial=0))
        kinds: dict[str, list[int]] = {kind: [] for kind in (*ORDER, "category")}
        for number, column in enumerate(columns):
            if not column.given:
                kinds[column.kind].append(number)
        self.sizes = {kind: len(kinds[kind]) for kind in ORDER}
        self.scales = sum(self.sizes[kind] for kind in SCALED)
        groups = _groups_of(kinds["category"], columns)
        numbers = [number for kind in ORDER for number in kinds[kind]]
        self.order = numbers + [number for group in groups for number in group]
        # an entry without a term takes the place behind the last one
        where = {number: place for place, number in enumerate(self.order)}
        places = [where.get(number, len(self.order)) for number in range(len(columns))]
        units = [columns[n].unit if columns[n].kind != "count" else 1.0 for n in self.order]
        self._index("entries", self.order)
        self._index("places", places)
        self._index("singles", [starts[number] for number in numbers])
        self._index("count_places", [starts[number] for number in kinds["count"]])
        self._numbers("log_units", [math.log(unit) for unit in units])
        last = [len(columns[number].values) - 1.0 for number in self.order[self.scales :]]
        self._numbers("last_codes", last)
        self.coded = (self.sizes["binary"], self.sizes["binary"] + self.sizes["ordinal"])
        means = [_mean_of_knots(columns[number]) for number in kinds["count"]]
        self._numbers("log_means", [math.log(mean) for mean in means])
        self.cuts = [len(columns[number].values) - 1 for number in kinds["ordinal"]]
        most = max(self.cuts, default=0)
        self._numbers("edges", [[EDGE * max(0, k - n + 1) for n in self.cuts] for k in range(most)])
        self.groups = len(groups)
        for number, group in enumerate(groups):
            sizes = [len(columns[n].values) for n in group]
            # value k of column c; beyond a column's own values any other parameter
            own = [
                [starts[n] + min(k, size - 1) for n, size in zip(group, sizes, strict=True)]
                for k in range(max(sizes))
            ]
            beyond = [[0.0 if k < size else -math.inf for size in sizes] for k in range(max(sizes))]
            self._index(f"group_{number}", [place for value in own for place in value])
            self._numbers(f"beyond_{number}", beyond)

    def _index(self, name: str, values: Sequence[Any]) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)

    def _numbers(self, name: str, values: Sequence[Any]) -> None:
        dtype = torch.get_default_dtype()
        self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

    @property
    def is_given(self) -> Tensor:
        """(D,) whether a column is a covariate, which has no parameters."""
        return self.places == len(self.entries)

    def logits_of(self, parameters: Tensor) -> list[Tensor]:
        """(..., L, C) logits of each group of categories, -inf beyond a column's own values."""
        logits = []
        for number in range(self.groups):
            beyond = self.get_buffer(f"beyond_{number}")
            own = parameters.index_select(-1, self.get_buffer(f"group_{number}"))
            logits.append(own.unflatten(-1, beyond.shape) + beyond)
        return logits

    def in_order(self, parts: Sequence[Tensor], missing: float) -> Tensor:
        """(..., D): values of the kinds, joined, in the order of the columns."""
        joined = pad(torch.cat(list(parts), -1), (0, 1), value=missing)
        return joined.index_select(-1, self.places)


def _groups_of(numbers: Sequence[int], columns: Sequence[Column]) -> list[list[int]]:
    """Category columns that share a padded tensor: all with few values, and others by size."""
    groups: dict[int, list[int]] = {}
    for number in numbers:
        size = len(columns[number].values)
        groups.setdefault(0 if size <= _NARROW else (size - 1).bit_length(), []).append(number)
    return [groups[key] for key in sorted(groups)]


def _mean_of_knots(column: Column) -> float:
    """About the mean of a count in the training rows; 1 where it is not known, or 0."""
    return max(sum(column.knots) / len(column.knots), 1e-3) if column.knots else 1.0
