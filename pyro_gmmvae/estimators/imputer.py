"""A variational autoencoder as scikit-learn's imputer of missing cells."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from pyro_gmmvae.data.cell_table import CellTable
from pyro_gmmvae.data.column_kinds import ColumnReport, unknown_column
from pyro_gmmvae.data.frames import from_polars
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators.base import RowsEstimator
from pyro_gmmvae.estimators.frame_rows import (
    FrameRows,
    first_rows,
    further_rows,
    is_frame,
    is_table,
    named,
    warn,
)
from pyro_gmmvae.estimators.inputs import covariates_of, seed_of
from pyro_gmmvae.runs.imputation import check_statistic, fill

Array = NDArray[Any]


class GMMVAEImputer(OneToOneFeatureMixin, RowsEstimator):
    """Fills missing cells by the posterior predictive p(x_missing | x_observed) of a VAE.

    The model is fitted without labels on rows of which further cells are hidden at random (the
    preset "impute"). It takes arrays of numbers, NaN where missing, and frames of pandas and
    polars with text, categories and booleans, and gives the same back; cells that are there stay
    as they are. Columns of whole numbers become columns of floats where a filled cell is none.

    Columns that no model can use stay as they are, but for constants, whose missing cells get the
    constant; a warning names others that keep missing cells. A cell's value rests on draws of z
    with fixed noise, which differs from row to row: the same row among others gets a slightly
    other value.

    Args:
        model: key of ``pyro_gmmvae.models.MODELS``; None: "vae".
        statistic: of a cell: "mean" (a category gets its most probable value), or "mode" (a number
            gets the mode of p(x|z,s), averaged over z; a count is whole).
        sample_posterior: fill with one draw of the predictive instead, as for multiple imputation
            by several imputers with different ``random_state``.
        columns: by name, kinds of columns of a frame, as for :class:`GMMVAEClassifier`; None:
            kinds are those that suit the cells. Columns of an array are "real".
        latent_dim: d, the size of z; None: 8.
        hidden: widths of hidden layers; None: (128, 128).
        preset: None: "impute".
        epochs: passes over the rows; None: as many as the preset's steps need.
        minutes, batch_size, learning_rate, device, engine, precision, verbose: as for
            :class:`GMMVAEClassifier`.
        random_state: seed of the fit, and of the draws of ``transform``.
        settings: all other keys of :class:`pyro_gmmvae.config.Config`; ``{"members": N}`` averages
            over N fits, 2 where it is not given.

    Attributes:
        constants_: the value of each column that is constant in the fit, by name.
        model_, history_, n_iter_, n_features_in_, feature_names_in_: as for
            :class:`GMMVAEClassifier`.

    References:
        Nazabal et al. 2020 (HI-VAE), arXiv:1807.03653; Mattei, Frellsen 2019 (MIWAE),
        arXiv:1812.02633.

    Example::

        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> from pyro_gmmvae.estimators import GMMVAEImputer
        >>> X, _ = load_iris(return_X_y=True)
        >>> holes = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
        >>> model = GMMVAEImputer(hidden=(32,), epochs=60, random_state=0)
        >>> filled = model.fit_transform(holes)
        >>> bool(np.sqrt(np.mean((filled - X)[np.isnan(holes)] ** 2)) < 0.7)
        True
    """

    _preset = _preset_of_frames = "impute"
    _fixed = {"labels": 0}  # noqa: RUF012 - never changed
    _needs_classes = False

    def __init__(
        self,
        model: str | None = None,
        *,
        statistic: str = "mean",
        sample_posterior: bool = False,
        columns: Mapping[str, str] | None = None,
        latent_dim: int | None = None,
        hidden: Sequence[int] | None = None,
        preset: str | None = None,
        epochs: int | None = None,
        minutes: float | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "f32",
        random_state: Any = None,
        verbose: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.statistic = statistic
        self.sample_posterior = sample_posterior
        self.columns = columns
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.preset = preset
        self.epochs = epochs
        self.minutes = minutes
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.engine = engine
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose
        self.settings = settings

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - scikit-learn's signature
        """Fit rows X (N, D), an array or a frame; y is ignored.

        Raises:
            GMMVAEError: arguments or rows that can't be used; an earlier fit is kept then, and if
                Ctrl-C stops this one.
        """
        check_statistic(self.statistic)
        with self._all_or_nothing():
            frame, kinds = self._frame_of(X, reset=True), self.columns
            if not self._has_names:
                if kinds is not None:
                    raise GMMVAEError(
                        "columns gives kinds to the columns of a frame, not of arrays"
                    )
                varied = frame.columns[frame.nunique() > 1]
                kinds = dict.fromkeys(varied, "real")
            rows = first_rows(frame, kinds, covariates_of(self.get_params(deep=False)))
            self.constants_ = {
                report.name: value
                for report in rows.left_out
                if (value := _constant(report)) is not None
            }
            self._fit(rows)
        return self

    def transform(self, X: Any) -> Any:
        """X (N, D) with its missing cells filled, an array or frame as X is.

        Raises:
            NotFittedError: before ``fit``.
            GMMVAEError: a column that is missing, or values that can't be used.
        """
        check_is_fitted(self)
        run, frame = self._fitted.run, self._frame_of(X, reset=False)
        rows = self._further(frame)
        table = CellTable(_as_pandas(frame), rows.missing)
        table = fill(
            run,
            run.schema.checked(rows.x, "X"),
            table,
            statistic=self.statistic,
            sample=self.sample_posterior,
            seed=seed_of(self.random_state),
        )
        for name, value in self.constants_.items():
            table = table.filled(name, [value] * len(rows))
        self._warn_of_holes(rows)
        holes = {name for name, missing in rows.missing.items() if missing.any()}
        changed = [str(name).strip() in holes for name in frame.columns]
        return _like(frame if self._has_names and is_frame(X) else X, table.cells, changed)

    def _frame_of(self, X: Any, *, reset: bool) -> Any:
        """X as a frame whose columns have the names that they had in the fit."""
        if reset and is_frame(X) and is_table(X):
            self._set_names(X)
            return X
        if not reset and self._has_names:
            names = self.feature_names_in_
            return _with_columns(X, names) if is_frame(X) else named(X, names)
        x = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
        )
        return pd.DataFrame(x, columns=self.get_feature_names_out())

    @property
    def _has_names(self) -> bool:
        """Whether the fit was one of a frame with names."""
        return getattr(self, "feature_names_in_", None) is not None

    def _further(self, X: Any) -> FrameRows:
        kind: Any = self._fitted.run.schema.kind
        frame = X if is_frame(X) else self._frame_of(X, reset=False)
        return further_rows(frame, kind, self.get_feature_names_out())

    def _warn_of_holes(self, rows: FrameRows) -> None:
        """A warning with the columns that keep missing cells."""
        filled = {column.name for column in rows.kind.specs if not column.given}
        filled |= self.constants_.keys()
        empty = [name for name, cells in rows.missing.items() if name not in filled and cells.any()]
        if empty:
            shown = ", ".join(map(repr, empty[:5]))
            warn([f"missing cells stay in columns that the model does not fill: {shown}"])


def _constant(report: ColumnReport) -> float | str | None:
    """The one value of a column that is left out; None: it has others, or none."""
    if report.low is not None:
        return report.low if report.low == report.high else None
    return report.values[0] if report.different == 1 else None


def _as_pandas(frame: Any) -> pd.DataFrame:
    """The cells of a frame of pandas or polars, without pyarrow."""
    if isinstance(frame, pd.DataFrame):
        return frame
    return pd.DataFrame({name: from_polars(frame[name]) for name in frame.columns})


def _with_columns(frame: Any, names: Array) -> Any:
    """The columns of a frame that have the names, in this order.

    Raises:
        GMMVAEError: the frame lacks one.
    """
    found = [str(name) for name in frame.columns]
    for name in names:
        if name not in found:
            raise unknown_column(name, found, "X")
    if len(set(found)) < len(found):
        return frame  # the reader refuses two columns of one name
    places = [found.index(name) for name in names]
    return frame.iloc[:, places] if isinstance(frame, pd.DataFrame) else frame[:, places]


def _like(rows: Any, cells: pd.DataFrame, changed: Sequence[bool]) -> Any:
    """Filled cells (N, D) as an array or frame like rows; polars keeps columns without changes."""
    if not is_frame(rows):
        return cells.to_numpy()
    if isinstance(rows, pd.DataFrame):
        return cells.set_axis(rows.columns, axis=1).set_axis(rows.index, axis=0)
    columns = zip(rows.columns, cells.columns, changed, strict=True)
    filled = [_polars_column(rows[name], cells[own]) for name, own, new in columns if new]
    return rows.with_columns(filled)


def _polars_column(before: Any, cells: "pd.Series[Any]") -> Any:
    """A filled column of polars, of the same type where that can hold the cells."""
    import polars as pl

    values: list[Any] = [None if pd.isna(value) else value for value in cells]
    kind = before.dtype
    numbers = [value for value in values if isinstance(value, float)]
    if numbers and (not kind.is_numeric() or (kind.is_integer() and any(v % 1 for v in numbers))):
        kind = pl.Float64()
    return pl.Series(before.name, values, dtype=kind, strict=False)
