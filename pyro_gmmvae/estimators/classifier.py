"""The Gaussian-mixture VAE as scikit-learn's semi-supervised classifier."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.estimators.base import RowsEstimator, checked_count
from pyro_gmmvae.estimators.inputs import (
    encoded,
    encoded_by,
    has_label,
    is_soft,
    labels_of,
    soft_encoded,
)

Array = NDArray[Any]


class GMMVAEClassifier(ClassNamePrefixFeaturesOutMixin, ClassifierMixin, RowsEstimator):
    """Semi-supervised classifier: rows without a label (y = -1) are fitted, too.

    A label enters as the prior of the mixture's s, p(x, z, s) = p(x|z,s) p(z|s) p(s); the
    prediction is q(s|x). Arguments that are None are the preset's, or else the library's.

    Args:
        model: key of ``pyro_gmmvae.models.MODELS``: "gmmvae", "m2", "adgm" and others.
        guide: posterior of z and s; None: the model's own.
        objective: None: analytic, or trace where guide or model has no closed form.
        components: K, at least the number of classes; None: one per class. Probabilities are
            those of the classes, given that a row is of one.
        latent_dim: d, the size of z; None: 16.
        network: key of ``pyro_gmmvae.networks.NETWORKS``, "mlp" or, of images, "conv"; None: mlp.
        hidden: widths of hidden layers; None: (256, 256).
        likelihood: of X, as :func:`pyro_gmmvae.distributions.parse_likelihood` reads it:
            "binomial(16)" for counts 0..16, "bernoulli" for X in [0, 1] or in ``x_range``, "normal"
            for standardized X, and others; None: bernoulli for images of known range, else normal.
        columns: by name, kinds of columns of a frame, "real", "student-t", "positive", "count",
            "binary", "category" or "ordinal", or "skip" to leave one out; None: kinds are those
            that suit the cells.
        image_shape: (height, width) or (channels, height, width) where rows are images.
        x_range: lowest and highest value of all X, that become 0 and 1; None: (0, n) for counts
            0..n, (0, 255) for unsigned bytes of which some are above 127, (0, 1) for booleans,
            bytes that are 0 and 1 only, and images with no value outside, else unknown.
        preset: named settings for files, "paper", "permutation-invariant", "best", or those of a
            set of images, "digits/best" (counts 0..16), "mnist/best"; None: "table" for frames,
            permutation-invariant for arrays.
        epochs: passes over the rows; None: 100, or the preset's.
        minutes: wall-clock budget of a fit, in the place of ``epochs``.
        batch_size: rows per step; None: 128.
        learning_rate: of Adam, at the start; None: 2e-3.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        engine: how steps are computed: "auto", "svi", "captured" or "compiled".
        precision: "f32", "bf16" or "f64".
        random_state: seed of weights, batches and noise. The same seed, rows and settings give the
            weights that ``gmmvae train`` gives.
        verbose: 1: print a line per epoch.
        settings: all other keys of :class:`pyro_gmmvae.config.Config`; 'gmmvae list keys' tells
            of them. All rows are fitted unless ``patience`` or ``validation`` is set. With
            ``{"members": N}`` class probabilities are means over N fits; z and draws are those of
            the first.

    Attributes:
        classes_: (C,) sorted labels.
        model_: the plain Pyro module, with ``model`` and ``guide``.
        history_: data frame with a row per epoch; ELBOs are in nats per row, in the model's
            units. ``val_`` is of validation rows, or of training rows if there are none.
        transduction_: (N,) a class for each row of :meth:`fit`: its label, or the most probable
            class where the label is unknown or soft. Not saved in folders.
        n_iter_: epochs.
        n_features_in_: D.
        feature_names_in_: (D,) names of the columns of a frame.

    References:
        arXiv:1406.5298 (semi-supervised learning with deep generative models), arXiv:1611.00712
        (Concrete).

    Example::

        >>> from sklearn.datasets import load_iris
        >>> from pyro_gmmvae.estimators import GMMVAEClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> shown = y.copy()
        >>> shown[::2] = -1  # half of the labels are hidden
        >>> model = GMMVAEClassifier(latent_dim=2, hidden=(32,), epochs=40, random_state=0)
        >>> bool(model.fit(X, shown).score(X[::2], y[::2]) > 0.85)
        True
        >>> model.predict_proba(X[:3]).shape, model.transform(X[:3]).shape
        ((3, 3), (3, 2))
        >>> rows, labels = model.sample(5, label=2)
    """

    _preset_of_frames = "table"
    _fixed = {"labels": None}  # noqa: RUF012 - never changed

    def __init__(
        self,
        model: str = "gmmvae",
        *,
        guide: str | None = None,
        objective: str | None = None,
        components: int | None = None,
        latent_dim: int | None = None,
        network: str | None = None,
        hidden: Sequence[int] | None = None,
        likelihood: str | None = None,
        columns: Mapping[str, str] | None = None,
        image_shape: Sequence[int] | None = None,
        x_range: Sequence[float] | None = None,
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
        self.guide = guide
        self.objective = objective
        self.components = components
        self.latent_dim = latent_dim
        self.network = network
        self.hidden = hidden
        self.likelihood = likelihood
        self.columns = columns
        self.image_shape = image_shape
        self.x_range = x_range
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit rows X (N, D), NaN where an entry is missing, and labels y (N,), -1: no label.

        X is an array of numbers, or a frame of pandas or polars; NaN and empty cells are missing.
        Of a frame each column gets a kind from its cells (see ``columns``) and a likelihood, text
        is taken as it is, and a warning names the columns that no model can use. After the fit
        columns are matched by their names: others are ignored, and values that a column did not
        have in the fit become missing, with a warning.

        Where labels are text, "-1" and "" stand for no label, too, and so does a missing cell of a
        pandas or polars series. With y (N, C) labels are soft:
        a row holds the prior of its class, or NaN where it has none; the classes are the columns
        of a frame, or 0 to C - 1.

        Args:
            X: the rows.
            y: their labels.
            sample_weight: (N,) in proportion to which rows are drawn for batches, labelled ones
                within their class. Gradients are not weighted, and a row of weight 0 is not drawn.

        Raises:
            GMMVAEError: arguments, rows or labels that can't be used; nothing of an earlier fit is
                lost then, nor where Ctrl-C stops this one.
        """
        with self._all_or_nothing():
            beside: dict[str, Any] = {}
            if is_soft(y):
                x = self._validated(X)
                codes, self.classes_, beside = soft_encoded(y)
                check_consistent_length(x, codes)
            else:
                x, y = self._validated(X, y)
                codes, self.classes_ = encoded(y)
            self._fit(x, codes, self.classes_, **beside, **self._weights(sample_weight, len(codes)))
            self.transduction_ = self.predict(X)
            soft = beside.get("soft_labels")
            certain = codes >= 0
            if soft is not None:
                certain &= np.isnan(soft).all(1)
            self.transduction_[certain] = self.classes_[codes[certain]]
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Take one pass over rows X (N, D), after other passes or after a whole fit.

        Adam's moments and schedules continue from call to call (a whole fit and a folder keep no
        moments: they start anew). Units are those of the first rows: X is standardized by their
        moments. The rate is constant and there are no pseudo-labels, as both depend on the
        number of epochs to come. The models ``m1`` and ``cvae`` need labelled rows of every class
        at each call; ``m1`` fits its classifier to the rows of the last call.

        Args:
            X: at least as many rows as components.
            y: (N,) labels, -1 for an unlabelled row.
            classes: all there will be, without -1; needed at the first call.
            sample_weight: as for :meth:`fit`.

        Raises:
            GMMVAEError: arguments, rows or labels that can't be used; the estimator is unchanged.
        """
        with self._all_or_nothing():
            first = not hasattr(self, "classes_")
            x, y = self._validated(X, y, reset=first)
            if first:
                if classes is None:
                    raise GMMVAEError("partial_fit needs classes at its first call")
                named = np.asarray(classes)
                if named.ndim != 1:
                    raise GMMVAEError(f"classes must be a list of labels, not {classes!r}")
                self.classes_ = encoded(named)[1]
                if len(self.classes_) != len(named):
                    raise GMMVAEError(f"classes hold -1, or one twice: {classes!r}")
            elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
                raise GMMVAEError(
                    f"classes are {self.classes_.tolist()} since the first call, not {classes!r}"
                )
            weights = self._weights(sample_weight, len(y))
            self._fit_epoch(x, encoded_by(y, self.classes_), self.classes_, **weights)
            self.__dict__.pop("transduction_", None)
        return self

    def predict_proba(self, X: Any) -> Array:
        """(N, C) q(y|x), columns in the order of ``classes_``."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> Array:
        """(N, C) log q(y|x), in nats."""
        check_is_fitted(self)
        log_probs = self._log_probs(X)[:, : len(self.classes_)]
        total = np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
        return np.asarray(log_probs - total)

    def predict(self, X: Any) -> Array:
        """(N,) the most probable classes."""
        log_probs = self.predict_log_proba(X)
        return np.asarray(self.classes_[log_probs.argmax(1)])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy on the rows that have a label; those with y = -1 are left out.

        Of soft labels (N, C) the most probable class counts.

        Raises:
            GMMVAEError: no row has a label.
            ValueError: labels or weights that are not one per row.
        """
        if is_soft(y):
            codes = soft_encoded(y)[0]
            y = np.where(codes < 0, -1, self.classes_.astype(object)[codes])
        predicted, y = self.predict(X), column_or_1d(labels_of(y))
        check_consistent_length(predicted, y, sample_weight)
        known = has_label(y)
        if not known.any():
            raise GMMVAEError("y holds no label (every row is -1): there is nothing to score")
        weights = None if sample_weight is None else np.asarray(sample_weight)[known]
        return float(accuracy_score(y[known], predicted[known], sample_weight=weights))

    def sample(
        self, n_samples: int = 1, label: Any = None, *, mean: bool = False
    ) -> tuple[Any, Array]:
        """Draw rows in the units of X: a class, z from p(z|class), x from p(x|z,class).

        Args:
            n_samples: how many.
            label: one of ``classes_``; None: classes by their weights in the prior.
            mean: the mean of p(x|z,class) in the place of a draw, as 'gmmvae generate' writes it.

        Returns:
            X (n, D), a pandas frame where a frame was fitted, and y (n,), in the order of classes.
            Of models without p(x|class), y is what
            :meth:`predict` gives for the rows.

        Raises:
            GMMVAEError: a label that is not a class, or a model without a prior.
        """
        check_is_fitted(self)
        n = checked_count(n_samples)
        if not self.model_.draws_of_class and label is None:
            rows = self._draw(None, n, mean)
            return rows, self.predict(rows)
        numbers = np.arange(len(self.classes_))
        if label is not None:
            numbers = np.flatnonzero([one == label for one in self.classes_.tolist()])
            if not len(numbers):
                raise unknown_name("class", str(label), list(map(str, self.classes_.tolist())))
            if not self.model_.draws_of_class:
                raise GMMVAEError(f"the model {self.model!r} can't draw from one class")
        drawn = self._components(n, numbers)
        return self._draw(drawn, n, mean), self.classes_[drawn]
