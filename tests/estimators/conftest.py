"""One small fitted estimator of each kind, on digits, for all tests that only read it."""

from typing import Any

import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from pyro_gmmvae.estimators import GMMVAEClassifier, GMMVAECluster, GMMVAETransformer

SMALL: dict[str, Any] = {"hidden": (16,), "latent_dim": 3, "engine": "svi", "random_state": 0}
ROWS = 300
Digits = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture(scope="session")
def digits() -> Digits:
    """Pixels in [0, 1] and labels, of which the last third is hidden by -1."""
    x, y = load_digits(return_X_y=True)
    shown = y[:ROWS].copy()
    shown[200:] = -1
    return x[:ROWS] / 16, shown


@pytest.fixture(scope="session")
def classifier(digits: Digits) -> GMMVAEClassifier:
    fitted = GMMVAEClassifier(**SMALL, image_shape=(8, 8), epochs=6, learning_rate=0.01)
    return fitted.fit(*digits)


@pytest.fixture(scope="session")
def cluster(digits: Digits) -> GMMVAECluster:
    settings = {"init": "random", "augment": None, "reconstruct": "augmented"}
    return GMMVAECluster(4, **SMALL, x_range=(0, 1), epochs=2, settings=settings).fit(digits[0])


@pytest.fixture(scope="session")
def transformer(digits: Digits) -> GMMVAETransformer:
    return GMMVAETransformer("gmmvae", **SMALL, components=4, epochs=2).fit(digits[0])
