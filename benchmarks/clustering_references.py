"""Clusterings by scikit-learn, fitted on the same training rows and scored on the same test rows.

K is the number of classes, as for the models; no labels are used. Every mixture is the best of ten
fits by likelihood.
"""

import hashlib
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from references import measured_here
from skeleton_trials import trained
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from pyro_gmmvae.config import Config
from pyro_gmmvae.datasets import presets_of
from pyro_gmmvae.evaluation import clustering_scores
from pyro_gmmvae.runs import AUTOENCODER_KL, LABEL_KEYS, TrainingData, default_config, own_keys
from pyro_gmmvae.skeletons import PoseWindow
from pyro_gmmvae.sweeps import append_result, read_results

RESTARTS = 10
# a mixture learns no more from further rows, and takes longer
MIXTURE_ROWS = 20_000
# as a share of the mean variance; of pixels that are nearly constant a smaller one makes
# everything (on digits 1e-6 costs the diagonal mixture ten points of accuracy)
REGULARIZATION = 0.3
SPECTRAL_ROWS = 5_000
# for the hash that says whether a row is of these settings
APART = {"seed", "data_dir", "device"}
OF_FIT = {"epochs", "minutes", "balance", "consistency"}

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
Clusters = Callable[[Config, TrainingData], Labels]


@dataclass(frozen=True)
class Reference:
    """A clustering of test rows.

    Attributes:
        cluster: from a config (its seed, its d) and rows to a cluster of each test row.
        changes: keys of the data that differ from the models'.
        fits: whether it is one for these rows.
    """

    cluster: Clusters
    changes: Mapping[str, Any] = field(default_factory=dict)
    fits: Callable[[TrainingData], bool] = lambda rows: True  # noqa: ARG005


def add_references(
    config: Config, seeds: range, results: Path, log: Callable[[str], None]
) -> dict[str, str]:
    """Append a row for each reference and seed that has none yet.

    Returns:
        The last settings' hash by name, which tells rows of these settings from older ones.
    """
    rows, hashes = TrainingData.from_config(config), {}
    for name, reference in REFERENCES.items():
        if not reference.fits(rows):
            continue
        changed = config.replace(**reference.changes)
        mine = TrainingData.from_config(changed) if reference.changes else rows
        hashes[name] = _hash(name, changed, mine)
        table = read_results(results, log)
        same = (table["data"] == config.data) & (table["config"] == hashes[name])
        done = set(table[same]["seed"])
        for seed in (seed for seed in seeds if seed not in done):
            row = _row(name, changed.replace(seed=seed), mine)
            append_result(results, row | {"config": hashes[name]})
            log(f"{name}, seed {seed}: cluster_accuracy {row['cluster_accuracy']:.4f}")
    return hashes


def _row(name: str, config: Config, rows: TrainingData) -> dict[str, Any]:
    started = time.monotonic()
    with threadpool_limits(1), warnings.catch_warnings():
        # warnings of graphs in several pieces, and of fits without convergence
        warnings.filterwarnings("ignore", module="sklearn")
        clusters = REFERENCES[name].cluster(config, rows)
    seconds = round(time.monotonic() - started, 1)
    return {
        "data": config.data,
        "model": name,
        "labels": "0",
        "seed": config.seed,
        "guide": "",
        "objective": "",
        "preset": "",
        "settings": "",
        "table": "references",
        "variant": name,
        **scores(rows, clusters),
        **measured_here(name, seconds),
    }


def scores(rows: TrainingData, clusters: Labels) -> dict[str, Any]:
    """The scores of ``gmmvae evaluate``, of test rows and of sequences by votes of their rows."""
    y, groups = rows.dataset.y[rows.split.test], rows.groups
    numbers: dict[str, Any] = clustering_scores(clusters, y)
    sizes = np.unique(clusters, return_counts=True)[1]
    # at least one row in a thousand, as evaluate counts components
    used = int((sizes >= 1e-3 * len(clusters)).sum())
    numbers |= {"components_used": used, "test_rows": len(y)}
    if groups.merges:
        votes = np.log(np.eye(int(clusters.max()) + 1)[clusters] + 1e-9)
        pooled = groups.pool(votes, rows.split.test)
        of_group = groups.first(y, rows.split.test)
        found = clustering_scores(pooled.argmax(1), of_group)
        numbers["sequence_cluster_accuracy"] = found["cluster_accuracy"]
        numbers["test_sequences"] = len(of_group)
    return numbers


def _hash(name: str, config: Config, rows: TrainingData) -> str:
    # weights of terms that no reference has, and a budget that only an autoencoder has
    apart = APART | (OF_FIT if "autoencoder" not in name else {"balance", "consistency"})
    content = config.model_dump_json(exclude_defaults=True, exclude=apart)
    return hashlib.sha256((name + content + rows.schema.fingerprint).encode()).hexdigest()[:8]


def _parts(rows: TrainingData) -> tuple[Floats, Floats]:
    """Training and test rows as tables; missing entries take the mean, 0."""
    found = (rows.tensors(numbers)[0] for numbers in (rows.training_rows, rows.split.test))
    train, test = (x.flatten(1).nan_to_num().double().numpy() for x in found)
    return train, test


def _k_means(config: Config, rows: TrainingData) -> Labels:
    train, test = _parts(rows)
    K = len(rows.schema.classes)
    return np.asarray(KMeans(K, n_init=RESTARTS, random_state=config.seed).fit(train).predict(test))


def _mixture(
    config: Config, rows: TrainingData, train: Floats, test: Floats, covariance: str
) -> Labels:
    some = np.random.default_rng(config.seed).permutation(len(train))[:MIXTURE_ROWS]
    share = REGULARIZATION if covariance == "diag" else 1e-4
    mixture = GaussianMixture(
        len(rows.schema.classes),
        covariance_type=covariance,
        n_init=RESTARTS,
        random_state=config.seed,
        reg_covar=share * float(train.var(0).mean()) + 1e-12,
    )
    return np.asarray(mixture.fit(train[some]).predict(test))


def _diagonal_mixture(config: Config, rows: TrainingData) -> Labels:
    return _mixture(config, rows, *_parts(rows), covariance="diag")


def _mixture_of_pca(config: Config, rows: TrainingData) -> Labels:
    train, test = _parts(rows)
    d = min(config.latent_dim, *train.shape)
    pca = PCA(d, random_state=config.seed).fit(train)
    return _mixture(config, rows, pca.transform(train), pca.transform(test), "full")


def autoencoder(config: Config, augment: str | None) -> Config:
    """The configuration of a ``vae`` with a weak KL, and the networks and budget of ``config``."""
    left_out = {"guide", *LABEL_KEYS, *own_keys(config.model, config.guide)}
    left_out |= {"protocol", *PoseWindow.own_keys()} - config.given
    kept = {k: v for k, v in config.model_dump().items() if k not in left_out}
    changes = {
        "preset": presets_of(config.data)[1],
        "model": "vae",
        "objective": "analytic",
        "kl_z": AUTOENCODER_KL,
        "augment": augment,
        "reconstruct": "augmented" if augment is None else "original",
    }
    return default_config(config.data, kept, changes)


def _mixture_of_z(config: Config, rows: TrainingData, augment: str | None) -> Labels:
    with tempfile.TemporaryDirectory(prefix="clustering-") as folder:
        run = trained(autoencoder(config, augment), Path(folder) / "run")
        parts = (rows.training_rows, rows.split.test)
        train, test = (run.embed(rows.tensors(n, run.device)[0]).astype(float) for n in parts)
    return _mixture(config, rows, train, test, "full")


def _spectral(config: Config, rows: TrainingData) -> Labels:
    """Cluster training and test rows together, as the method has no rule for new rows."""
    train, test = _parts(rows)
    K = len(rows.schema.classes)
    found = SpectralClustering(K, affinity="nearest_neighbors", random_state=config.seed)
    return np.asarray(found.fit_predict(np.concatenate([train, test]))[len(train) :])


def _has_bones(rows: TrainingData) -> bool:
    return bool(rows.kind.edges)


def _few(rows: TrainingData) -> bool:
    return len(rows.training_rows) + len(rows.split.test) <= SPECTRAL_ROWS


REFERENCES: dict[str, Reference] = {
    "k-means": Reference(_k_means),
    "diagonal mixture": Reference(_diagonal_mixture),
    "full mixture of PCA": Reference(_mixture_of_pca),
    "autoencoder, full mixture of z": Reference(lambda c, rows: _mixture_of_z(c, rows, None)),
    "autoencoder + augmentation, full mixture of z": Reference(
        lambda c, rows: _mixture_of_z(c, rows, c.augment)
    ),
    "spectral (test rows fitted, too)": Reference(_spectral, fits=_few),
    "k-means of a sequence's mean bones": Reference(
        _k_means,
        {"window": 0, "features": ("bones",), "statistics": ("mean",)},
        fits=_has_bones,
    ),
}
