"""Labels spread over a graph of nearest neighbors, in the latent space of a VAE."""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_gmmvae.config import Config
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.training.devices import resolve_device, seeded
from pyro_gmmvae.training.pseudo_labels import balance

Array = NDArray[Any]
VAE_STEPS = 4000
# share of the labels of its neighbors that a row takes on in each of the iterations
SPREAD, ITERATIONS = 0.99, 100
# of the search for neighbors, whose time grows with the square of the number of rows
MOST_ROWS = 100_000


def probs_by_graph(config: Config, data: TrainingData, y: Labels) -> tuple[Labels, Array]:
    """Rows, by their places among the training rows, and their (n, C) class probabilities.

    A VAE with the networks of ``config`` is fitted to the rows, and labels spread over the nearest
    neighbors in its z.

    Args:
        config: resolved; ``graph_neighbors``, and ``pseudo_balance`` for equally frequent classes.
        data: the rows.
        y: (training rows,) classes, -1 where unknown.

    Raises:
        GMMVAEError: too few rows, rows that are all equal, or a class without a label.
    """
    from pyro_gmmvae.runs.initialize import latents_of_vae

    classes = len(data.schema.classes)
    missing = sorted(set(range(classes)) - set(y[y >= 0].tolist()))
    if missing:
        raise GMMVAEError(
            "teacher=graph needs a labelled row of every class; the training rows have none of "
            + ", ".join(repr(data.schema.classes[k]) for k in missing[:5])
        )
    if config.graph_neighbors >= min(len(y), MOST_ROWS):
        raise GMMVAEError(
            f"graph_neighbors {config.graph_neighbors}: there are only {len(y)} training rows"
        )
    device = resolve_device(config.device)
    seed = config.seed if config.label_seed is None else config.label_seed
    with seeded(seed, device):
        z = latents_of_vae(config, data, device, VAE_STEPS)
    if not np.ptp(z, axis=0).any():
        raise GMMVAEError("teacher=graph: all training rows are equal, and have no neighbors")
    free = np.random.default_rng(0).permutation(np.flatnonzero(y < 0))
    labelled = np.flatnonzero(y >= 0)
    rows = np.sort(np.concatenate([labelled, free[: max(0, MOST_ROWS - len(labelled))]]))
    probs = spread_labels(z[rows], y[rows], classes, config.graph_neighbors)
    if config.pseudo_balance:
        # rows in parts of the graph without a label are of no class, and stay so
        reached = probs.max(1) > (1 + 1e-6) / classes
        log_probs = torch.from_numpy(probs[reached]).clamp_min(1e-12).log()
        probs[reached] = balance(log_probs, torch.ones(classes)).exp().numpy()
    return rows, probs


def spread_labels(z: Array, y: Labels, classes: int, neighbors: int) -> Array:
    """(N, C) class probabilities of rows by label spreading over their nearest neighbors.

    Two rows are joined if one is among the nearest of the other, with the weight
    exp(-d^2 / (r r')), d their distance and r, r' the distance of each to its last neighbor
    (Zelnik-Manor, Perona 2004, "Self-tuning spectral clustering"). Labels then move along the
    edges (Zhou et al. 2004, "Learning with local and global consistency").

    Args:
        z: (N, d) points.
        y: (N,) classes, -1 where unknown; each class occurs.
        classes: C.
        neighbors: of each row, below N.
    """
    from sklearn.neighbors import kneighbors_graph
    from sklearn.semi_supervised import LabelSpreading

    def affinity(points: Array, _: Array) -> Any:
        graph = kneighbors_graph(points, neighbors, mode="distance")
        reach = np.maximum(graph.max(1).toarray().ravel(), 1e-12)
        of_row = np.repeat(reach, neighbors)
        graph.data = np.exp(-(graph.data**2) / (of_row * reach[graph.indices]))
        return graph.maximum(graph.T).tocsr()

    spreading = LabelSpreading(kernel=affinity, alpha=SPREAD, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        # iterations that end before they converge, and parts of the graph without a label
        warnings.simplefilter("ignore")
        probs = np.nan_to_num(spreading.fit(z, y).label_distributions_)
    probs[probs.sum(1) == 0] = 1 / classes
    return probs
