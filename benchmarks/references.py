"""Supervised references from scikit-learn, on the labelled rows of the same draw."""

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

import pyro_gmmvae
from pyro_gmmvae.config import Config
from pyro_gmmvae.runs import TrainingData
from pyro_gmmvae.sweeps import append_result, read_results

REFERENCES: dict[str, Callable[[Config], Any]] = {
    "softmax regression": lambda config: LogisticRegression(max_iter=2000),  # noqa: ARG005
    "1-nearest neighbor": lambda config: KNeighborsClassifier(1),  # noqa: ARG005
    "SVM (RBF)": lambda config: SVC(C=10),  # noqa: ARG005
    "MLP, labels only": lambda config: MLPClassifier(
        config.hidden, max_iter=500, random_state=config.seed
    ),
}


def add_references(config: Config, results: Path, log: Callable[[str], None]) -> None:
    """Append a row for each reference that has none yet."""
    labels = "all" if config.labels is None else str(config.labels)
    table = read_results(results, log)
    here = (table["data"] == config.data) & (table["labels"] == labels)
    done = set(table[here & (table["seed"] == config.seed)]["model"])
    missing = {name: make for name, make in REFERENCES.items() if name not in done}
    if not missing or config.labels == 0:
        return
    rows = TrainingData.from_config(config)
    (x, y), (test_x, test_y) = rows.tensors(rows.split.labelled), rows.tensors(rows.split.test)
    test_x, test_y = test_x[test_y >= 0], test_y[test_y >= 0]
    for name, make in missing.items():
        started = time.monotonic()
        with threadpool_limits(1):
            classifier = make(config).fit(x.flatten(1).numpy(), y.numpy())
            seconds = round(time.monotonic() - started, 1)
            accuracy = classifier.score(test_x.flatten(1).numpy(), test_y.numpy())
        row = {
            "data": config.data,
            "model": name,
            "labels": labels,
            "seed": config.seed,
            "guide": "",
            "objective": "",
            "preset": "",
            "settings": "",
            "config": "reference",
            "accuracy": accuracy,
            "test_rows": len(test_y),
            "label_seed": config.seed if config.label_seed is None else config.label_seed,
            **measured_here(repr(classifier), seconds),
        }
        append_result(results, row)
        log(f"{name}, {labels} labels, seed {config.seed}: accuracy {accuracy:.4f}")


def measured_here(what: str, seconds: float) -> dict[str, Any]:
    """Columns of a row of scikit-learn: seconds, machine and versions."""
    return {
        "seconds": seconds,
        "fit_seconds": seconds,
        "device": "cpu",
        "threads": 1,
        "processor": platform.machine(),
        "versions": f"scikit-learn={sklearn.__version__}",
        "version": pyro_gmmvae.__version__,
        "command": f"scikit-learn: {what}",
    }
