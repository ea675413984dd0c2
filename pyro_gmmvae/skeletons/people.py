"""Tables of people, splits and further factors that belong to tracks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyro_gmmvae.data.row_labels import is_unlabelled
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_text_table

SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
Entries = tuple[str | None, ...]


@dataclass(frozen=True)
class People:
    """Labels of sequences, one entry each; None where unknown.

    Attributes:
        person: names.
        split: "train", "val" or "test"; all None: to be drawn.
        factors: further columns, a name and its entries.
    """

    person: Entries
    split: Entries
    factors: Mapping[str, Entries] = field(default_factory=dict)

    @classmethod
    def unknown(cls, sequences: int) -> "People":
        """Sequences without any label."""
        return cls((None,) * sequences, (None,) * sequences)


def read_people(path: Path, sequences: Sequence[str]) -> People:
    """Read the labels of some sequences.

    The file is a CSV with the columns sequence, person (empty or -1: unknown) and, optionally,
    split (train, val, test) and one for each further factor. Sequences that it does not list are
    unlabelled training sequences.

    Raises:
        GMMVAEError: a file that can't be read or lacks a column, sequences that are not among the
            tracks, one sequence with two people, or an unknown split.
    """
    table = read_text_table(path)
    for column in ("sequence", "person"):
        if column not in table.columns:
            raise GMMVAEError(
                f"{path} lacks the column {column!r}; it has {', '.join(table.columns)}"
            )
    if table.empty:
        raise GMMVAEError(f"{path} holds no rows")
    labels = table.columns.difference(["sequence", "split"])
    table[labels] = table[labels].mask(table[labels].map(is_unlabelled), "")
    known = set(sequences)
    missing = [name for name in table["sequence"].unique() if name not in known]
    if missing:
        raise GMMVAEError(
            f"{path} names {len(missing)} sequences that are not among the tracks (the first: "
            f"{missing[0]!r})"
        )
    for column in table.columns.drop("sequence"):
        values = table.loc[table[column] != ""].groupby("sequence")[column].unique()
        repeated = values[values.map(len) > 1]
        if len(repeated):
            one, other, *_ = repeated.iloc[0]
            raise GMMVAEError(
                f"{path}: sequence {repeated.index[0]!r} has two entries under {column}: "
                f"{one!r} and {other!r}"
            )
    # lines of one sequence complete each other
    merged = table.groupby("sequence").max().reindex(list(sequences), fill_value="")
    entries = {c: tuple(value or None for value in merged[c]) for c in merged.columns}
    splits = entries.pop("split", (None,) * len(sequences))
    if any(splits):
        splits = tuple(_split(name, path) if name else "train" for name in splits)
    return People(entries.pop("person"), splits, entries)


def _split(name: str, path: Path) -> str:
    if name not in SPLITS:
        raise GMMVAEError(f"{path}: split must be train, val or test, not {name!r}")
    return SPLITS[name]
