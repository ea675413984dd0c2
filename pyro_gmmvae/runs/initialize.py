"""Where a fit without labels begins: random weights, or a clustering that it then improves on."""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pyro_gmmvae.config import Config
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.objectives import REGULARIZERS
from pyro_gmmvae.runs.assembly import pre_fit
from pyro_gmmvae.runs.build import build_model, build_objective
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.training import Callback

AUTOENCODER_STEPS, WARM_UP_STEPS = 2000, 300
RESTARTS, MOST_ROWS = 12, 20_000

# a full KL would leave z of small images empty, and none would leave it without a shape
AUTOENCODER_KL = "0.1"


def initialise(
    config: Config,
    rows: TrainingData,
    model: Any,
    objective: Any,
    callbacks: Sequence[Callback] = (),
) -> float:
    """Bring a model to where a clustering of the training rows is, by the door of labels.

    For the first few hundred steps each row is given its cluster as a label: the prior of its s,
    and the classification term. So it works for every model, guide and objective with classes.

    Args:
        config: ``init`` names the clustering.
        rows, model, objective: of the fit that follows.
        callbacks: told of what is done.

    Returns:
        The seconds it took.
    """
    from sklearn.exceptions import ConvergenceWarning

    started, K = time.monotonic(), model.components
    with warnings.catch_warnings():
        # rows that are fewer than they look make fewer clusters, or mixtures that wander on
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = INITS[config.init](config, rows, K, next(model.parameters()).device)
    y = torch.from_numpy(clusters.astype(np.int64))
    pre_fit(config, rows, model, objective, y, WARM_UP_STEPS)
    seconds = time.monotonic() - started
    for callback in callbacks:
        callback.on_start(f"init: {config.init}, {seconds:.0f} s")
    return seconds


def _kmeans(config: Config, rows: TrainingData, K: int, device: torch.device) -> Labels:  # noqa: ARG001
    from sklearn.cluster import KMeans

    x = rows.tensors(rows.training_rows)[0].flatten(1).nan_to_num().numpy()
    return np.asarray(KMeans(K, n_init=RESTARTS, random_state=config.seed).fit_predict(x))


def _ae_gmm(config: Config, rows: TrainingData, K: int, device: torch.device) -> Labels:
    """The likeliest of several full-covariance mixtures on an autoencoder's z."""
    from sklearn.mixture import GaussianMixture

    # what a vae has no use for keeps its default
    other = config.replace(
        model="vae",
        guide=None,
        objective="analytic",
        kl_z=AUTOENCODER_KL,
        dropout=0.0,  # which blurs z: a mixture on it matched digits' classes less well
        **dict.fromkeys(REGULARIZERS, "0"),
    )
    model: Any = build_model(other, rows.schema).to(device)
    pre_fit(other, rows, model, build_objective(other, model), None, AUTOENCODER_STEPS)
    model.eval()
    chunks = np.array_split(rows.training_rows, 1 + len(rows.training_rows) // 4096)
    with torch.no_grad():
        parts = [model.embed(rows.tensors(chunk, device)[0]) for chunk in chunks]
    z = torch.cat(parts).cpu().double().numpy()
    some = np.random.default_rng(config.seed).permutation(len(z))[:MOST_ROWS]
    mixture = GaussianMixture(
        K, n_init=RESTARTS, random_state=config.seed, reg_covar=1e-4 * float(z.var()) + 1e-12
    )
    return np.asarray(mixture.fit(z[some]).predict(z))


INITS: dict[str, Callable[[Config, TrainingData, int, torch.device], Labels]] = {
    "kmeans": _kmeans,
    "ae-gmm": _ae_gmm,
}
