"""Kinds of the columns of a table, found from its cells or given."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.column_spec import COLUMN_KINDS, DISCRETE, MAX_VALUES, Column
from pyro_gmmvae.data.cells import is_plain_number, natural_key, number_of, number_text
from pyro_gmmvae.data.frames import RawFrame
from pyro_gmmvae.errors import GMMVAEError, nearest, unknown_name

SKIP = "skip"
FEWEST_ROWS = 10  # to call a column one of identifiers
SKEWED = 1.0
DATES = (
    "write dates as numbers, such as days since the first one, (d - d.min()).dt.days in pandas, "
    "and parts that matter, such as the month, as columns of their own"
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[ap]m)?(?: ?Z| ?[+-]\d{2}:?\d{2})?"
_DAYS = (
    *(r"\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2})?", r"\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})"),
    *(rf"\d{{1,2}}[ .-]{{0,2}}{_MONTH}[ .,-]{{0,2}}\d{{2,4}}", rf"{_MONTH}\.? \d{{1,2}},? \d{{4}}"),
)
_DATE = re.compile(rf"(?:{'|'.join(_DAYS)})(?:[T ]{_TIME})?|{_TIME}", re.I | re.A)
_NAME_OF_IDENTIFIERS = re.compile(r"(?:^|[^a-zA-Z])(?i:id|idx|index|key|uuid)$|[a-z]I[dD]$")
_LEADING_NUMBER = re.compile(r"[<>≤≥~ ]*(-?\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class ColumnReport:
    """A column of a table, how it is modelled, and why.

    Attributes:
        name: of the column.
        why: the reason for its kind, in words.
        missing: share of the cells that are missing.
        low: the smallest number, of a column of numbers.
        high: the largest number.
        values: of a discrete column, in the order of their codes; of texts that are left out,
            some.
        different: the number of different texts.
        oddities: remarks for the user.
        column: as a model takes it, without unit and knots, which training rows decide; None: the
            column is left out.
    """

    name: str
    why: str
    missing: float
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    different: int = 0
    oddities: tuple[str, ...] = ()
    column: Column | None = None

    @property
    def kind(self) -> str | None:
        """A key of ``COLUMN_KINDS``; None: the column is left out."""
        return None if self.column is None else self.column.kind

    @property
    def shown(self) -> str:
        """Range or values, in a few words."""
        if self.low is not None and self.high is not None and not self.values:
            return f"{self.low:g} to {self.high:g}"
        return listed(self.values, different=self.different)


def infer_columns(
    frame: RawFrame, overrides: Mapping[str, str] | None = None, given: Sequence[str] = ()
) -> list[ColumnReport]:
    """A kind for each column, from its cells:

    - left out: constants, columns without any cell, numbers that count the rows, texts that are
      all different or too many (over ``MAX_VALUES``), and dates;
    - binary: two different values;
    - category: texts, sorted, numbers among them by size;
    - count: whole numbers from 0 or 1 on, skewed, whose variance is at least about their mean;
    - positive: numbers above 0 that are skewed, and less so in their logarithm;
    - real: all other numbers.

    Args:
        frame: the table, without the column of labels.
        overrides: by name, a key of ``COLUMN_KINDS``, or "skip" to leave a column out. The order of
            an ordinal column is that of its numbers, of numbers with which its texts begin, or of
            an ordered categorical; otherwise it is written, "ordinal(low<mid<high)".
        given: names of the covariates.

    Raises:
        GMMVAEError: as :func:`report_columns`, or no column that is modelled.
    """
    reports = report_columns(frame, overrides, given)
    check_any_modelled(reports, frame.source)
    return reports


def report_columns(
    frame: RawFrame, overrides: Mapping[str, str] | None = None, given: Sequence[str] = ()
) -> list[ColumnReport]:
    """:func:`infer_columns`, also of a table whose columns are all left out.

    Raises:
        GMMVAEError: a name or kind that is not known (with the nearest match), values that the
            kind can't have, or a covariate that is left out.
    """
    names = frame.table.columns
    for name in (*(overrides or {}), *given):
        if name not in names:
            raise unknown_column(name, names, frame.source)
    reports = []
    for name in names:
        cells = _Cells(frame, name)
        wanted = (overrides or {}).get(name)
        report = cells.guessed() if wanted is None else cells.as_wanted(wanted)
        if name in given:
            if report.column is None:
                raise GMMVAEError(
                    f"{frame.source}: column {name!r} can't be a covariate: it is left out "
                    f"({report.why})"
                )
            report = replace(report, column=replace(report.column, given=True))
        reports.append(report)
    return reports


def check_any_modelled(reports: Sequence[ColumnReport], source: str) -> None:
    """Refuse a table without a column to model.

    Raises:
        GMMVAEError: all columns are left out or covariates.
    """
    if all(report.column is None or report.column.given for report in reports):
        reasons = "; ".join(left_out_notes(reports)) or "all columns are covariates"
        raise GMMVAEError(f"{source} has no column to model: {reasons}")


def parse_overrides(texts: Iterable[str]) -> dict[str, str]:
    """Kinds by name from "NAME=KIND"; a later text replaces an earlier one.

    Raises:
        GMMVAEError: a text of another form.
    """
    kinds = {}
    for text in texts:
        match = re.fullmatch(r"(.+?)= *([\w-]+ *(?:\(.*\))?)", text.strip())
        if match is None:
            raise GMMVAEError(f"column: {text!r} is not NAME=KIND, such as age=count")
        kinds[match[1].strip()] = match[2].strip()
    return kinds


def names_with_codes(kinds: Mapping[str, str]) -> list[str]:
    """Names of the columns with a kind of codes, whose numbers are read as text."""
    return [name for name, kind in kinds.items() if kind.partition("(")[0] in DISCRETE]


def names_with_texts(columns: Iterable[Column]) -> list[str]:
    """Names of the columns that are read as text: some of their values are no numbers."""
    return [c.name for c in columns if not all(map(is_plain_number, c.values))]


def left_out_notes(reports: Iterable[ColumnReport]) -> list[str]:
    """A line on the columns that are left out."""
    out = [f"{report.name!r} ({report.why})" for report in reports if report.column is None]
    more = f", and {len(out) - 5} more ('gmmvae inspect' lists them)" if len(out) > 5 else ""
    return [f"left out: {', '.join(out[:5])}{more}"] if out else []


def listed(values: Sequence[str], most: int = 5, different: int = 0) -> str:
    """The first of some values, and how many there are (at least ``different``)."""
    number = max(different, len(values))
    shown = ", ".join(repr(value) for value in values[:most])
    return shown if number <= most else f"{shown}, ... ({number:,} values)"


def unknown_column(name: str, names: Iterable[str], source: str) -> GMMVAEError:
    """The error for a column that a table does not have, with the nearest match."""
    known = [str(one) for one in names]
    near = nearest(name, known)
    hint = f"did you mean {near!r}?" if near else f"it has {listed(known)}"
    return GMMVAEError(f"{source} has no column {name!r}; {hint}")


class _Cells:
    """The cells of a column that are known.

    Attributes:
        numbers: (n,) of a column of numbers, else None.
        texts: the different texts of a column of text, in the order of the column.
        counts: (len(texts),) how often each occurs.
    """

    def __init__(self, frame: RawFrame, name: str) -> None:
        self.name, self.where = name, f"{frame.source}: column {name!r}"
        values = frame.table[name]
        self.rows = len(values)
        self.numbers: NDArray[np.float64] | None = None
        self.texts: list[str] = []
        self.ordered: list[str] = []
        if values.dtype.kind == "f":
            found = values.to_numpy()
            self.numbers = found[~np.isnan(found)]
            self.known = len(self.numbers)
            return
        codes = values.cat.codes.to_numpy()
        categories = values.cat.categories.tolist()
        counts = np.bincount(codes[codes >= 0], minlength=len(categories))
        self.texts = [text for text, count in zip(categories, counts, strict=True) if count]
        self.counts = counts[counts > 0]
        self.known = int(counts.sum())
        if values.cat.ordered:
            self.ordered = categories

    # -- kinds that are found --------------------------------------------------------------

    def guessed(self) -> ColumnReport:
        """The kind that suits the cells."""
        if not self.known:
            return self.report(None, "every cell is missing")
        kind, why = self._kind_of_texts() if self.numbers is None else self._kind_of_numbers()
        return self.report(kind, why)

    def _kind_of_numbers(self) -> tuple[str | None, str]:
        assert self.numbers is not None
        numbers = self.numbers[np.isfinite(self.numbers)]
        if not len(numbers):
            return None, "every number is infinite"
        low, high = numbers.min(), numbers.max()
        if low == high:
            return None, f"constant: {number_text(low)}"
        if ((numbers == low) | (numbers == high)).all():
            return "binary", "two numbers"
        whole = bool((numbers == np.round(numbers)).all())
        if whole and self._counts_rows(numbers, low, high):
            return None, "whole numbers that count or name the rows"
        with np.errstate(over="ignore", invalid="ignore"):
            mean, variance, skew = numbers.mean(), numbers.var(), _skew(numbers)
            if whole and low in (0, 1) and skew > SKEWED / 2 and variance > 0.9 * mean:
                return "count", f"whole numbers from {low:g} on, skewed"
            if low > 0 and skew > SKEWED:
                skew_of_log = _skew(np.log(numbers))
                if abs(skew_of_log) < skew:
                    return (
                        "positive",
                        f"above 0, skew {skew:.1f}, of the logarithm {skew_of_log:.1f}",
                    )
        return "real", "whole numbers" if whole else "numbers"

    def _counts_rows(self, numbers: NDArray[Any], low: float, high: float) -> bool:
        """Whether the whole numbers are one for each row."""
        if len(numbers) != self.rows or self.rows < FEWEST_ROWS:
            return False
        if high - low == self.rows - 1:
            return bool((np.bincount((numbers - low).astype(np.int64)) == 1).all())
        named = _NAME_OF_IDENTIFIERS.search(self.name) is not None
        return named and len(np.unique(numbers)) == self.rows

    def _kind_of_texts(self) -> tuple[str | None, str]:
        different = len(self.texts)
        if different == 1:
            return None, f"constant: {self.texts[0]!r}"
        if self.holds_dates():
            return None, f"dates such as {self.texts[0]!r}: {DATES}"
        if different == 2:
            return "binary", "two texts"
        few = different <= MAX_VALUES and (different <= self.known / 2 or self.known < FEWEST_ROWS)
        if few:
            return "category", f"text with {different} values"
        numbers, others = self._split()
        if numbers > self.known / 2:
            return None, (
                f"numbers, but for {self.known - numbers} cells such as {listed(others, 3)}: "
                "correct these, or empty them"
            )
        if different == self.known:
            return None, "texts that are all different"
        return None, f"text with {different:,} values in {self.known:,} cells"

    def holds_dates(self) -> bool:
        """Whether all texts are dates or times."""
        return bool(self.texts) and all(map(_DATE.fullmatch, self.texts[:1000]))

    def _split(self) -> tuple[int, list[str]]:
        """The number of cells of text that are numbers, and the other texts."""
        is_number = np.array([number_of(text) is not None for text in self.texts], bool)
        others = [text for text, number in zip(self.texts, is_number, strict=True) if not number]
        return int(self.counts[is_number].sum()), others

    # -- kinds that are given --------------------------------------------------------------

    def as_wanted(self, wanted: str) -> ColumnReport:
        """The kind that a user gives.

        Raises:
            GMMVAEError: a kind that is not known, or values that it can't have.
        """
        kind, _, order = (part.strip() for part in wanted.partition("("))
        if kind not in (*COLUMN_KINDS, SKIP):
            raise unknown_name(f"kind of column {self.name!r}:", kind, [*COLUMN_KINDS, SKIP])
        if order and kind != "ordinal":
            raise GMMVAEError(f"column {self.name!r}: an order is for ordinal columns, not {kind}")
        if kind == SKIP:
            return self.report(None, "as you gave it")
        if not self.known:
            raise self.refused(kind, "every cell is missing")
        if kind not in DISCRETE:
            self._check_numbers(kind)
        texts = [text.strip() for text in order.removesuffix(")").split("<")] if order else []
        return self.report(kind, "as you gave it", self._in_order(texts))

    def _check_numbers(self, kind: str) -> None:
        if self.numbers is None:
            if self.holds_dates():
                raise self.refused(kind, f"it holds dates such as {self.texts[0]!r}; {DATES}")
            others = self._split()[1] or self.texts
            raise self.refused(kind, f"it holds the text {listed(others, 3)}, not only numbers")
        wrong = self.numbers[~possible(self.numbers, kind)]
        if len(wrong):
            raise self.refused(kind, f"it holds {wrong[0]:g}")

    def _in_order(self, order: list[str]) -> list[str]:
        """The values of an ordinal column; none: they are sorted as they come."""
        if not order:
            return []
        values = self.values()
        unknown = [value for value in values if value not in order]
        if unknown or len(set(order)) < len(order):
            raise self.refused(
                "ordinal",
                f"the order names {listed(order)}, and it holds {listed(unknown or values)}",
            )
        return order

    def refused(self, kind: str, reason: str) -> GMMVAEError:
        """The error for a kind that does not suit the cells."""
        return GMMVAEError(f"{self.where} can't be {kind}: {reason}")

    # -- values ----------------------------------------------------------------------------

    def values(self) -> list[str]:
        """The different values as texts, sorted."""
        if self.numbers is None:
            return sorted(self.texts, key=natural_key)
        return [number_text(number) for number in np.unique(self.numbers).tolist()]

    def _ordinal_values(self) -> list[str]:
        """The different values in the order of their numbers, or of a categorical."""
        if self.ordered:
            return self.ordered
        if self.numbers is not None:
            return self.values()
        leading = [_LEADING_NUMBER.match(text) for text in self.texts]
        keys = [
            (float(match[1]), not text.startswith(("<", "≤")))
            for text, match in zip(self.texts, leading, strict=True)
            if match is not None
        ]
        if len(set(keys)) < len(self.texts):
            order = "<".join(self.texts[:10])
            raise self.refused(
                "ordinal",
                f"the order of its texts is not known; write it, such as "
                f"--column '{self.name}=ordinal({order})'",
            )
        return [text for _, text in sorted(zip(keys, self.texts, strict=True))]

    def report(self, kind: str | None, why: str, order: Sequence[str] = ()) -> ColumnReport:
        """The report of a kind."""
        values: Sequence[str] = []
        if kind == "ordinal":
            values = order or self._ordinal_values()
        elif kind in DISCRETE:
            values = self.values()
        if kind in DISCRETE:
            self._check_values(str(kind), values)
        column = None if kind is None else Column(self.name, kind, tuple(values))
        finite = None if self.numbers is None else self.numbers[np.isfinite(self.numbers)]
        low, high = None, None
        if finite is not None and len(finite):
            low, high = float(finite.min()), float(finite.max())
        return ColumnReport(
            self.name,
            why,
            missing=1 - self.known / self.rows,
            low=low,
            high=high,
            values=tuple(values or self.texts[:5]),
            different=max(len(values), len(self.texts)),
            oddities=tuple(self._oddities()),
            column=column,
        )

    def _check_values(self, kind: str, values: Sequence[str]) -> None:
        if len(values) > MAX_VALUES:
            raise self.refused(
                kind,
                f"it holds {len(values):,} different values, more than {MAX_VALUES}; merge rare "
                f"ones, or leave it out with --column {self.name}=skip",
            )
        if len(values) < 2 or (kind == "binary" and len(values) != 2):
            raise self.refused(kind, f"it holds {len(values)} different values: {listed(values)}")

    def _oddities(self) -> Iterable[str]:
        if self.numbers is not None:
            infinite = int(np.isinf(self.numbers).sum())
            if infinite:
                yield f"{infinite} infinite cells"
            return
        yield from alike_texts(self.texts)
        numbers, others = self._split()
        if numbers and others:
            yield f"{numbers} cells are numbers, the others texts such as {listed(others, 3)}"


def alike_texts(texts: Iterable[str]) -> list[str]:
    """Remarks on texts that differ in case or blanks only."""
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault("".join(text.casefold().split()), []).append(text)
    alike = [f"{' and '.join(map(repr, group[:3]))}" for group in groups.values() if len(group) > 1]
    return [f"{', '.join(alike[:3])} differ in case or blanks only"] if alike else []


def possible(numbers: NDArray[Any], kind: str) -> NDArray[np.bool_]:
    """Which numbers a column of a kind can hold; missing ones and infinite ones count as such."""
    if kind == "positive":
        return ~(numbers <= 0)
    if kind == "count":
        whole = np.isnan(numbers) | (numbers == np.round(numbers))
        return np.asarray(whole & ~(numbers < 0))
    return np.ones(numbers.shape, bool)


def _skew(numbers: NDArray[Any]) -> float:
    scale = numbers.std()
    return float((((numbers - numbers.mean()) / scale) ** 3).mean()) if scale > 0 else 0.0
