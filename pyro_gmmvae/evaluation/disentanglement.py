"""Scores of a representation for known factors of its rows: MIG, DCI, SAP, FactorVAE's score."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_gmmvae.errors import GMMVAEError

Array = NDArray[Any]

BINS = 20
TREES = 50
ROWS_OF_A_VOTE, VOTES = 64, 800
CONSTANT = 0.05
"""Share of the largest variance below which FactorVAE's score leaves an entry of z out."""
FEWEST = 16
"""Rows of a value that FactorVAE's score needs."""
SMALLEST = 1e-12  # eigenvalue of a correlation matrix


def total_correlation(z: Array) -> float:
    """KL( N(m, C) || prod_i N(m_i, C_ii) ) of the Gaussian with the moments of z, in nats.

    Entries that are constant are left out.

    Args:
        z: (N, d).
    """
    z = z.astype(np.float64)
    z = z[:, z.std(0) > 1e-6 * z.std()]
    if z.shape[1] < 2:
        return 0.0
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(z.T))
    return max(0.0, -0.5 * float(np.log(eigenvalues.clip(SMALLEST)).sum()))


def disentanglement(
    z: Array, factors: Mapping[str, Array], seed: int = 0
) -> dict[str, float | None]:
    """All scores of this module for rows with known factors.

    Args:
        z: (N, d) a representation.
        factors: (N,) numbers of the values of each factor, by name; those with one value are left
            out.
        seed: of draws of rows and of trees.

    Returns:
        ``mig``, ``dci_disentanglement``, ``dci_completeness``, ``dci_informativeness``, ``sap``
        and ``factor_vae_score``; empty where no factor varies, or z has fewer than two entries.

    Raises:
        GMMVAEError: z and factors of different numbers of rows.
    """
    for name, values in factors.items():
        if len(values) != len(z):
            raise GMMVAEError(f"{len(z)} rows of z, and {len(values)} of the factor {name!r}")
    varied = [np.unique(v, return_inverse=True)[1] for v in factors.values()]
    varied = [v for v in varied if v.max(initial=0) > 0]
    if not varied or z.shape[1] < 2:
        return {}
    v = np.stack(varied, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few rows for each value
        scores = {f"dci_{name}": value for name, value in dci(z, v, seed).items()}
        scores |= {"mig": mutual_information_gap(z, v), "sap": sap(z, v)}
    return scores | {"factor_vae_score": factor_vae_score(z, v, seed)}


def mutual_information_gap(z: Array, v: Array) -> float:
    """MIG, as in disentanglement_lib: of z in 20 bins of equal width.

    The mean over factors of the difference between the largest and the second largest mutual
    information of an entry of z and the factor, over the entropy of the factor.

    Args:
        z: (N, d), mostly means of q(z|x).
        v: (N, F) numbers of the values of F factors.

    Reference:
        Chen et al. 2018, arXiv:1802.04942, who integrate over q(z|x) instead of bins; bins:
        Locatello et al. 2019, arXiv:1811.12359.
    """
    from sklearn.metrics import mutual_info_score

    binned = [np.digitize(one, np.histogram_bin_edges(one, BINS)[:-1]) for one in z.T]
    gaps = []
    for factor in v.T:
        second, first = sorted(mutual_info_score(one, factor) for one in binned)[-2:]
        gaps.append((first - second) / mutual_info_score(factor, factor))
    return float(np.mean(gaps))


def dci(z: Array, v: Array, seed: int = 0) -> dict[str, float]:
    """Disentanglement, completeness and informativeness, from the importances of z for factors.

    A random forest of 50 trees predicts each factor from half of the rows. ``disentanglement`` is
    1 where each entry of z serves one factor, ``completeness`` 1 where each factor needs one
    entry; ``informativeness`` is the mean accuracy on the other half.

    Args:
        z, v: as for :func:`mutual_information_gap`.
        seed: of the halves and the trees.

    Reference:
        Eastwood, Williams 2018, openreview.net/forum?id=By-7dz-AZ.
    """
    from sklearn.ensemble import RandomForestClassifier

    order = np.random.default_rng(seed).permutation(len(z))
    fitted, held = order[: len(z) // 2], order[len(z) // 2 :]
    importances, accuracies = [], []
    for factor in v.T:
        # with a draw of entries for each split, a tree takes an entry that is of no use
        forest = RandomForestClassifier(TREES, max_features=None, random_state=seed)
        forest.fit(z[fitted], factor[fitted])
        importances.append(forest.feature_importances_)
        accuracies.append(forest.score(z[held], factor[held]))
    of_entries = np.stack(importances, -1)
    return {
        "disentanglement": _one_sided(of_entries),
        "completeness": _one_sided(of_entries.T),
        "informativeness": float(np.mean(accuracies)),
    }


def _one_sided(importances: Array) -> float:
    """The mean over rows of 1 - entropy / log(columns) of their shares, weighted by their sums."""
    weights = importances.sum(1)
    shares = (importances + 1e-12) / (importances + 1e-12).sum(1, keepdims=True)
    entropy = -(shares * np.log(shares)).sum(1) / max(np.log(importances.shape[1]), 1e-12)
    return float(((1 - entropy) * weights).sum() / max(weights.sum(), 1e-12))


def sap(z: Array, v: Array) -> float:
    """Separated attribute predictability, of linear classifiers of one entry of z.

    The mean over factors of the difference between the accuracies of the two best entries. A linear
    classifier of one number separates two values of a factor, and hardly more.

    Args:
        z, v: as for :func:`mutual_information_gap`; the first half of the rows is fitted.

    Reference:
        Kumar, Sattigeri, Balakrishnan 2018, arXiv:1711.00848.
    """
    from sklearn.svm import LinearSVC

    z = (z - z.mean(0)) / z.std(0).clip(1e-12)
    half = len(z) // 2
    gaps = []
    for factor in v.T:
        if len(np.unique(factor[:half])) < 2:
            continue
        scores = []
        for one in z.T[:, :, None]:
            classifier = LinearSVC(C=0.01, class_weight="balanced").fit(one[:half], factor[:half])
            scores.append(classifier.score(one[half:], factor[half:]))
        second, first = sorted(scores)[-2:]
        gaps.append(first - second)
    return float(np.mean(gaps)) if gaps else 0.0


def factor_vae_score(z: Array, v: Array, seed: int = 0) -> float | None:
    """Accuracy of a majority vote for the factor that is the same in a group of rows.

    Of 64 rows with one value of a factor, the entry of z with the smallest variance (relative to
    that over all rows) votes for the factor; 800 votes train the classifier, 800 test it. Entries
    with less than 5 % of the largest variance are left out, and values with fewer than 16 rows.

    Args:
        z, v: as for :func:`mutual_information_gap`.
        seed: of the groups.

    Reference:
        Kim, Mnih 2018, arXiv:1802.05983.
    """
    generator, variances = np.random.default_rng(seed), z.var(0)
    active = np.flatnonzero(variances > CONSTANT * variances.max())
    rows_of = [_rows_of_values(factor) for factor in v.T]
    rows_of = [rows for rows in rows_of if rows]
    if not len(active) or not rows_of:
        return None
    votes = np.zeros((2, len(active), len(rows_of)), np.int64)
    for part in votes:
        for _ in range(VOTES):
            k = generator.integers(len(rows_of))
            rows = rows_of[k][generator.integers(len(rows_of[k]))]
            own = z[generator.choice(rows, ROWS_OF_A_VOTE)][:, active]
            part[(own.var(0) / variances[active]).argmin(), k] += 1
    return float(votes[1][np.arange(len(active)), votes[0].argmax(1)].sum() / VOTES)


def _rows_of_values(factor: Array) -> list[Array]:
    """The rows of each value of a factor (N,) that has enough of them."""
    values, counts = np.unique(factor, return_counts=True)
    return [np.flatnonzero(factor == value) for value in values[counts >= FEWEST]]
