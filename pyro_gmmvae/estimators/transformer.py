"""A variational autoencoder as scikit-learn's transformer and density."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators.base import RowsEstimator, checked_count

Array = NDArray[Any]


class GMMVAETransformer(ClassNamePrefixFeaturesOutMixin, RowsEstimator):
    """Posterior means of z, without labels: of a plain VAE, or of one with a mixture below z.

    Args:
        model: "vae" or "ae", or one with components: "gmvae-discrete", "gmmvae" and others.
        components: K, for models that have them; None: 10.
        guide, objective, latent_dim, network, hidden, likelihood, columns, image_shape, x_range,
            preset, epochs, minutes, batch_size, learning_rate, device, engine, precision,
            random_state, verbose, settings: as for :class:`GMMVAEClassifier`.

    Attributes:
        model_, history_, n_iter_, n_features_in_, feature_names_in_: as for
            :class:`GMMVAEClassifier`.

    References:
        arXiv:1312.6114 (auto-encoding variational Bayes); arXiv:1611.05148 (with a mixture).

    Example::

        >>> from sklearn.datasets import load_iris
        >>> from pyro_gmmvae.estimators import GMMVAETransformer
        >>> X, _ = load_iris(return_X_y=True)
        >>> model = GMMVAETransformer(latent_dim=2, hidden=(16,), epochs=5, random_state=0)
        >>> z = model.fit_transform(X)
        >>> z.shape, model.inverse_transform(z).shape, model.score_samples(X).shape
        ((150, 2), (150, 4), (150,))
    """

    _fixed = {"labels": 0, "members": 1}  # noqa: RUF012 - never changed
    _needs_classes = False

    def __init__(
        self,
        model: str = "vae",
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

    def fit(
        self,
        X: Any,
        y: Any = None,  # noqa: ARG002 - scikit-learn's signature
        sample_weight: Any = None,
    ) -> Self:
        """Fit rows X (N, D), an array or a frame; y is ignored.

        Rows are drawn for batches in proportion to ``sample_weight`` (N,).

        Raises:
            GMMVAEError: arguments or rows that can't be used; nothing of an earlier fit is lost
                then, nor where Ctrl-C stops this one.
        """
        with self._all_or_nothing():
            x = self._validated(X)
            self._fit(x, **self._weights(sample_weight, len(x)))
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002 - scikit-learn's signature
        """Take one pass over rows X (N, D), after other passes or after a whole fit.

        Adam's moments and schedules continue from call to call (a whole fit and a folder keep no
        moments: they start anew). Units are those of the first rows: X is standardized by their
        moments. The rate is constant, as its decay depends on the number of
        epochs to come.

        Raises:
            GMMVAEError: arguments or rows that can't be used; the estimator is unchanged.
        """
        with self._all_or_nothing():
            first = not hasattr(self, "_fitted")
            self._fit_epoch(self._validated(X, reset=first))
        return self

    def inverse_transform(self, X: Any) -> Any:
        """(N, D) means of p(x|z) for z (N, d), in the units of the fitted rows.

        After the fit of a frame they are a pandas frame of the columns that were not left out.

        Where x needs s, too, s is p(s|z), the responsibilities of the mixture.

        Raises:
            GMMVAEError: a model that decodes from more than z and a mixture's s.
        """
        check_is_fitted(self)
        z = check_array(X, dtype=[np.float64, np.float32], input_name="X")
        if z.shape[1] != self._n_features_out:
            raise GMMVAEError(f"X has {z.shape[1]} columns, and z has {self._n_features_out}")
        run = self._fitted.run
        rows = torch.from_numpy(np.array(z)).to(run.dtype)
        if not rows.isfinite().all():
            raise GMMVAEError(f"X goes up to {np.abs(z).max():.3g}, which single precision can't")
        decoded = self._in_units_of_x(self._by_rows(self._decode, rows))
        return decoded if self._has_columns else decoded.astype(z.dtype, copy=False)

    def _decode(self, z: Tensor) -> Any:
        model = self.model_
        if not model.components:
            return model.decode(z)
        if set(model.mixture_priors) != {""}:
            raise GMMVAEError(
                f"the model {self.model!r} decodes from z and a class; gmmvae, gmvae-discrete and "
                "vae know x from z alone"
            )
        s = model.mixture_priors[""].class_scores(z, torch.zeros_like(z)).softmax(-1)
        return model.decode(z, s)

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002 - scikit-learn's signature
        """Mean of :meth:`score_samples`, in nats per row."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, *, mean: bool = False) -> Any:
        """Draw rows (n, D) in the units of X: z from the prior, x from p(x|z).

        They are a pandas frame where a frame was fitted.

        Args:
            n_samples: how many.
            mean: the mean of p(x|z) in the place of a draw.

        Raises:
            GMMVAEError: a model without a prior (``ae``).
        """
        check_is_fitted(self)
        n = checked_count(n_samples)
        if not self.model_.class_conditional:
            return self._draw(None, n, mean)
        return self._draw(self._components(n, np.arange(self.model_.components)), n, mean)
