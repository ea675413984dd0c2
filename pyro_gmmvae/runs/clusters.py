"""Clusters: the component of each row of a run's data, its probability, and typical rows."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import (
    assignment_entropy,
    components_in_use,
)
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.run import Run, with_data_at

Array = np.ndarray[Any, Any]
ROWS_AT_ONCE = 4096
# rows with log q(s|x) this close differ by rounding only, and are ordered by their z
TOLERANCE = 1e-4  # nats


@dataclass(frozen=True)
class Clusters:
    """The component of each row of a run's data, or of each sequence where rows are windows.

    The log-probabilities of a sequence are pooled over its windows, its z is their mean, and its
    picture is that of the window with the highest probability of the component.

    Attributes:
        run: the run with the components.
        rows: the data of the run.
        ids: (U,) row numbers as ``predict`` counts them, or names of sequences.
        of_row: (N,) the index in ``ids`` of each row of the data.
        row_log_probs: (N, K) log q(s|x) of the rows.
        log_probs: (U, K) log q(s|x) of the rows or sequences in ``ids``.
        z: (U, d) posterior means.
    """

    run: Run
    rows: TrainingData
    ids: Array
    of_row: Array
    row_log_probs: Array
    log_probs: Array
    z: Array

    @property
    def unit(self) -> str:
        """The column of ``ids`` in tables: "row" or "sequence"."""
        return self.rows.groups.noun

    @cached_property
    def component(self) -> Array:
        """(U,) numbers of the most probable components."""
        return np.asarray(self.log_probs.argmax(1))

    @cached_property
    def entropy(self) -> Array:
        """(U,) entropy of q(s|x), in nats."""
        return assignment_entropy(self.log_probs)

    @cached_property
    def sizes(self) -> Array:
        """(K,) the number of rows (or sequences) in each component."""
        return np.bincount(self.component, minlength=self.log_probs.shape[1])

    @cached_property
    def used(self) -> Array:
        """Numbers of the components in use, the largest first."""
        return components_in_use(self.component)

    @torch.no_grad()
    def prototypes(self, components: Array) -> tuple[Array, Array]:
        """Prototypes of components: the means of p(z|s), (n, d), and x decoded from them.

        x, (n, *x_shape), is in the file's units.
        """
        model = self.run.model
        s = torch.eye(self.log_probs.shape[1]).to(next(model.parameters()))[components]
        loc = model.prior_of_z(s).mean
        x = model.decode(loc, s).cpu().numpy()
        return loc.cpu().numpy(), self.run.schema.transform.invert(x)

    def members(self, component: int) -> tuple[Array, Array]:
        """Indices in ``ids`` of the members of a component, in two orders.

        The nearest first (highest log q(s_k|x); among equal ones, closest to the component's mean
        of z), and the least certain first (highest entropy).
        """
        members = np.flatnonzero(self.component == component)
        center = self.prototypes(np.array([component]))[0]
        distance = np.linalg.norm(self.z[members] - center, axis=1)
        rounded = np.round(self.log_probs[members, component] / TOLERANCE)
        nearest = members[np.lexsort((distance, -rounded))]
        return nearest, members[np.argsort(-self.entropy[members], kind="stable")]

    def pictured(self, places: Array, component: int) -> Array:
        """Row numbers of the data that show the rows or sequences at indices in ``ids``."""
        surest = []
        for place in places:
            windows = np.flatnonzero(self.of_row == place)
            surest.append(windows[self.row_log_probs[windows, component].argmax()])
        return np.array(surest, np.int64)

    def table(self) -> pd.DataFrame:
        """A line per row (or sequence): part, component, name, probability, entropy (nats).

        ``name`` is that of the component; ``predict`` sums components with the same name.
        """
        part = np.full(len(self.of_row), "none", object)
        for name in ("train", "validation", "test"):
            part[getattr(self.rows.split, name)] = name
        first = np.unique(self.of_row, return_index=True)[1]
        return pd.DataFrame(
            {
                self.unit: self.ids,
                "part": part[first],
                "component": self.component,
                "name": np.asarray(self.run.class_names())[self.component],
                "probability": np.exp(self.log_probs.max(1)),
                "entropy": self.entropy,
            }
        )


def read_clusters(
    run: Run, data: str | None = None, *, rows: TrainingData | None = None
) -> Clusters:
    """Assign every row of a run's data to a component.

    Args:
        run: the trained run.
        data: the new path of the data, if it was moved: the file, or the set's folder.
        rows: the data, if it was read already.

    Raises:
        GMMVAEError: a model without components, or data that can't be read or has changed.
    """
    if not run.model.factors:
        raise GMMVAEError(f"the model {run.config.model!r} has no components; gmmvae and m2 have")
    rows = rows or TrainingData.from_config(with_data_at(run.config, data), run.schema)
    chunks, means = [], []
    for numbers in np.split(
        np.arange(len(rows.dataset.x)), range(ROWS_AT_ONCE, len(rows.dataset.x), ROWS_AT_ONCE)
    ):
        x = rows.tensors(numbers, run.device)[0]
        chunks.append(run.log_probs(x))
        means.append(run.embed(x))
    log_probs, z = np.concatenate([c for c in chunks if c is not None]), np.concatenate(means)
    groups, numbers = rows.groups, np.arange(len(rows.dataset.x))
    present, of_row = groups.among(numbers)
    pooled, means_of_z = groups.pool(log_probs, numbers), groups.mean(z, numbers)
    return Clusters(run, rows, groups.names[present], of_row, log_probs, pooled, means_of_z)
