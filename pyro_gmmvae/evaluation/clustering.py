"""What components hold, how sure they are, and how well they match classes they were not told."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

IN_USE = 1e-3


def clustering_scores(clusters: NDArray[Any], y: NDArray[np.int64]) -> dict[str, float]:
    """Agreement of clusters (N,) with classes y (N,); rows with y = -1 are left out.

    Returns:
        ``cluster_accuracy``: share of rows right under the best one-to-one naming of clusters
        by classes (the Hungarian method; Xie et al. 2016, arXiv:1511.06335); ``nmi`` and
        ``ari``: scikit-learn's normalized mutual information and adjusted Rand index.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    known = y >= 0
    clusters, y = clusters[known], y[known]
    counts = contingency_matrix(y, clusters)
    matched = sum(counts[match] for match in matching(counts))
    return {
        "cluster_accuracy": float(matched / len(y)),
        "nmi": float(normalized_mutual_info_score(y, clusters)),
        "ari": float(adjusted_rand_score(y, clusters)),
    }


def contingency(
    clusters: NDArray[Any], y: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Counts of shape (classes, components): row the class, column the cluster; y = -1 left out."""
    known = y >= 0
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, (y[known], clusters[known]), 1)
    return counts


def matching(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The best one-to-one naming of components by classes (the Hungarian method).

    Args:
        counts: (C, K), row the class, column the component.

    Returns:
        min(C, K) pairs of a class and its component, in the order of the classes.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-counts)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def used_components(clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the components in use, the largest first.

    Args:
        clusters: (N,) the likeliest component of each row.

    Returns:
        Those that are the likeliest of at least one row, and of one row in a thousand.
    """
    found, sizes = np.unique(clusters, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    return found[order][sizes[order] >= IN_USE * len(clusters)]


def components_used(clusters: NDArray[np.int64]) -> int:
    """How many components :func:`used_components` finds in use."""
    return len(used_components(clusters))


def assignment_entropy(log_probs: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N,) entropy of q(s|x) in nats, 0 to log K, from log-probabilities (N, K)."""
    from scipy.stats import entropy

    return np.asarray(entropy(np.exp(log_probs.astype(np.float64)), axis=1))


def silhouette(z: NDArray[np.floating], clusters: NDArray[np.int64]) -> float | None:
    """scikit-learn's mean silhouette of points z (N, d) in clusters (N,), from -1 to 1.

    None where there are fewer than two clusters, or as many as rows. Rousseeuw 1987.
    """
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(clusters)) < len(clusters):
        return None
    return float(silhouette_score(z, clusters))


def log_probs_of_names(
    log_probs: NDArray[np.floating], names: Sequence[str]
) -> tuple[list[str], NDArray[np.floating]]:
    """Log-probabilities of names that components may share.

    Args:
        log_probs: (N, K) log q(s|x).
        names: K of them.

    Returns:
        The distinct names, in the order they are first met, and (N, names) sums over the
        components of each, as logarithms.
    """
    found = list(dict.fromkeys(names))
    if len(found) == len(names):
        return found, log_probs
    named = np.asarray(names)
    each = [np.logaddexp.reduce(log_probs[:, named == name], axis=1) for name in found]
    return found, np.stack(each, 1)
