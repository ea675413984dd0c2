"""Remarks on a table that a user should see: its labels, and columns and rows that are repeated."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data.column_kinds import alike_texts, listed
from pyro_gmmvae.data.frames import RawFrame
from pyro_gmmvae.data.transform import Labels

USUAL_LABELS = ("label", "labels", "class", "classes", "target", "y", "outcome", "diagnosis")
FEWEST_LABELS = 20  # with fewer, a column can equal the labels by chance


def lookalike_note(names: Iterable[str]) -> list[str]:
    """A line on a column that may be meant as the label."""
    near = [name for name in names if name.casefold() in USUAL_LABELS]
    if not near:
        return []
    return [f"column {near[0]!r} looks like the label: if it is, give --label-column {near[0]}"]


def label_notes(
    x: NDArray[Any], y: Labels, classes: Sequence[str], columns: Sequence[Column]
) -> list[str]:
    """Lines on labels that are alike or occur once, and on columns that equal the label.

    Args:
        x: rows (N, D).
        y: (N,) class numbers, -1 where unknown.
        classes: the classes' names.
        columns: D of them.
    """
    notes = [f"of the labels, {text}" for text in alike_texts(classes)]
    counts = np.bincount(y[y >= 0], minlength=len(classes))
    once = [name for name, count in zip(classes, counts, strict=True) if count == 1]
    if once:
        notes.append(f"labels that occur once: {listed(once)}")
    same = [columns[place].name for place in _equal_to_labels(x, y)]
    if same:
        notes.append(
            f"columns that equal the label: {listed(same)}; leave such a column out with "
            f"--column {same[0]}=skip"
        )
    return notes


def _equal_to_labels(x: NDArray[Any], y: Labels) -> list[int]:
    """Places of the columns that have one value for each class, and another one for each."""
    labelled = np.flatnonzero(y >= 0)
    if len(labelled) < FEWEST_LABELS:
        return []
    present, first, codes = np.unique(y[labelled], return_index=True, return_inverse=True)
    if len(present) < 2:
        return []
    of_class = x[labelled[first]]
    few = labelled[:200]
    places = np.flatnonzero((x[few] == of_class[codes[:200]]).all(0))
    return [
        int(place)
        for place in places
        if len(np.unique(of_class[:, place])) == len(present)
        and (x[labelled, place] == of_class[codes, place]).all()
    ]


def duplicate_notes(frame: RawFrame, columns: Sequence[Column]) -> list[str]:
    """Lines on columns of the model with the same values, and on rows that occur several times."""
    seen: dict[tuple[str, bytes], str] = {}
    notes = []
    for name in (column.name for column in columns):
        values = frame.table[name]
        kind = values.dtype.kind
        numbers = values if kind == "f" else values.cat.codes
        digest = (kind, hashlib.sha256(numbers.to_numpy().tobytes()).digest())
        if digest in seen and not values.isna().all():
            notes.append(f"column {name!r} has the values of {seen[digest]!r}")
        seen.setdefault(digest, name)
    repeated = int(frame.table.duplicated().sum())
    if repeated:
        notes.append(f"{repeated} rows occur before (duplicates)")
    return notes
