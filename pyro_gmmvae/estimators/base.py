"""The base class of the estimators: fit, scores of rows, draws, and run folders."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)
from torch import Tensor

from pyro_gmmvae.config import Config
from pyro_gmmvae.data import Dataset, Split, split_rows
from pyro_gmmvae.data.column_codes import decode
from pyro_gmmvae.data.column_kinds import left_out_notes
from pyro_gmmvae.data.column_table import ColumnTable
from pyro_gmmvae.data.kinds import Image, RowKind
from pyro_gmmvae.data.row_labels import checked_weights
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators.frame_rows import FrameRows, first_rows, further_rows, warn
from pyro_gmmvae.estimators.inputs import (
    config_of,
    covariates_of,
    labels_of,
    seed_of,
    shape_of_rows,
    takes_columns,
)
from pyro_gmmvae.estimators.pickles import PickledOnCPU
from pyro_gmmvae.estimators.run_folder import read_folder, write_folder
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.runs import Run
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.row_scores import bounds_of_rows, by_blocks
from pyro_gmmvae.runs.trained import Trained
from pyro_gmmvae.runs.trainer import fit, fit_epoch
from pyro_gmmvae.training import Callback
from pyro_gmmvae.training.devices import seeded
from pyro_gmmvae.training.settings import Record

Array = NDArray[Any]
NO_CLASSES = np.empty(0)
# rows of other types are converted to the first
DTYPES = [np.float64, np.float32, np.uint8, np.bool_]


class RowsEstimator(TransformerMixin, PickledOnCPU):
    """Fits a model on arrays, and scores, embeds and draws rows with it.

    A row's results do not depend on the rows that come with it, to the bit as far as the hardware
    allows.
    """

    _preset: ClassVar[str | None] = None
    _preset_of_frames: ClassVar[str | None] = None
    _fixed: ClassVar[dict[str, Any]] = {}
    _needs_classes: ClassVar[bool] = True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        return tags

    # -- fitting ----------------------------------------------------------------------------

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """What fails or is interrupted within leaves the estimator as it was."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _fit(
        self,
        rows: Array | FrameRows,
        y: Labels | None = None,
        classes: Array = NO_CLASSES,
        **beside: Any,
    ) -> None:
        """Fit rows (N, D) with class numbers y, -1 where unknown; None: without labels.

        ``beside`` are further fields of the :class:`Dataset`: soft labels and weights.
        """
        config, dataset = self._prepared(rows, y, classes)
        dataset = replace(dataset, **beside)
        split = _split(config, dataset, config.validation)
        data = TrainingData.from_arrays(config, dataset, split)
        self._keep(fit(config, data, callbacks=self._callbacks()))

    def _fit_epoch(
        self,
        rows: Array | FrameRows,
        y: Labels | None = None,
        classes: Array = NO_CLASSES,
        **beside: Any,
    ) -> None:
        """One epoch over rows; units are those of the first rows that were fitted."""
        before: Trained | None = getattr(self, "_fitted", None)
        config, dataset = self._prepared(rows, y, classes)
        transform = None
        if before is not None:
            schema = before.run.schema
            transform = schema.transform
            config = config.replace(likelihood=schema.kind.likelihood)
            if not isinstance(rows, FrameRows):
                _check_missing(schema.kind, rows)
                kind: Any = dataset.kind
                dataset = replace(dataset, kind=replace(kind, missing=schema.kind.missing))
        dataset = replace(dataset, **beside)
        split = _split(config, dataset, 0)
        data = TrainingData.from_arrays(config, dataset, split, transform=transform)
        self._keep(fit_epoch(config, data, before, callbacks=self._callbacks()))

    def _prepared(
        self, rows: Array | FrameRows, y: Labels | None, classes: Array
    ) -> tuple[Config, Dataset]:
        """The fit's configuration and its rows."""
        arguments = self.get_params(deep=False)
        of_frame = isinstance(rows, FrameRows)
        preset = self._preset_of_frames if of_frame else self._preset
        x: Array = rows.x if isinstance(rows, FrameRows) else rows
        config = config_of(arguments, preset, self._fixed, seed_of(arguments["random_state"]))
        model_class: Any = MODELS.get(config.model)
        if self._needs_classes and model_class and not model_class.has_classes():
            raise GMMVAEError(
                f"the model {config.model!r} has no classes; GMMVAETransformer takes it"
            )
        shape = shape_of_rows(x.shape[1], arguments.get("image_shape"))
        asked = {name.strip() for name in (config.augment or "").split(",")}
        if len(shape) == 1 and asked & Image.augmentations.keys():
            raise GMMVAEError(
                f"augment={config.augment} is for images, and rows of X are plain numbers; give "
                "image_shape=(height, width), or another augment or preset"
            )
        unknown = np.isnan(x)
        missing = bool(unknown.any())
        if missing and config.missing == "refuse":
            raise GMMVAEError("X contains NaN, and settings has missing='refuse'; fill them in")
        if unknown.all():
            raise GMMVAEError("X: every entry is missing (NaN)")
        labels = np.full(len(x), -1, np.int64) if y is None else y
        class_names = tuple(map(str, classes.tolist()))
        if isinstance(rows, FrameRows):
            return config, Dataset(x, labels, class_names, rows.kind)
        columns = getattr(self, "feature_names_in_", None)
        return config, Dataset.of_arrays(
            x.reshape(-1, *shape), labels, class_names, columns=columns, missing=missing
        )

    def _callbacks(self) -> list[Callback]:
        return [PrintProgress()] if self.get_params(deep=False)["verbose"] else []

    def _keep(self, fitted: Trained) -> None:
        self._fitted = fitted
        self.model_ = fitted.run.model
        self.history_ = fitted.history
        self.n_iter_ = int(fitted.metrics["epochs"])
        model = self.model_
        with torch.no_grad(), seeded(0, fitted.run.device):
            probe = torch.zeros(2, *fitted.run.schema.kind.x_shape, dtype=fitted.run.dtype)
            self._n_features_out = model.embed(probe.to(fitted.run.device)).shape[1]

    def _validated(self, X: Any, *y: Any, reset: bool = True) -> Any:
        """X, or X and y, as scikit-learn checks them; a missing entry is NaN.

        A frame, of which ``fit`` takes each column by its kind, becomes :class:`FrameRows`.
        """
        arguments, y = self.get_params(deep=False), tuple(map(labels_of, y))
        of_frame = takes_columns(X, arguments) if reset else self._has_columns
        if not of_frame:
            if reset and arguments["columns"] is not None:
                raise GMMVAEError(
                    "columns gives kinds to the columns of a frame with names, not of an array, "
                    "nor beside another likelihood; leave columns out"
                )
            options: dict[str, Any] = {"dtype": DTYPES, "ensure_min_samples": 2}
            return validate_data(self, X, *y, reset=reset, ensure_all_finite="allow-nan", **options)
        kinds, covariates = arguments["columns"], covariates_of(arguments)
        rows = first_rows(X, kinds, covariates) if reset else self._further(X)
        warn(left_out_notes(rows.left_out))
        if reset:
            self._set_names(X)
        if not y:
            return rows
        labels = column_or_1d(y[0], warn=True)
        check_consistent_length(rows.x, labels)
        return rows, labels

    def _set_names(self, frame: Any) -> None:
        self.feature_names_in_ = np.array([str(name) for name in frame.columns], object)
        self.n_features_in_ = len(self.feature_names_in_)

    @property
    def _has_columns(self) -> bool:
        """Whether the fit took each column of a frame by its kind."""
        return isinstance(self._fitted.run.schema.kind, ColumnTable)

    def _further(self, X: Any) -> FrameRows:
        kind: Any = self._fitted.run.schema.kind
        return further_rows(X, kind, self.feature_names_in_)

    def _weights(self, weights: Any, rows: int) -> dict[str, Any]:
        """The field of a :class:`Dataset` for weights of rows; None: all are equal."""
        if weights is None:
            return {}
        return {"weights": checked_weights(weights, rows, "sample_weight")}

    # -- scores of rows ----------------------------------------------------------------------

    def _rows(self, X: Any) -> tuple[Array, Tensor]:
        """Validated rows, and the same in the model's units on the CPU.

        Raises:
            NotFittedError: before ``fit``.
            GMMVAEError: rows out of the range of single precision or of the likelihood, or NaN
                where no row of the fit had one.
        """
        check_is_fitted(self)
        schema = self._fitted.run.schema
        if self._has_columns:
            x = self._further(X).x
        else:
            x = validate_data(self, X, reset=False, dtype=DTYPES, ensure_all_finite="allow-nan")
            _check_missing(schema.kind, x)
        with np.errstate(over="ignore"):
            rows = x.reshape(-1, *schema.kind.x_shape)
            if np.isinf(schema.transform.scaled(rows)).any():
                most = np.nanmax(np.abs(x))
                raise GMMVAEError(f"X goes up to {most:.3g}, which single precision can't")
        rows = schema.checked(rows, "X")
        return x, torch.from_numpy(rows).to(self._fitted.run.dtype)

    def _by_rows(self, function: Any, rows: Tensor) -> Array:
        """A function of the model's rows, whose result for each does not depend on the others."""
        device = self._fitted.run.device

        def on_device(block: Tensor) -> Tensor:
            with seeded(0, device):
                result: Tensor = function(block.to(device))
            return result.cpu()

        return np.asarray(by_blocks(on_device, rows).numpy())

    def _log_probs(self, X: Any) -> Array:
        """(N, K) log q(y|x) of all components, normalized in double precision."""
        _, rows = self._rows(X)
        parts = [self._by_rows(run.model.classify, rows).astype(np.float64) for run in self._runs]
        return np.asarray(np.logaddexp.reduce(parts) - np.log(len(parts)))

    @property
    def _runs(self) -> tuple[Run, ...]:
        """The members of the fit."""
        run = self._fitted.run
        return run, *run.others

    def transform(self, X: Any) -> Any:
        """(N, d) posterior means of z, of the rows' own type where it is a floating one."""
        x, rows = self._rows(X)
        z = self._by_rows(self.model_.embed, rows)
        return z.astype(x.dtype if x.dtype.kind == "f" else np.float32, copy=False)

    def score_samples(self, X: Any, samples: int = 100) -> Array:
        """A lower bound on log p(x) of each row, in nats, from importance weights.

        It rises to log p(x) with ``samples``. The noise is fixed, and the same for every row: a
        row's score does not depend on the rows it comes with. Under a Normal or a continuous
        Bernoulli likelihood it is a density in the units of X, comparable with that of other
        estimators; under those of whole numbers it is a probability. It is that of the entries
        that are not missing. Of several members it is the density of their mixture.

        Args:
            X: rows (N, D).
            samples: draws per row.

        Returns:
            (N,) scores; of a model that is given the class (``cvae``) bounds on log p(x|y) at
            the most probable class.

        Raises:
            GMMVAEError: a model without latents, which has no bound.

        Reference:
            Burda et al. 2016, arXiv:1509.00519.
        """
        x, rows = self._rows(X)
        run = self._fitted.run
        if not run.has_bound:
            raise GMMVAEError(f"the model {run.config.model!r} has no latents to bound log p(x)")
        samples = checked_count(samples, "samples")
        rows = rows.to(run.device)
        y = None
        if run.model.given_class:
            y = torch.from_numpy(self._log_probs(X).argmax(1)).to(run.device)
        found = [bounds_of_rows(one.model, rows, samples, y).iwae for one in self._runs]
        parts = [scores.cpu().double().numpy() for scores in found]
        scores = np.logaddexp.reduce(parts) - np.log(len(parts))
        if run.schema.likelihood.density and not self._has_columns:  # of X = shift + scale x
            scale = np.broadcast_to(run.schema.transform.scale, run.schema.kind.x_shape)
            observed = ~np.isnan(x.reshape(len(x), -1))
            scores -= (np.log(scale).ravel() * observed).sum(1)
        return np.asarray(scores)

    # -- drawing ----------------------------------------------------------------------------

    def _draw(self, components: Labels | None, n: int, mean: bool) -> Any:
        """Draws of x in the units of X, (n, D), of components (n,) in order, or of none.

        Of the first member; a pandas frame where a frame was fitted.
        """
        run = self._fitted.run
        model = run.model
        if not model.latents:
            raise GMMVAEError(f"the model {run.config.model!r} has no prior to draw from")
        seed = seed_of(self.get_params(deep=False)["random_state"])
        with torch.no_grad(), seeded(seed, run.device):
            if components is None or not model.draws_of_class:
                x = model.generate(n, mean=mean)
            else:
                labels, counts = np.unique(components, return_counts=True)
                pairs = zip(labels.tolist(), counts.tolist(), strict=True)
                x = torch.cat([model.generate(count, k, mean=mean) for k, count in pairs])
        return self._in_units_of_x(x.cpu().numpy())

    def _in_units_of_x(self, x: Array) -> Any:
        """Rows (n, D) from those of a model: an array, or a pandas frame of the fitted columns."""
        schema = self._fitted.run.schema
        rows = np.asarray(schema.transform.invert(x).reshape(len(x), -1))
        return decode(rows, schema.kind.specs) if self._has_columns else rows

    def _components(self, n: int, among: Labels) -> Labels:
        """(n,) components in order, drawn by their weights pi (flat where the model has none)."""
        mixture = self.model_.mixture_priors.get("")
        weights = np.ones(len(among))
        if mixture is not None:
            weights = mixture.log_prior.detach().softmax(-1).cpu().double().numpy()[among]
        seed = seed_of(self.get_params(deep=False)["random_state"])
        counts = np.random.default_rng(seed).multinomial(n, weights / weights.sum())
        return np.repeat(among, counts)

    # -- folders ----------------------------------------------------------------------------

    def save(self, folder: Path | str, *, force: bool = False) -> None:
        """Write a run folder: no pickle, and ``gmmvae predict`` and ``gmmvae generate`` read it.

        Args:
            folder: to make.
            force: replace a run that is there.

        Raises:
            GMMVAEError: a folder that is there, or can't be written.
        """
        check_is_fitted(self)
        write_folder(self, self._fitted, Path(folder), force)

    @classmethod
    def load(cls, folder: Path | str, *, device: str = "auto") -> Self:
        """Read what :meth:`save` wrote; nothing is unpickled.

        Args:
            folder: the run folder.
            device: where to compute.

        Raises:
            GMMVAEError: a folder that is missing, damaged, or of something else.
        """
        saved = read_folder(cls.__name__, Path(folder), device)
        try:
            estimator = cls(**saved.params)
        except TypeError as error:  # of another version
            raise GMMVAEError(f"{folder} is damaged ({error}): save the estimator again") from error
        estimator._keep(saved.fitted)
        for name, value in saved.attributes.items():
            setattr(estimator, name, value)
        return estimator


def _split(config: Config, dataset: Dataset, validation: float) -> Split:
    """All rows but those to watch, and those that no fit draws."""
    split = split_rows(
        dataset.drawn_labels,
        classes=len(dataset.classes),
        labels=config.labels,
        test=0,
        validation=validation,
        split_seed=config.split_seed,
        label_seed=config.seed,
    )
    return split.without(dataset.never_drawn)


def _check_missing(kind: RowKind, x: Array) -> None:
    """Refuse missing entries where the model has no mask for them."""
    if not kind.missing and np.isnan(x).any():
        raise GMMVAEError(
            "X contains NaN, a missing entry, and no row of the fit had one; fill them in, or "
            "fit rows of which some have missing entries"
        )


def checked_count(n: Any, name: str = "n_samples") -> int:
    """How many draws.

    Raises:
        GMMVAEError: none, or no whole number.
    """
    if not isinstance(n, int | np.integer) or n < 1:
        raise GMMVAEError(f"{name} must be a positive whole number, not {n!r}")
    return int(n)


class PrintProgress(Callback):
    """Prints a line per epoch, as scikit-learn's estimators do with ``verbose``."""

    def on_start(self, about: str) -> None:
        print(about)

    def on_epoch(self, record: Record) -> None:
        shown = [f"epoch {record['epoch']:.0f}", f"{record['seconds']:.1f} s"]
        for name in ("val_elbo", "val_accuracy"):
            if name in record:
                shown.insert(1, f"{name} {record[name]:.4g}")
        print("  ".join(shown))

    def on_end(self, outcome: str) -> None:
        print(outcome)
