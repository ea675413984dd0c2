"""scikit-learn on the same features and splits of sequences, whole or in windows."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from pyro_gmmvae.config import Config
from pyro_gmmvae.evaluation import accuracy
from pyro_gmmvae.runs import TrainingData

REFERENCES: dict[str, Callable[[], Any]] = {
    "logistic": lambda: LogisticRegression(max_iter=2000),
    "LDA": LinearDiscriminantAnalysis,
    "SVM (RBF)": lambda: SVC(C=10),
    "1-NN": lambda: KNeighborsClassifier(1),
}
WHOLE = {"window": 0, "statistics": ("mean",)}
WAYS: dict[str, dict[str, Any]] = {
    "windows, pooled": {},
    "whole, bones": WHOLE | {"features": ("bones",)},
    "whole, joints": WHOLE | {"features": ("joints",)},
}


def reference_rows(config: Config, has_bones: bool) -> list[dict[str, Any]]:
    """Accuracy of test sequences by each reference, for each kind of features."""
    found = []
    for way, changes in WAYS.items():
        if "bones" in way and not has_bones:
            continue
        rows = TrainingData.from_config(config.replace(**changes))
        for name, make in REFERENCES.items():
            if name == "LDA" and len(rows.split.labelled) <= len(rows.schema.classes):
                continue  # it has no spread within a class to measure
            windows, sequences = score(make(), rows)
            found.append(
                {
                    "model": name,
                    "variant": way,
                    "accuracy": sequences,
                    "window_accuracy": windows,
                }
            )
    return found


def score(classifier: Any, rows: TrainingData) -> tuple[float | None, float | None]:
    """Accuracy of test windows, and of the sequences that they are pooled to."""
    x, y = _known(rows, rows.split.labelled)
    test_x, test_y = _known(rows, rows.split.test)
    with warnings.catch_warnings():
        # one sequence a person looks like regression to scikit-learn
        warnings.simplefilter("ignore", UserWarning)
        classifier.fit(x, y)
    classes = len(rows.schema.classes)
    log_probs = np.full((len(test_x), classes), -50.0)
    log_probs[:, classifier.classes_] = _log_probs(classifier, test_x)
    pooled = rows.groups.pool(log_probs, rows.split.test)
    return accuracy(log_probs, test_y), accuracy(pooled, rows.groups.first(test_y, rows.split.test))


def _known(rows: TrainingData, numbers: Any) -> tuple[Any, Any]:
    """Rows as arrays; missing entries take the mean, which is 0 after standardizing."""
    x, y = rows.tensors(numbers)
    return np.nan_to_num(x.flatten(1).numpy()), y.numpy()


def _log_probs(classifier: Any, x: Any) -> Any:
    if hasattr(classifier, "predict_proba"):
        return np.log(classifier.predict_proba(x).clip(np.exp(-50)))
    # of votes between pairs of classes: how the machine itself ranks them
    return classifier.decision_function(x)
