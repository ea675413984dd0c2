"""Predictions for the rows of a file, or for the sequences of a table of tracks."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.data import DataOptions, load_array
from pyro_gmmvae.data.row_groups import mean_by_group, pool_by_group
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEWarning
from pyro_gmmvae.evaluation import sum_by_name
from pyro_gmmvae.runs.answers import Answers, answers_for_coverage
from pyro_gmmvae.skeletons import PoseWindow

if TYPE_CHECKING:
    from pyro_gmmvae.runs.run import Run

Array = np.ndarray[Any, Any]
Columns = dict[str, Array]


@dataclass(frozen=True)
class NewRows:
    """Rows to predict, for runs of any units.

    Attributes:
        columns: that name the rows: numbers in the file, or sequences and how many windows.
        inputs: the rows, or windows, in the units of a run.
        group: of each window its sequence, from 0; None: rows are single.
        present: (N,) whether there is anything to predict: a sequence can lack windows.
        labelled: (N,) whether the file has a label of the row, where they were read.
    """

    columns: Columns
    inputs: "Callable[[Run], Array]"
    group: Labels | None
    present: Array
    labelled: Array

    def tensor(self, run: "Run") -> Tensor:
        """The inputs on the run's device."""
        return torch.from_numpy(self.inputs(run)).to(run.device, run.dtype)

    def log_probs(self, run: "Run", x: Tensor) -> tuple[list[str], Array] | None:
        """Names of classes, and (present rows, names) log-probabilities; None without classes.

        Components of one name are summed before the windows of a sequence are pooled: a sequence
        whose windows alternate between two of them is certainly of that name.
        """
        log_probs = run.log_probs(x)
        if log_probs is None:
            return None
        names, of_names = sum_by_name(log_probs, run.class_names())
        return names, of_names if self.group is None else pool_by_group(of_names, self.group)

    def elbo(self, run: "Run", x: Tensor) -> Array:
        """(present rows,) ELBO in nats; of a sequence the mean over its windows."""
        elbo = run.elbo(x)
        return elbo if self.group is None else mean_by_group(elbo, self.group)

    def embed(self, run: "Run", x: Tensor) -> Array:
        """(present rows, d) posterior means of z; of a sequence the mean over its windows."""
        z = run.embed(x)
        return z if self.group is None else mean_by_group(z, self.group)

    def spread(self, values: Array) -> Array:
        """Values of the present rows as those of all rows, with NaN or "" for the others."""
        missing = "" if values.dtype.kind == "U" else np.nan
        if self.present.all():
            return values
        full = np.full((len(self.present), *values.shape[1:]), missing, values.dtype)
        full[self.present] = values
        return full


def rows_to_predict(
    run: "Run",
    file: Path,
    *,
    drop_nonfinite: bool = False,
    given: Mapping[str, Any] | None = None,
    read_labels: bool | None = False,
) -> NewRows:
    """Read the rows of a file, or the tracks that it holds.

    Args:
        run: the run.
        file: the rows.
        drop_nonfinite: leave out rows with missing cells or infinite values.
        given: values of covariates by name, in the place of each row's own.
        read_labels: None: read labels where there are some, to see which rows have one.

    Raises:
        GMMVAEError: a file that can't be read, or rows or tracks of another kind.
    """
    kind = run.schema.kind
    if isinstance(kind, PoseWindow):
        tracks, windows = kind.read(file)
        counts = np.bincount(windows.of_track, minlength=len(tracks))
        names = np.array([track.sequence for track in tracks], str)
        return NewRows(
            {"sequence": names, "windows": counts},
            lambda one: one.schema.featurize(windows.x),
            np.unique(windows.of_track, return_inverse=True)[1],
            counts > 0,
            np.zeros(len(tracks), bool),
        )
    options = DataOptions(
        label_column=run.config.label_column,
        missing=run.config.missing,
        drop_nonfinite=drop_nonfinite,
    )
    kind = run.schema.kind_of_files(given)
    dataset = load_array(file, options, kind=kind, read_labels=read_labels)
    return NewRows(
        {"row": dataset.row_numbers},
        lambda one: one.schema.rows_for_model(dataset, str(file), given),
        None,
        np.ones(len(dataset.row_numbers), bool),
        dataset.y >= 0,
    )


def predict_columns(
    run: "Run",
    file: Path,
    *,
    drop_nonfinite: bool = False,
    given: Mapping[str, Any] | None = None,
    raw: bool = False,
    coverage: float | None = None,
) -> Columns:
    """The columns of :meth:`pyro_gmmvae.runs.Run.predict` by name.

    Raises:
        GMMVAEError: as there.
    """
    answers = answers_for_coverage(run, coverage)
    rows = rows_to_predict(run, file, drop_nonfinite=drop_nonfinite, given=given)
    x = rows.tensor(run)
    elbo = rows.elbo(run, x)
    table, found = dict(rows.columns), rows.log_probs(run, x)
    if found is not None:
        names, log_probs = found
        probs = np.exp(log_probs if raw or answers is None else answers.calibrated(log_probs))
        label = rows.spread(np.asarray(names)[log_probs.argmax(1)])
        if rows.group is None:
            table["label"] = label
        else:
            table |= {"person": label, "probability": rows.spread(probs.max(1))}
        table |= {f"p_{name}": rows.spread(probs[:, k]) for k, name in enumerate(names)}
    table["elbo" if run.has_bound else "log_px"] = rows.spread(elbo)
    table["elbo_quantile"] = rows.spread(run.elbo_quantile(elbo))
    if answers is not None and found is not None:
        table["new"] = rows.spread(answers.new(found[1], elbo))
        if coverage is not None:
            table["set"] = rows.spread(_sets(answers, rows, coverage))
    return table


def _sets(answers: Answers, rows: NewRows, coverage: float) -> Array:
    """(present rows,) names of the classes in the set of each, joined by "|"."""
    by_fold = []
    for one in answers.models():
        with warnings.catch_warnings(action="ignore", category=GMMVAEWarning):  # given before
            x = rows.tensor(one)
        found = rows.log_probs(one, x)
        assert found is not None
        by_fold.append(found[1])
    classes = np.asarray(answers.run.schema.classes)
    sets = answers.sets(np.stack(by_fold), coverage)
    return np.array(["|".join(classes[row]) for row in sets], str)
