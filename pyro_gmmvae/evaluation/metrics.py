"""Metrics of class probabilities, clusters and latents, from arrays."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

MIN_SHARE = 1e-3  # of the rows, for a component in use


# -- classes ------------------------------------------------------------------------------------


def accuracy(log_probs: NDArray[Any], y: NDArray[np.int64]) -> float | None:
    """Share of labelled rows with the correct most probable class; None without labelled rows.

    Args:
        log_probs: (N, K) log q(y|x).
        y: (N,) labels, -1 where unknown.
    """
    labelled = y >= 0
    if not labelled.any():
        return None
    return float((log_probs[labelled].argmax(1) == y[labelled]).mean())


def log_loss(log_probs: NDArray[Any], y: NDArray[np.int64]) -> float | None:
    """Mean -log q(y|x) of labelled rows, in nats; None without labelled rows.

    Unlike accuracy it measures how confident a classifier is of the correct class.

    Args:
        log_probs, y: as for :func:`accuracy`.
    """
    labelled = np.flatnonzero(y >= 0)
    return float(-log_probs[labelled, y[labelled]].mean()) if len(labelled) else None


def wilson_interval(share: float, rows: int) -> tuple[float, float]:
    """95 % confidence interval of a share of ``rows`` (Wilson 1927), by SciPy.

    It covers new rows from the same source, but not another draw of labels.
    """
    from scipy.stats import binomtest

    interval = binomtest(round(share * rows), rows).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def confusion(log_probs: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """(K, K) counts: row the true class, column the most probable one; without rows of y = -1."""
    K = log_probs.shape[1]
    return contingency(log_probs.argmax(1), y, (K, K))


def probe_accuracy(
    z: NDArray[Any], y: NDArray[np.int64], test_z: NDArray[Any], test_y: NDArray[np.int64]
) -> float:
    """Test accuracy of scikit-learn's logistic regression on standardized z of labelled rows.

    A linear probe: how well classes can be read off the representation, for any model.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(z, y)
    labelled = test_y >= 0
    return float(probe.score(test_z[labelled], test_y[labelled]))


def detection_auroc(scores: NDArray[np.floating], is_unknown: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve of scores (N,) that should be higher for unknown classes (N,).

    The share of pairs in which the unknown one has the higher score; 0.5 is chance. None where
    all or none are unknown.
    """
    from sklearn.metrics import roc_auc_score

    if not is_unknown.any() or is_unknown.all():
        return None
    return float(roc_auc_score(is_unknown, scores))


# -- calibration --------------------------------------------------------------------------------


def reliability(log_probs: NDArray[Any], y: NDArray[np.int64], bins: int = 15) -> "pd.DataFrame":
    """The reliability diagram as a table, with a row per non-empty bin of confidence.

    Args:
        log_probs: (N, K) log q(y|x).
        y: (N,) labels; rows with -1 are left out.
        bins: equal widths from 0 to 1.

    Returns:
        Columns ``rows``, ``confidence`` (mean probability of the most probable class) and
        ``accuracy``.
    """
    import pandas as pd

    labelled = y >= 0
    log_probs, y = log_probs[labelled], y[labelled]
    confidence = np.exp(log_probs.max(1)).clip(0, 1)
    table = pd.DataFrame(
        {
            "bin": np.minimum((confidence * bins).astype(int), bins - 1),
            "confidence": confidence,
            "accuracy": log_probs.argmax(1) == y,
        }
    )
    groups = table.groupby("bin")
    return groups.mean().assign(rows=groups.size())[["rows", "confidence", "accuracy"]]


def expected_calibration_error(table: "pd.DataFrame") -> float:
    """Mean distance of confidence and accuracy over rows, from :func:`reliability`, in [0, 1].

    Guo et al. 2017, arXiv:1706.04599.
    """
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["rows"]).sum() / table["rows"].sum())


# -- clusters -----------------------------------------------------------------------------------


def clustering_scores(clusters: NDArray[Any], y: NDArray[np.int64]) -> dict[str, float]:
    """Agreement of clusters (N,) with classes y (N,); rows with y = -1 are left out.

    Returns:
        ``cluster_accuracy``: share of correct rows under the best one-to-one matching of clusters
        with classes (the Hungarian method; Xie et al. 2016, arXiv:1511.06335); ``nmi`` and
        ``ari``: scikit-learn's normalized mutual information and adjusted Rand index.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    labelled = y >= 0
    clusters, y = clusters[labelled], y[labelled]
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
    labelled = y >= 0
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, (y[labelled], clusters[labelled]), 1)
    return counts


def matching(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The best one-to-one matching of classes with components (the Hungarian method).

    Args:
        counts: (C, K), row the class, column the component.

    Returns:
        min(C, K) pairs of a class and its component, in the order of the classes.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-counts)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def components_in_use(clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the components in use, the largest first.

    Args:
        clusters: (N,) the most probable component of each row.

    Returns:
        Those that are the most probable of at least one row in a thousand.
    """
    components, sizes = np.unique(clusters, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    return components[order][sizes[order] >= MIN_SHARE * len(clusters)]


def n_components_used(clusters: NDArray[np.int64]) -> int:
    """The number of :func:`components_in_use`."""
    return len(components_in_use(clusters))


def assignment_entropy(log_probs: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N,) entropy of q(s|x) in nats, 0 to log K, from log-probabilities (N, K)."""
    from scipy.stats import entropy

    return np.asarray(entropy(np.exp(log_probs.astype(np.float64)), axis=1))


def silhouette(z: NDArray[np.floating], clusters: NDArray[np.int64]) -> float | None:
    """scikit-learn's mean silhouette of points z (N, d) in clusters (N,), from -1 to 1.

    None with fewer than two clusters, or as many as rows. Rousseeuw 1987.
    """
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(clusters)) < len(clusters):
        return None
    return float(silhouette_score(z, clusters))


def sum_by_name(
    log_probs: NDArray[np.floating], names: Sequence[str]
) -> tuple[list[str], NDArray[np.floating]]:
    """Add the probabilities of components that have the same name.

    Args:
        log_probs: (N, K) log q(s|x).
        names: K of them.

    Returns:
        The distinct names, in the order of their first component, and (N, names) logarithms of
        the sums over the components of each.
    """
    distinct = list(dict.fromkeys(names))
    if len(distinct) == len(names):
        return distinct, log_probs
    named = np.asarray(names)
    sums = [np.logaddexp.reduce(log_probs[:, named == name], axis=1) for name in distinct]
    return distinct, np.stack(sums, 1)
