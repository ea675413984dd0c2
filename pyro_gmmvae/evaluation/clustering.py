"""How well components match classes that they were not told."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def clustering_scores(clusters: NDArray[Any], y: NDArray[np.int64]) -> dict[str, float]:
    """Agreement of clusters (N,) with classes y (N,); rows with y = -1 are left out.

    Returns:
        ``cluster_accuracy``: share of rows right under the best one-to-one naming of clusters
        by classes (the Hungarian method; Xie et al. 2016, arXiv:1511.06335); ``nmi`` and
        ``ari``: scikit-learn's normalized mutual information and adjusted Rand index.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    known = y >= 0
    clusters, y = clusters[known], y[known]
    counts = contingency_matrix(y, clusters)
    matched = counts[linear_sum_assignment(-counts)].sum()
    return {
        "cluster_accuracy": float(matched / len(y)),
        "nmi": float(normalized_mutual_info_score(y, clusters)),
        "ari": float(adjusted_rand_score(y, clusters)),
    }
