"""Start of a fit: at a clustering that it then improves on, or at another run."""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_gmmvae.config import Config
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.likelihood_spec import elbo_scale
from pyro_gmmvae.objectives import LATENT_TERMS, REGULARIZERS
from pyro_gmmvae.runs.assembly import Parts, build
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.keys import configure
from pyro_gmmvae.runs.start_from_run import take_weights
from pyro_gmmvae.training import Callback

AUTOENCODER_STEPS, WARM_UP_STEPS = 2000, 300
RESTARTS, MAX_ROWS = 12, 20_000

# with the full KL of a Bernoulli likelihood z of small images stays empty; without it z has no
# shape
AUTOENCODER_KL = 0.1


def initialize(parts: Parts, callbacks: Sequence[Callback] = ()) -> float:
    """Start a model from another run's weights, or from a clustering.

    Of a clustering the numbers are the labels for the first steps. They enter as labels do, by the
    prior of s and the classification term. So this works for every model, guide and objective with
    classes.

    Args:
        parts: of the fit that follows; its ``init`` names the clustering.
        callbacks: notified at the end.

    Returns:
        The seconds that it took.
    """
    from sklearn.exceptions import ConvergenceWarning

    started, init = time.monotonic(), parts.config.init
    if parts.config.init_run is not None:
        return _notified(callbacks, take_weights(parts), started)
    with warnings.catch_warnings():
        # rows with many duplicates make fewer clusters, or mixtures that do not converge
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = INITS[init](parts)
    parts.pretrain(torch.from_numpy(clusters.astype(np.int64)), WARM_UP_STEPS)
    return _notified(callbacks, init, started)


def _notified(callbacks: Sequence[Callback], init: str, started: float) -> float:
    """The seconds since a start, of which the callbacks get a line."""
    seconds = time.monotonic() - started
    for callback in callbacks:
        callback.on_start(f"init: {init}, {seconds:.0f} s")
    return seconds


def _kmeans(parts: Parts) -> Labels:
    from sklearn.cluster import KMeans

    K, data = parts.model.components, parts.data
    x = data.points(data.training_rows)
    means = KMeans(K, n_init=RESTARTS, random_state=parts.config.seed)
    return np.asarray(means.fit_predict(x, sample_weight=data.training_weights))


def latents_of_vae(
    config: Config, data: TrainingData, device: torch.device, steps: int
) -> NDArray[Any]:
    """(N, d) posterior means of z of the rows to fit, by a VAE with the networks of a fit.

    Args:
        config: resolved, of the fit that follows.
        data: the rows.
        device: of the VAE.
        steps: the least number of steps of its fit.
    """
    changes = {
        "model": "vae",
        "guide": None,
        "objective": "analytic",
        # under a binomial likelihood the loss holds the ELBO divided by the count
        "kl_z": AUTOENCODER_KL / elbo_scale(data.kind.likelihood),
        "elbo_weight": 1.0,
        "dropout": 0.0,  # it blurs z: a mixture on it matched the classes of digits less well
        **dict.fromkeys((*REGULARIZERS, *LATENT_TERMS), "0"),
    }
    other = configure(dict(config), changes, given=())  # drops the keys that a vae does not have
    vae = build(other, data, device)
    vae.pretrain(None, steps)
    vae.model.eval()
    return vae.by_blocks(vae.model.embed)


def _ae_gmm(parts: Parts) -> Labels:
    """The most probable of several full-covariance mixtures on the z of an autoencoder."""
    from sklearn.mixture import GaussianMixture

    config = parts.config
    z = latents_of_vae(config, parts.data, parts.device, AUTOENCODER_STEPS).astype(np.float64)
    some = np.random.default_rng(config.seed).permutation(len(z))[:MAX_ROWS]
    mixture = GaussianMixture(
        parts.model.components,
        n_init=RESTARTS,
        random_state=config.seed,
        reg_covar=1e-4 * float(z.var()) + 1e-12,
    )
    return np.asarray(mixture.fit(z[some]).predict(z))


INITS: dict[str, Callable[[Parts], Labels]] = {"kmeans": _kmeans, "ae-gmm": _ae_gmm}
