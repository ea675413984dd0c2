"""Names for the components of a fit without labels, from a few labelled rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyro_gmmvae.data.row_labels import is_unlabelled
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_text_table
from pyro_gmmvae.runs.clusters import Clusters
from pyro_gmmvae.runs.component_names import component_names


@dataclass(frozen=True)
class LabelTable:
    """Labels of rows, sequences or components, as read from a file.

    Attributes:
        unit: what is labelled: "row", "sequence" or "component".
        labels: the label of each, by the text in the file's column ``unit``.
    """

    unit: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Naming:
    """Names for the components of a run.

    Attributes:
        names: K names, "component_k" for a component without labels.
        counts: for each labelled component, how often each name was given.
        tested: the number of labelled rows that are in the test part.
    """

    names: tuple[str, ...]
    counts: dict[int, dict[str, int]]
    tested: int

    def conflicts(self) -> list[str]:
        """A line for each component whose labels disagree."""
        return [
            f"component {k}: its labels disagree "
            f"({', '.join(f'{name} {count}' for name, count in names.items())}); "
            f"it is named {self.names[k]}"
            for k, names in sorted(self.counts.items())
            if len(names) > 1
        ]


def read_labels(file: Path, unit: str) -> LabelTable:
    """Read a CSV with the columns ``unit`` ("row" or "sequence") or "component", and "label".

    If a file has both columns, as clusters.csv with a label added, the rows are labelled. Other
    columns are ignored.

    Raises:
        GMMVAEError: a file that can't be read or has other columns, an empty label, or two labels
            of one row.
    """
    table = read_text_table(file)
    keys = [key for key in (unit, "component") if key in table.columns]
    if "label" not in table.columns or not keys:
        raise GMMVAEError(
            f"{file} has the columns {', '.join(map(str, table.columns[:6]))}; it needs "
            f"{unit},label or component,label"
        )
    if not len(table):
        raise GMMVAEError(f"{file} holds no labels: write a line for each")
    labels: dict[str, str] = {}
    for line, (key, label) in enumerate(table[[keys[0], "label"]].itertuples(index=False), 2):
        key, label = key.strip(), label.strip()
        if is_unlabelled(label):
            raise GMMVAEError(
                f"{file} line {line}: the label of {keys[0]} {key or '?'} is {label or 'empty'}, "
                "which is none; write one, or leave the line out"
            )
        key = key if keys[0] == "sequence" else _whole_number(key, keys[0], f"{file} line {line}")
        if labels.setdefault(key, label) != label:
            raise GMMVAEError(
                f"{file} line {line}: {keys[0]} {key} is called {labels[key]!r} and {label!r}; "
                "keep one"
            )
    return LabelTable(keys[0], labels)


def _whole_number(text: str, key: str, where: str) -> str:
    """The number without a decimal point; pandas writes 7 as 7.0 in a column with gaps."""
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    if not np.isfinite(number) or number != int(number):
        raise GMMVAEError(f"{where}: {key} {text!r} is not a whole number")
    return str(int(number))


def name_components(
    clusters: Clusters, labels: LabelTable, source: str, *, allow_unnamed: bool = False
) -> Naming:
    """Name each component by its most frequent label.

    The name is the label with the largest sum of q(s_k|x) over the labelled rows whose most
    probable component it is.

    Args:
        clusters: the components of the run's rows.
        labels: of rows or sequences, or of components themselves.
        source: the labels' file, for errors.
        allow_unnamed: keep the name "component_k" of components in use without a label.

    Raises:
        GMMVAEError: no such row or component, or components in use without a label.
    """
    K = clusters.log_probs.shape[1]
    place_of = {str(k): k for k in range(K)}
    if labels.unit != "component":
        place_of = {str(one): place for place, one in enumerate(clusters.ids)}
    for key in labels.labels:
        if key not in place_of:
            raise GMMVAEError(_unknown(key, labels.unit, clusters, source))
    places = np.array([place_of[key] for key in labels.labels], np.int64)
    if labels.unit == "component":
        components, weights, tested = places, np.ones(len(places)), 0
    else:
        components = clusters.component[places]
        weights = np.exp(clusters.log_probs[places, components])
        tested = int((clusters.table()["part"].to_numpy()[places] == "test").sum())
    names = component_names((), K)
    counts: dict[int, dict[str, int]] = {}
    texts = np.asarray(list(labels.labels.values()))
    for k in np.unique(components).tolist():
        chosen = components == k
        present, which, numbers = np.unique(texts[chosen], return_inverse=True, return_counts=True)
        names[k] = str(present[np.bincount(which, weights[chosen]).argmax()])
        counts[k] = {str(label): int(n) for label, n in zip(present, numbers, strict=True)}
    uncovered = sorted(set(clusters.used.tolist()) - set(counts))
    if uncovered and not allow_unnamed:
        raise GMMVAEError(_uncovered(uncovered, labels.unit, clusters, source))
    return Naming(tuple(names), counts, tested)


def _unknown(key: str, of: str, clusters: Clusters, source: str) -> str:
    if of == "component":
        return f"{source}: there is no component {key}; they are 0 to {len(clusters.sizes) - 1}"
    if of == "sequence":
        return f"{source}: the run's data has no sequence {key!r}; clusters.csv lists them"
    last = int(clusters.ids[-1])
    return f"{source}: the run's data has no row {key}; they are 0 to {last}, as in clusters.csv"


def _uncovered(uncovered: list[int], of: str, clusters: Clusters, source: str) -> str:
    """The error for components without a label, with the row of each to label next."""
    unit = clusters.unit
    listed = ", ".join(f"{k} ({unit} {clusters.ids[clusters.members(k)[0][0]]})" for k in uncovered)
    what = f"labelled {unit}" if of != "component" else "label"
    return (
        f"{source}: these components have no {what}: {listed}; label the {unit} named with "
        "each, or leave them without a name with --allow-unnamed"
    )


def summary(clusters: Clusters, naming: Naming) -> pd.DataFrame:
    """A line per component: its number, its name, and its number of rows (or sequences)."""
    columns: dict[str, Any] = {"component": range(len(naming.names)), "name": naming.names}
    return pd.DataFrame(columns | {f"{clusters.unit}s": clusters.sizes})
