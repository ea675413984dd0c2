"""A trained run prepared for pictures: data, latents and classes, each computed once."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import read_table
from pyro_gmmvae.models import LatentModel
from pyro_gmmvae.runs import Run
from pyro_gmmvae.runs.clusters import Clusters, read_clusters
from pyro_gmmvae.runs.component_names import fitted_names
from pyro_gmmvae.runs.data import TrainingData, some_of
from pyro_gmmvae.runs.run import with_data_at

Array = np.ndarray[Any, Any]
MAX_ROWS = 20_000
MAX_EPOCHS = 2000  # of a curve
LARGEST = 1e150  # larger numbers of a history are left out, as their squares overflow
ROWS_AT_ONCE = 4096


class NotApplicable(GMMVAEError):  # noqa: N818 - not a failure
    """A picture that does not exist for this run; the message is the reason."""


@dataclass(frozen=True)
class RunView:
    """A run and its data, prepared for pictures.

    An attribute that the run does not have raises :class:`NotApplicable`; one that needs data
    which can't be read raises :class:`~pyro_gmmvae.errors.GMMVAEError`.

    Args:
        run: the trained run.
        data: where its data is now, if it has moved: the file, or the set's folder.
        projection: of z to the plane where it has more than two entries, "pca" or "umap".
    """

    run: Run
    data: str | None = None
    projection: str = "pca"

    # -- the run -------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.run.path.resolve().name

    @property
    def model(self) -> LatentModel:
        """The run's model, in evaluation mode."""
        return self.run.model

    @property
    def has_classes(self) -> bool:
        """Whether p(x, z) depends on a class s."""
        return bool(self.model.factors)

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the model's K components."""
        if not self.model.components:
            raise NotApplicable(f"the model {self.run.config.model!r} has no classes")
        return self.run.class_names()

    @property
    def noun(self) -> str:
        """The word for a component: "class" where labels named it, else "component"."""
        return "class" if fitted_names(self.run.config, self.run.schema) else "component"

    @property
    def prior_name(self) -> str:
        """The formula of the prior of z."""
        return "p(z|s)" if self.model.mixture_priors else "p(z)"

    @cached_property
    def history(self) -> pd.DataFrame:
        """The table ``history.csv``, a line per epoch; of a long fit at most ``MAX_EPOCHS``."""
        file = self.run.path / "history.csv"
        if not file.exists():
            raise NotApplicable("the run has no history.csv")
        try:
            table = read_table(file)
        except GMMVAEError as error:
            raise NotApplicable(str(error)) from error
        table = table.apply(pd.to_numeric, errors="coerce")
        table = table.where(table.abs() < LARGEST)
        if "epoch" not in table or not (table["epoch"] > 0).any():
            raise NotApplicable(f"{file} holds no epochs")
        table = table[table["epoch"] > 0]
        step = -(-len(table) // MAX_EPOCHS)
        return table.iloc[::-step][::-1]  # with the last one

    # -- its data ------------------------------------------------------------------------------

    @cached_property
    def _loaded(self) -> TrainingData | GMMVAEError:
        # the error is kept, so that missing data is looked for once
        try:
            return TrainingData.from_config(
                with_data_at(self.run.config, self.data), self.run.schema
            )
        except GMMVAEError as error:
            return error

    @property
    def rows(self) -> TrainingData:
        """The run's data and its split.

        Raises:
            GMMVAEError: data that can't be read or has changed.
        """
        if isinstance(self._loaded, GMMVAEError):
            raise self._loaded
        return self._loaded

    @property
    def has_validation(self) -> bool:
        """Whether ``val_`` of the history is of validation rows; true where data is missing."""
        missing = isinstance(self._loaded, GMMVAEError)
        return missing or len(self.rows.split.validation) > 0

    @property
    def unit(self) -> str:
        """The word for a row of :attr:`test`."""
        part = "test" if len(self.rows.split.test) else "training"
        return f"{part} {self.rows.groups.row_noun}"

    @cached_property
    def clusters(self) -> Clusters:
        """The assignment of all rows to the run's components."""
        if not self.has_classes:
            raise NotApplicable(f"the model {self.run.config.model!r} has no components")
        return read_clusters(self.run, rows=self.rows)

    # -- its test rows -------------------------------------------------------------------------

    @cached_property
    def test(self) -> Array:
        """(N,) row numbers of test rows, at most ``MAX_ROWS``; of training rows without any."""
        split = self.rows.split
        rows = split.test if len(split.test) else split.train
        return rows[some_of(len(rows), MAX_ROWS)]

    @cached_property
    def _part(self) -> tuple[Tensor, Tensor]:
        return self.rows.tensors(self.test, self.run.device)

    @property
    def x(self) -> Tensor:
        """(N, *x_shape) test rows in the model's units, on the run's device."""
        return self._part[0]

    @cached_property
    def y(self) -> Array:
        """(N,) classes of the test rows, numbers in ``run.schema.classes``; -1: not known."""
        return self._part[1].cpu().numpy()

    @cached_property
    def sources(self) -> Array:
        """(N, *x_shape) test rows in the file's units."""
        dataset = self.rows.dataset
        return np.asarray(dataset.kind.featurize_array(dataset.x[self.test]))

    @cached_property
    def z(self) -> Array:
        """(N, d) posterior means of z of the test rows."""
        return self.run.embed(self.x)

    @cached_property
    def log_probs(self) -> Array:
        """(N, K) log q(y|x) of the test rows, in nats."""
        log_probs = self.run.log_probs(self.x)
        if log_probs is None:
            raise NotApplicable(f"the model {self.run.config.model!r} has no classes")
        return log_probs

    # -- its latent space ----------------------------------------------------------------------

    def components(self, limit: int) -> tuple[list[int], int]:
        """Numbers of the components to show, and how many there are in all.

        Classes are in their order. Components that were fitted without labels are sorted by
        size, without the unused ones, if the run's data can be read.
        """
        _ = self.class_names  # raises for a model without classes
        numbers = self.run.components_of(None)
        if self.run.config.labels == 0 and self.has_classes:
            with suppress(GMMVAEError):  # without data their sizes are not known
                numbers = self.clusters.used.tolist()
        return numbers[:limit], len(numbers)

    def priors(self, limit: int) -> tuple[list[int], int]:
        """:meth:`components`, or the single number 0 where p(x, z) does not depend on a class."""
        return self.components(limit) if self.has_classes else ([0], 1)

    def prior_names(self, components: Sequence[int]) -> list[str]:
        """Names of some of :meth:`priors`; "" where p(x, z) does not depend on a class."""
        return [self.class_names[k] for k in components] if self.has_classes else [""]

    @staticmethod
    def count(components: Sequence[int], total: int) -> str:
        """ " (20 of 27)" where components are left out, else ""."""
        return f" ({len(components)} of {total})" if len(components) < total else ""

    @torch.no_grad()
    def prior(self, components: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Means and standard deviations of p(z|s) at one-hot s.

        Args:
            components: n numbers; without classes n is 1.

        Returns:
            loc (n, d), scale (n, d) and s (n, K + ...), which is (1, 0) without classes.

        Raises:
            NotApplicable: the model has no prior of z.
        """
        if self.has_classes:
            s = torch.cat([self.model.one_hot(k, 1) for k in components])
        elif "z" in self.model.latents:
            s = self.tensor(np.zeros((1, 0)))
        else:
            raise NotApplicable(f"the model {self.run.config.model!r} has no prior of z")
        prior = self.model.prior_of_z(s)
        return prior.mean, prior.stddev, s

    @torch.no_grad()
    def decode(self, z: Tensor, s: Tensor) -> Array:
        """Means of p(x|z, s) in the file's units, (..., *x_shape).

        Args:
            z: (..., d).
            s: (..., K + ...), broadcast over leading axes.
        """
        leading = z.shape[:-1]
        s = s.expand(*leading, s.shape[-1]).flatten(0, -2)
        parts = [
            self.model.decode(*rows)
            for rows in zip(
                z.flatten(0, -2).split(ROWS_AT_ONCE), s.split(ROWS_AT_ONCE), strict=True
            )
        ]
        rows = self.run.schema.transform.invert(torch.cat(parts).cpu().numpy())
        return np.asarray(rows.reshape(*leading, *rows.shape[1:]))

    def tensor(self, values: Array) -> Tensor:
        """Values with the type and on the device of the model's parameters."""
        return torch.as_tensor(values).to(next(self.model.parameters()))
