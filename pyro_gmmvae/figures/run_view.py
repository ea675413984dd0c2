"""What pictures of a run are drawn from, each thing computed once."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_table
from pyro_gmmvae.runs import Run
from pyro_gmmvae.runs.clusters import Clusters, read_clusters
from pyro_gmmvae.runs.data import TrainingData, some_of
from pyro_gmmvae.runs.folder import fitted_names
from pyro_gmmvae.runs.run import with_data_at

Array = np.ndarray[Any, Any]
MOST_ROWS = 20_000


class NotApplicable(GMMVAEError):  # noqa: N818 - nothing went wrong
    """A picture that this run does not have; the message is the reason."""


@dataclass(frozen=True)
class View:
    """A run and its data, as pictures look at them.

    What a run does not have raises :class:`NotApplicable`, or the
    :class:`~pyro_gmmvae.errors.GMMVAEError` that says what is wrong with its data.

    Attributes:
        run: the trained run.
        data: where its data is now, if not where it was: the file, or the set's folder.
        projection: of z to the plane where it has more than two entries, "pca" or "umap".
    """

    run: Run
    data: str | None = None
    projection: str = "pca"

    @property
    def name(self) -> str:
        """Of the run: its folder's."""
        return self.run.path.resolve().name

    @property
    def model(self) -> Any:
        """The run's, in evaluation mode."""
        return self.run.model

    @property
    def has_components(self) -> bool:
        """Whether the model has components to look at: a q(s|x) and a p(z|s)."""
        return bool(self.model.factors)

    @cached_property
    def _loaded(self) -> TrainingData | GMMVAEError:
        # kept, so that data which is gone is looked for once
        try:
            return TrainingData.from_config(
                with_data_at(self.run.config, self.data), self.run.schema
            )
        except GMMVAEError as error:
            return error

    @property
    def rows(self) -> TrainingData:
        """The run's data, and who is in which part.

        Raises:
            GMMVAEError: data that can't be read or has changed.
        """
        if isinstance(self._loaded, GMMVAEError):
            raise self._loaded
        return self._loaded

    @cached_property
    def clusters(self) -> Clusters:
        """All rows under the run's components."""
        if not self.has_components:
            raise NotApplicable(f"the model {self.run.config.model!r} has no components")
        return read_clusters(self.run, rows=self.rows)

    @cached_property
    def history(self) -> pd.DataFrame:
        """A line per epoch, the columns those of ``history.csv``."""
        file = self.run.path / "history.csv"
        if not file.exists():
            raise NotApplicable("the run has no history.csv")
        try:
            table = read_table(file)
        except GMMVAEError as error:
            raise NotApplicable(str(error)) from error
        table = table.apply(pd.to_numeric, errors="coerce")
        if "epoch" not in table or not table["epoch"].notna().any():
            raise NotApplicable(f"{file} holds no epochs")
        return table[table["epoch"].notna()]

    @cached_property
    def test(self) -> Array:
        """(N,) numbers of test rows in the data, at most ``MOST_ROWS`` of them."""
        test = self.rows.split.test
        if not len(test):
            raise NotApplicable("the run has no test rows")
        return test[some_of(len(test), MOST_ROWS)]

    @cached_property
    def _part(self) -> tuple[Tensor, Tensor]:
        return self.rows.tensors(self.test, self.run.device)

    @property
    def x(self) -> Tensor:
        """(N, *x_shape) test rows in the model's units, on the run's device."""
        return self._part[0]

    @cached_property
    def sources(self) -> Array:
        """(N, *x_shape) the test rows in the file's units."""
        dataset = self.rows.dataset
        return np.asarray(dataset.kind.featurize_array(dataset.x[self.test]))

    @cached_property
    def y(self) -> Array:
        """(N,) true classes of the test rows, numbers in ``run.schema.classes``; -1: unknown."""
        return self._part[1].cpu().numpy()

    @cached_property
    def z(self) -> Array:
        """(N, d) posterior means of z of the test rows."""
        return self.run.embed(self.x)

    @cached_property
    def log_probs(self) -> Array:
        """(N, K) log q(y|x) of the test rows, in nats."""
        found = self.run.log_probs(self.x)
        if found is None:
            raise NotApplicable(f"the model {self.run.config.model!r} has no classes")
        return found

    @cached_property
    def class_names(self) -> list[str]:
        """K names of the model's components."""
        if not self.model.components:
            raise NotApplicable(f"the model {self.run.config.model!r} has no classes")
        return self.run.class_names()

    @property
    def noun(self) -> str:
        """What a component stands for: a class, or itself."""
        return "class" if fitted_names(self.run.config, self.run.schema) else "component"

    @property
    def unit(self) -> str:
        """What a row of the test part is."""
        return f"test {self.rows.groups.row_noun}"

    def shown(self, most: int) -> tuple[list[int], int]:
        """Numbers of the components to show, and how many there are in all.

        Classes stand in their order. Components that the fit found by itself stand with the
        largest first and without the unused ones, where the run's data is there to tell.
        """
        _ = self.class_names  # a model without classes has none to show
        found = self.run.components_of(None)
        if self.run.config.labels == 0 and self.has_components:
            with suppress(GMMVAEError):  # without data all are as large
                found = self.clusters.used.tolist()
        return found[:most], len(found)
