"""A column of a table: its kind, its values, and the numbers that networks have for it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyro_gmmvae.errors import GMMVAEError, unknown_name

# kind -> the family of its likelihood
COLUMN_KINDS: dict[str, str] = {
    "real": "Normal with a learned scale",
    "student-t": "Student-t with 4 degrees of freedom and a learned scale",
    "positive": "log-normal with a learned scale",
    "count": "negative binomial with a learned dispersion",
    "binary": "Bernoulli",
    "category": "Categorical",
    "ordinal": "ordered logistic with learned cut points",
}
DISCRETE = ("binary", "category", "ordinal")
MAX_VALUES = 256  # of a category; a decoder gives a logit for each


@dataclass(frozen=True)
class Column:
    """A column of a table, as a model takes it: one entry of a row, NaN where the cell is missing.

    In the model's units an entry is

    - real, student-t: (value - mean) / ``unit``;
    - positive: value / ``unit``;
    - count: the value itself;
    - binary, category, ordinal: the code k of ``values[k]``.

    Attributes:
        name: of the column.
        kind: a key of ``COLUMN_KINDS``.
        values: the texts of a binary, category or ordinal column, in the order of their codes.
        unit: one in the model's units is this many in the file's; 1 for counts and codes.
        knots: quantiles of the training rows at equal steps of probability, in the model's units,
            from which an encoder's input is made normal (of columns of numbers), and from which
            covariates are drawn (of all kinds).
        given: whether it is a covariate: given to encoder and decoder, and no part of x.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()
    unit: float = 1.0
    knots: tuple[float, ...] = ()
    given: bool = False

    @property
    def is_discrete(self) -> bool:
        """Whether an entry is the code of a text."""
        return self.kind in DISCRETE

    @property
    def outputs(self) -> int:
        """Numbers that a decoder gives for it: a logit for each value of a category, else 1."""
        if self.given:
            return 0
        return len(self.values) if self.kind == "category" else 1

    @property
    def inputs(self) -> int:
        """Numbers that a network gets for its value, without the mask."""
        return len(self.values) if self.kind == "category" else 1

    def entry_of(self, value: object) -> float:
        """The entry of a row, in the file's units, for a value or its text.

        Raises:
            GMMVAEError: a value that the column does not have, or a number that its kind does not.
        """
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = str(value).strip()
        if self.is_discrete:
            if text not in self.values:
                raise unknown_name(f"value of {self.name}", text, list(self.values))
            return float(self.values.index(text))
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if self.kind == "count":
            wanted, is_one = "a whole number, 0 or more", number >= 0 and number % 1 == 0
        elif self.kind == "positive":
            wanted, is_one = "a positive number", number > 0
        else:
            wanted, is_one = "a number", True
        if not (math.isfinite(number) and is_one):
            raise GMMVAEError(f"{self.name}={text}: the column is {self.kind}; give {wanted}")
        return number

    def to_json(self) -> dict[str, Any]:
        """Plain values for :meth:`from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Column":
        """The column that :meth:`to_json` described.

        Raises:
            KeyError, TypeError, ValueError: content that does not describe a column.
        """
        kind, unit = content["kind"], float(content["unit"])
        if kind not in COLUMN_KINDS:
            raise unknown_name("kind of column", str(kind), list(COLUMN_KINDS))
        values = tuple(str(value) for value in content["values"])
        knots = tuple(float(knot) for knot in content["knots"])
        if (kind in DISCRETE) != (len(values) > 1) or (kind == "binary" and len(values) != 2):
            raise ValueError(f"column {content['name']!r}: {kind} with {len(values)} values")
        if not unit > 0 or list(knots) != sorted(knots) or len(knots) == 1:
            raise ValueError(f"column {content['name']!r}: unit or knots out of range")
        return cls(str(content["name"]), kind, values, unit, knots, bool(content["given"]))


def outputs_of(columns: Sequence[Column]) -> int:
    """Numbers that a decoder gives for a row."""
    return sum(column.outputs for column in columns)
