"""Groups of rows that are evaluated together: single rows, or the windows of sequences."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.data.splits import Split, split_rows
from pyro_gmmvae.data.transform import Labels

Array = NDArray[Any]


@dataclass(frozen=True)
class RowGroups:
    """Groups of rows that are evaluated together; here each row is a group.

    In all methods ``rows`` are numbers of rows of the data set, and values (len(rows), ...)
    belong to these rows.

    Attributes:
        names: (G,) of the groups, as tables list them: numbers of rows in the file.
        of_row: (N,) the number of each row's group.
        noun: the name of a group in tables and captions.
        row_noun: the name of a row.
        merges: whether a group can hold several rows.
    """

    noun: ClassVar[str] = "row"
    row_noun: ClassVar[str] = "row"
    merges: ClassVar[bool] = False
    names: Array
    of_row: Labels

    @classmethod
    def of_single_rows(cls, names: Array) -> "RowGroups":
        """One group per row, with the rows' numbers in the file."""
        return cls(names, np.arange(len(names)))

    def among(self, rows: Labels) -> tuple[Labels, Labels]:
        """Groups that occur among rows, and (len(rows),) the place of each row's group in them."""
        return rows, np.arange(len(rows))

    def mean(self, values: Array, rows: Labels) -> Array:  # noqa: ARG002
        """(groups among rows, ...) the mean of the values of each group's rows."""
        return values

    def pool(self, log_probs: Array, rows: Labels) -> Array:  # noqa: ARG002
        """(groups among rows, K) log-probabilities of groups from those of their rows."""
        return log_probs

    def split(self, y: Labels, **sizes: Any) -> Split:
        """:func:`pyro_gmmvae.data.split_rows` of whole groups; sizes count groups."""
        return split_rows(y, **sizes)

    def describe(self, shape: str) -> str:
        """The number of groups and rows, and the shape of a row, in words."""
        return f"{len(self.names)} rows of {shape}"

    def notes(self, split: Split) -> list[str]:  # noqa: ARG002
        """Return sentences for the user about a split."""
        return []

    def captions(self, rows: Labels) -> list[str]:
        """(len(rows),) the group of each row, in words."""
        return [f"row {number}" for number in self.names[rows]]

    def first(self, values: Array, rows: Labels) -> Array:
        """(groups among rows, ...) of values that all rows of a group share, such as y."""
        groups, place = self.among(rows)
        shared = np.empty((len(groups), *values.shape[1:]), values.dtype)
        shared[place] = values
        return shared

    def count(self, rows: Labels) -> int:
        """The number of groups among rows."""
        return len(self.among(rows)[0])


@dataclass(frozen=True)
class Sequences(RowGroups):
    """Rows that are windows of sequences, which have one label each.

    Attributes:
        names: (S,) of the sequences.
        of_row: (N,) the number of each row's sequence.
        frames: (S,) each sequence's frames, to find frames that occur in two sequences.
        unknown_person: (S,) number of a person who is not a class, -1 for the other sequences.
        unknown_names: those people's names.
    """

    noun: ClassVar[str] = "sequence"
    row_noun: ClassVar[str] = "window"
    merges: ClassVar[bool] = True
    frames: tuple[frozenset[bytes], ...]
    unknown_person: Labels
    unknown_names: tuple[str, ...]

    def among(self, rows: Labels) -> tuple[Labels, Labels]:
        groups, place = np.unique(self.of_row[rows], return_inverse=True)
        return groups, place

    def mean(self, values: Array, rows: Labels) -> Array:
        return mean_by_group(values, self.among(rows)[1])

    def pool(self, log_probs: Array, rows: Labels) -> Array:
        return pool_by_group(log_probs, self.among(rows)[1])

    def split(self, y: Labels, **sizes: Any) -> Split:
        """:func:`split_rows` of whole sequences: all rows of one are in the same part.

        Sizes count sequences; given parts are row numbers, as there. Sequences without any
        row are in no part.
        """
        present, first = np.unique(self.of_row, return_index=True)

        def in_sequences(part: int | float | Labels) -> Any:
            if not isinstance(part, np.ndarray):
                return part
            return np.searchsorted(present, np.unique(self.of_row[part]))

        sizes |= {name: in_sequences(sizes[name]) for name in ("test", "validation")}
        if sizes.get("together") is not None:
            sizes["together"] = sizes["together"][first]
        split = split_rows(y[first], **sizes)
        parts = (split.train, split.validation, split.test, split.labelled)
        return Split(*(self.rows_of(present[part]) for part in parts))

    def describe(self, shape: str) -> str:
        return f"{len(self.names)} sequences in {len(self.of_row)} windows of {shape}"

    def notes(self, split: Split) -> list[str]:
        notes = []
        if self.unknown_names:
            number = len(self.unknown_names)
            notes.append(f"people in the test set without a training class: {number}")
        shared = self.shared_frames(self.of_row[split.train], self.of_row[split.test])
        if shared:
            notes.append(f"{shared} frames occur in both training and test sequences")
        return notes

    def captions(self, rows: Labels) -> list[str]:
        return [str(name) for name in self.names[self.of_row[rows]]]

    def shared_frames(self, some: Labels, others: Labels) -> int:
        """The number of different frames that occur both in some sequences and in others."""
        frames = set().union(*(self.frames[s] for s in np.unique(some)))
        return len(frames & set().union(*(self.frames[s] for s in np.unique(others))))

    def with_unknown(self, name: str, rows: Labels) -> "Sequences":
        """The same sequences; the person of those of some rows is not a class."""
        unknown = self.unknown_person.copy()
        unknown[self.of_row[rows]] = len(self.unknown_names)
        return replace(self, unknown_person=unknown, unknown_names=(*self.unknown_names, name))

    def rows_of(self, sequences: Labels) -> Labels:
        """Numbers of the rows of these sequences."""
        return np.flatnonzero(np.isin(self.of_row, sequences))


def mean_by_group(values: Array, group: Labels) -> Array:
    """(G, ...) means of values (N, ...) over the groups (N,) of rows; all G groups occur."""
    total = np.zeros((int(group.max()) + 1, *values.shape[1:]))
    np.add.at(total, group, values)
    count = np.bincount(group).reshape(-1, *(1,) * (values.ndim - 1))
    return np.asarray(total / count)


def pool_by_group(log_probs: Array, group: Labels) -> Array:
    """(G, K) log-probabilities of groups from those (N, K) of their rows, normalized means.

    Windows overlap and resemble each other: the mean is taken and not the sum, so that a long
    sequence is not more certain than it should be.

    Args:
        log_probs: (N, K) log q(y|x) of rows.
        group: (N,) the group of each row, from 0; all groups occur.
    """
    from scipy.special import log_softmax

    return np.asarray(log_softmax(mean_by_group(log_probs, group), axis=-1))
