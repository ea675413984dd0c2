"""The Gaussian-mixture VAE as scikit-learn's clustering."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin
from sklearn.utils.validation import check_is_fitted

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.estimators.base import RowsEstimator, checked_count

Array = NDArray[Any]


class GMMVAECluster(ClassNamePrefixFeaturesOutMixin, ClusterMixin, RowsEstimator):
    """Clusters rows by the components of a Gaussian-mixture VAE that sees no label.

    Fits start at k-means and continue with a term for equal components and one for assignments
    that stay under augmentation (the preset "cluster"). Where clusters are of unequal size,
    let the first fall: ``settings={"balance": "120:12:675"}``.

    Args:
        n_clusters: K. A component can end without a row.
        model: key of ``pyro_gmmvae.models.MODELS`` that has components.
        preset: None: "cluster"; of sets of images there is "digits/cluster", "mnist/cluster".
        latent_dim: d, the size of z; None: 10, or the preset's.
        guide, objective, network, hidden, likelihood, columns, image_shape, x_range, epochs,
            minutes, batch_size, learning_rate, device, engine, precision, random_state, verbose,
            settings: as for :class:`GMMVAEClassifier`.

    Attributes:
        labels_: (N,) components of the fitted rows.
        model_, history_, n_iter_, n_features_in_, feature_names_in_: as for
            :class:`GMMVAEClassifier`.

    Reference:
        Jiang et al. 2017, arXiv:1611.05148 (a VAE with a mixture clusters).

    Example::

        >>> from sklearn.datasets import make_blobs
        >>> from sklearn.metrics import adjusted_rand_score
        >>> from pyro_gmmvae.estimators import GMMVAECluster
        >>> X, y = make_blobs(200, random_state=0, centers=3, cluster_std=0.5)
        >>> model = GMMVAECluster(3, latent_dim=2, hidden=(16,), epochs=20, random_state=0)
        >>> bool(adjusted_rand_score(y, model.fit_predict(X)) > 0.9)
        True
        >>> model.predict_proba(X[:2]).shape
        (2, 3)
    """

    _preset = _preset_of_frames = "cluster"
    _fixed = {"labels": 0, "members": 1}  # noqa: RUF012 - never changed

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        model: str = "gmmvae",
        guide: str | None = None,
        objective: str | None = None,
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
        self.n_clusters = n_clusters
        self.model = model
        self.guide = guide
        self.objective = objective
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
        """Cluster rows X (N, D), an array or a frame; y is ignored.

        Rows are drawn for batches in proportion to ``sample_weight`` (N,).

        Raises:
            GMMVAEError: arguments or rows that can't be used; an earlier fit is kept
                then, and if Ctrl-C stops this one.
        """
        with self._all_or_nothing():
            x = self._validated(X)
            self._fit(x, **self._weights(sample_weight, len(x)))
            self.labels_ = self.predict(X)
        return self

    def predict_proba(self, X: Any) -> Array:
        """(N, K) q(s|x)."""
        log_probs = self._log_probs(X)
        return np.exp(log_probs - np.logaddexp.reduce(log_probs, axis=1, keepdims=True))

    def predict(self, X: Any) -> Array:
        """(N,) numbers of the most probable components."""
        return np.asarray(self._log_probs(X).argmax(1))

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002 - scikit-learn's signature
        """Mean of :meth:`score_samples`, in nats per row."""
        return float(self.score_samples(X).mean())

    def sample(
        self, n_samples: int = 1, label: int | None = None, *, mean: bool = False
    ) -> tuple[Any, Array]:
        """Draw rows in the units of X: a component, z from p(z|s), x from p(x|z,s).

        Args:
            n_samples: how many.
            label: number of a component; None: components by their weights pi.
            mean: the mean of p(x|z,s) in the place of a draw, as 'gmmvae generate' writes it.

        Returns:
            X (n, D), a pandas frame where a frame was fitted, and components (n,), in order.

        Raises:
            GMMVAEError: a component that is not there.
        """
        check_is_fitted(self)
        n, K = checked_count(n_samples), self.model_.components
        if label is not None and not (isinstance(label, int | np.integer) and 0 <= label < K):
            raise GMMVAEError(f"there is no component {label!r}; they are 0 to {K - 1}")
        drawn = self._components(n, np.arange(K) if label is None else np.array([label]))
        return self._draw(drawn, n, mean), drawn
