"""Missing cells filled by the posterior predictive of a run, p(x_missing | x_observed)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro import poutine, validation_enabled
from torch import Tensor

from pyro_gmmvae.data import DataOptions, load_array
from pyro_gmmvae.data.cell_table import CellTable
from pyro_gmmvae.distributions import Columns
from pyro_gmmvae.errors import GMMVAEError, check_range, unknown_name
from pyro_gmmvae.evaluation.proposals import sites_of
from pyro_gmmvae.param_store import LocalParams
from pyro_gmmvae.training.devices import seeded

if TYPE_CHECKING:
    from pyro_gmmvae.runs.run import Run

Numbers = NDArray[np.float64]
STATISTICS = ("mean", "mode")
LATENT_DRAWS = 50
INTERVAL_DRAWS = 200
MAX_DRAWS = 1000
ROWS_AT_ONCE = 8192  # copies of rows that the model takes together


@dataclass(frozen=True)
class Predictive:
    """Facts about p(x_missing | x_observed) of N rows, in the file's units.

    Attributes:
        values: (N, D) a statistic of each cell; of binary, category and ordinal columns a code.
        probs: (N, L) probabilities of the codes of each of these columns, by its number.
        draws: (S, N, D) draws of x.
    """

    values: Numbers
    probs: Mapping[int, Numbers]
    draws: Numbers

    @classmethod
    def joined(cls, parts: "Sequence[Predictive]") -> "Predictive":
        """That of the rows of all parts, one after the other."""
        probs = {k: np.concatenate([one.probs[k] for one in parts]) for k in parts[0].probs}
        values = np.concatenate([one.values for one in parts])
        return cls(values, probs, np.concatenate([one.draws for one in parts], 1))

    @classmethod
    def mixed(cls, parts: "Sequence[Predictive]") -> "Predictive":
        """That of the mixture of models with equal weights, which take turns in the S draws."""
        probs = {k: np.mean([one.probs[k] for one in parts], 0) for k in parts[0].probs}
        values = np.mean([one.values for one in parts], 0)
        for number, own in probs.items():
            values[:, number] = own.argmax(-1)
        draws = parts[0].draws.copy()
        for turn, one in enumerate(parts):
            draws[turn :: len(parts)] = one.draws[turn :: len(parts)]
        return cls(values, probs, draws)


def predictive(
    members: "Sequence[Run]",
    x: Tensor,
    *,
    statistic: str = "mean",
    draws: int = 0,
    latent_draws: int = LATENT_DRAWS,
    seed: int = 0,
) -> Predictive:
    """The posterior predictive of rows, from draws of z and s of the guide at the observed cells.

    - mean: of the predictive distribution. Of a column with codes the most probable code.
    - mode: of a column of numbers the mode of p(x|z,s), averaged over the draws of z and s; a
      count is rounded. Of a column with codes the same as mean.

    Args:
        members: runs on the same rows, whose predictive distributions are averaged.
        x: rows (N, *x_shape) in the units of their models, NaN where missing.
        statistic: a name of ``STATISTICS``.
        draws: S, the number of draws of x for each row.
        latent_draws: draws of z and s for each row and member; S, where that is more.
        seed: of the draws.

    The draws have equal weights. Self-normalized weights p(x_observed, z, s) / q(z, s | x_observed)
    (Mattei, Frellsen 2019, arXiv:1812.02633) had slightly larger errors on three tables, with 10 to
    200 draws, where the guide was trained on rows with hidden cells.
    """
    count = max(latent_draws, draws)
    parts, step = [], max(1, ROWS_AT_ONCE // count)
    with seeded(seed, members[0].device):
        for run in members:
            blocks = x.split(step)
            own = [_of_rows(run, rows, count, statistic, draws) for rows in blocks]
            parts.append(Predictive.joined(own))
    return Predictive.mixed(parts)


@torch.no_grad()
def _of_rows(run: "Run", x: Tensor, count: int, statistic: str, draws: int) -> Predictive:
    copies = x.repeat_interleave(count, 0)
    y = run.labels_of_programs(copies, None)
    with LocalParams(), validation_enabled(False):
        latents = {
            name: site["value"] for name, site in sites_of(run.model.guide, copies, y).items()
        }
        p = sites_of(poutine.condition(run.model.model, data=latents), copies, y)["x"]["fn"]

    def of_draws(values: Tensor) -> Tensor:
        """(N, count, ...) from values (N * count, ...)."""
        return values.reshape(len(x), count, -1)

    is_mode = isinstance(p, Columns) and statistic == "mode"
    values = _in_file_units(run, of_draws(p.mode if is_mode else p.mean).mean(1))
    probs: dict[int, NDArray[Any]] = {}
    if isinstance(p, Columns):
        probs = {
            k: of_draws(own).mean(1).double().cpu().numpy() for k, own in p.code_probs().items()
        }
        counts = [k for k, column in enumerate(p.layout.columns) if column.kind == "count"]
        values[:, counts] = values[:, counts].round() if is_mode else values[:, counts]
    for number, own in probs.items():
        values[:, number] = own.argmax(-1)
    taken = of_draws(p.sample())[:, :draws] if draws else x.new_empty(len(x), 0, values.shape[1])
    return Predictive(values, probs, _in_file_units(run, taken).swapaxes(0, 1))


def _in_file_units(run: "Run", x: Tensor) -> Numbers:
    """(..., D) in the file's units, in double precision."""
    transform, shape = run.schema.transform, run.schema.kind.x_shape
    scale, shift = (np.broadcast_to(p, shape).ravel() for p in (transform.scale, transform.shift))
    return x.double().cpu().numpy() * scale + shift


def fill(
    run: "Run",
    rows: NDArray[Any],
    table: CellTable,
    *,
    statistic: str = "mean",
    sample: bool = False,
    seed: int = 0,
) -> CellTable:
    """A table with the missing cells of a run's columns filled; other cells stay.

    Args:
        run: with its further members.
        rows: (N, D) of the table in the model's units.
        table: with at least the columns of the run that are not covariates.
        statistic: a name of ``STATISTICS``; see :func:`predictive`.
        sample: cells get a draw instead, of one of the members.
        seed: of the draws.

    Raises:
        GMMVAEError: an unknown statistic.
    """
    check_statistic(statistic)
    filling, members = _Filling(run, rows, table), [run, *run.others]
    if sample:
        one = members[seed % len(members)]
        found = predictive([one], filling.x, draws=1, latent_draws=1, seed=seed)
        return filling.table_with(found.draws[0])
    found = predictive(members, filling.x, statistic=statistic, seed=seed)
    return filling.table_with(found.values)


def impute_file(
    run: "Run",
    file: Path,
    *,
    statistic: str = "mean",
    draws: int = 0,
    interval: float | None = None,
    typed: bool = True,
    seed: int = 0,
) -> tuple[CellTable, tuple[str, ...]]:
    """The table of a file with the missing cells of the run's columns filled, and notes.

    Other cells stay as they are, also those of columns that the run does not use, of covariates,
    and with values that the run has not seen.

    Args:
        run: a run on a table, with its further members.
        file: the table, with at least the columns of the run.
        statistic: a name of ``STATISTICS``; see :func:`predictive`.
        draws: D, the number of completed tables, with draws of the missing cells instead of the
            statistic. They are stacked, and the column "draw" has their numbers, from 1; 0: none.
        interval: a probability. The columns NAME_low and NAME_high have the ends of the central
            interval of each cell of numbers that is filled; None: no such columns.
        typed: the cells of a csv file as numbers and text; else as its texts.
        seed: of the draws.

    Raises:
        GMMVAEError: an argument out of range, rows that are no table, a file that can't be read or
            lacks a column, or a column that has the name of a further one.
    """
    _check(run, statistic, draws, interval)
    options = DataOptions(label_column=run.config.label_column)
    dataset = load_array(file, options, kind=run.schema.kind, read_labels=False)
    rows = run.schema.rows_for_model(dataset, str(file))
    filling = _Filling(run, rows, CellTable.read(file, typed=typed))
    found = predictive(
        [run, *run.others],
        filling.x,
        statistic=statistic,
        draws=INTERVAL_DRAWS if interval else draws,
        seed=seed,
    )
    if draws:
        tables = [filling.table_with(values) for values in found.draws]
        tables = [
            one.extended("draw", np.full(len(rows), float(number)), at=0)
            for number, one in enumerate(tables, 1)
        ]
        return CellTable.stacked(tables), filling.notes()
    filled = filling.table_with(found.values)
    if interval:
        ends = np.quantile(found.draws, [(1 - interval) / 2, (1 + interval) / 2], axis=0)
        filled = filling.with_ends(filled, *ends)
    return filled, filling.notes()


def check_statistic(statistic: str) -> None:
    """Refuse an unknown statistic.

    Raises:
        GMMVAEError: with its nearest match.
    """
    if statistic not in STATISTICS:
        raise unknown_name("statistic", statistic, list(STATISTICS))


def _check(run: "Run", statistic: str, draws: int, interval: float | None) -> None:
    if run.schema.kind.columns is None:
        raise GMMVAEError(
            f"{run.path} was trained on {run.schema.kind.plural}, which have no columns with "
            "names; impute is for runs on tables"
        )
    if not run.schema.kind.missing:
        raise GMMVAEError(
            f"{run.path} was trained on rows without missing cells, and can't take any; train it "
            "on rows of which some have missing cells"
        )
    check_statistic(statistic)
    check_range("draws", draws, 0 <= draws <= MAX_DRAWS, f"from 0 to {MAX_DRAWS}")
    if interval is not None:
        check_range("interval", interval, 0 < interval < 1, "between 0 and 1")
        if draws:
            raise GMMVAEError("the draws show the spread of a cell; leave interval out")


@dataclass(frozen=True)
class _Filling:
    """Writes values of the model into the cells of a table.

    Attributes:
        run: whose columns are filled.
        rows: (N, D) in the model's units, NaN where a cell is missing or its value was not seen.
        table: of the rows, as it is.
    """

    run: "Run"
    rows: NDArray[Any]
    table: CellTable

    @cached_property
    def numbers(self) -> NDArray[np.intp]:
        """(n,) of the rows with missing cells; where there are none the first stands for them."""
        numbers = np.flatnonzero(np.isnan(self.rows).any(1))
        return numbers if len(numbers) else np.zeros(1, np.intp)

    @property
    def x(self) -> Tensor:
        """(n, D), those rows as the model takes them."""
        return torch.from_numpy(self.rows[self.numbers]).to(self.run.device, self.run.dtype)

    @cached_property
    def columns(self) -> dict[str, int]:
        """Places of the columns that are filled, by name: all but covariates."""
        kind = self.run.schema.kind
        given = {column.name for column in kind.specs if column.given}
        names = kind.columns or ()
        return {name: place for place, name in enumerate(names) if name not in given}

    def cells_of(self, name: str, place: int) -> NDArray[np.bool_]:
        """(N,) whether a cell is filled."""
        return self.table.missing[name] & np.isnan(self.rows[:, place])

    def table_with(self, values: Numbers) -> CellTable:
        """The table with values (n, D) in its missing cells."""
        table = self.table
        for name, place in self.columns.items():
            if self.cells_of(name, place).any():
                table = table.filled(name, self._of_all_rows(values[:, place], place))
        return table

    def with_ends(self, table: CellTable, low: Numbers, high: Numbers) -> CellTable:
        """A table with two further columns for each column of numbers."""
        for name, place in self.columns.items():
            if self._values_of(place):
                continue
            cells = self.cells_of(name, place)
            for end, values in (("low", low), ("high", high)):
                column = np.full(len(self.rows), np.nan)
                column[self.numbers] = values[:, place]
                table = table.extended(f"{name}_{end}", np.where(cells, column, np.nan))
        return table

    def _values_of(self, place: int) -> tuple[str, ...]:
        specs = self.run.schema.kind.specs
        return specs[place].values if specs else ()

    def _of_all_rows(self, values: Numbers, place: int) -> Sequence[float | str]:
        """(N,) values as cells: numbers, or the texts of codes."""
        cells: list[float | str] = [np.nan] * len(self.rows)
        texts = self._values_of(place)
        for row, value in zip(self.numbers.tolist(), values.tolist(), strict=True):
            cells[row] = texts[int(value)] if texts else value
        return cells

    def notes(self) -> tuple[str, ...]:
        """What was filled, and what was not."""
        filled = sum(int(self.cells_of(n, p).sum()) for n, p in self.columns.items())
        lines = [f"{filled} cells filled"]
        kind = self.run.schema.kind
        places = {column.name: p for p, column in enumerate(kind.specs) if column.given}
        given = [name for name in places if self.table.missing[name].any()]
        if given:
            lines.append(f"missing cells of covariates stay: {', '.join(given[:5])}")
        return tuple(lines)
