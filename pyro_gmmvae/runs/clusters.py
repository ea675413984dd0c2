"""All rows of a run's data under its components: who is where, how surely, and who is typical."""

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
# log q(s|x) of sure rows differ by rounding alone; closeness in z says more of them
SAME = 1e-4  # nats


@dataclass(frozen=True)
class Clusters:
    """The rows of a run's data under its components; of sequences, the whole sequences.

    A sequence's log-probabilities are pooled over its windows, its z is their mean, and its
    picture is that of the window that is surest of the component.

    Attributes:
        run: whose components they are.
        rows: the run's data.
        ids: (U,) row numbers as ``predict`` counts them, or names of sequences.
        of_row: (N,) the place in ``ids`` of each row of the data.
        row_log_probs: (N, K) log q(s|x) of the rows.
        log_probs: (U, K) the same of what ``ids`` names.
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
        """What ``ids`` names: the column of tables."""
        return self.rows.groups.noun

    @cached_property
    def component(self) -> Array:
        """(U,) the likeliest ones."""
        return np.asarray(self.log_probs.argmax(1))

    @cached_property
    def entropy(self) -> Array:
        """(U,) of q(s|x), nats."""
        return assignment_entropy(self.log_probs)

    @cached_property
    def sizes(self) -> Array:
        """(K,) how many have each component as their likeliest."""
        return np.bincount(self.component, minlength=self.log_probs.shape[1])

    @cached_property
    def used(self) -> Array:
        """Numbers of the components in use, the largest first."""
        return components_in_use(self.component)

    @torch.no_grad()
    def prototypes(self, components: Array) -> tuple[Array, Array]:
        """At the vertices of some components: means of p(z|s) (n, d), and of x decoded there.

        The latter, (n, *x_shape), is in the file's units.
        """
        model = self.run.model
        s = torch.eye(self.log_probs.shape[1]).to(next(model.parameters()))[components]
        loc = model.prior_of_z(s).mean
        x = model.decode(loc, s).cpu().numpy()
        return loc.cpu().numpy(), self.run.schema.transform.invert(x)

    def members(self, component: int) -> tuple[Array, Array]:
        """Places in ``ids`` of those whose likeliest component it is, in two orders.

        The nearest first (highest log q(s_k|x); of those alike, closest to the component's mean
        of z), and the least certain first (highest entropy).
        """
        mine = np.flatnonzero(self.component == component)
        center = self.prototypes(np.array([component]))[0]
        distance = np.linalg.norm(self.z[mine] - center, axis=1)
        sure = np.round(self.log_probs[mine, component] / SAME)
        nearest = mine[np.lexsort((distance, -sure))]
        return nearest, mine[np.argsort(-self.entropy[mine], kind="stable")]

    def pictured(self, places: Array, component: int) -> Array:
        """Row numbers of the data that show what is at places in ``ids``."""
        surest = []
        for place in places:
            windows = np.flatnonzero(self.of_row == place)
            surest.append(windows[self.row_log_probs[windows, component].argmax()])
        return np.array(surest, np.int64)

    def table(self) -> pd.DataFrame:
        """A line each: row (or sequence), part, component, name, probability, entropy (nats).

        ``name`` is the component's; ``predict`` adds up components that share one.
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
    """Assign every row of a run's data.

    Args:
        run: the trained run.
        data: where the data is now, if not where it was: the file, or the set's folder.
        rows: the data, where it has been read already.

    Raises:
        GMMVAEError: a model without components, or data that can't be read or has changed.
    """
    if not run.model.factors:
        raise GMMVAEError(
            f"the model {run.config.model!r} has no components to read; gmmvae has, and m2"
        )
    rows = rows or TrainingData.from_config(with_data_at(run.config, data), run.schema)
    found, means = [], []
    for numbers in np.split(
        np.arange(len(rows.dataset.x)), range(ROWS_AT_ONCE, len(rows.dataset.x), ROWS_AT_ONCE)
    ):
        x = rows.tensors(numbers, run.device)[0]
        found.append(run.log_probs(x))
        means.append(run.embed(x))
    log_probs, z = np.concatenate([f for f in found if f is not None]), np.concatenate(means)
    groups, numbers = rows.groups, np.arange(len(rows.dataset.x))
    present, of_row = groups.among(numbers)
    pooled, means_of_z = groups.pool(log_probs, numbers), groups.mean(z, numbers)
    return Clusters(run, rows, groups.names[present], of_row, log_probs, pooled, means_of_z)
