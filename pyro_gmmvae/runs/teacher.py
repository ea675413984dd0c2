"""A teacher: it labels the rows of which it is surest, before a fit."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_gmmvae.config import Config
from pyro_gmmvae.data.splits import number_of_folds
from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs.assembly import build
from pyro_gmmvae.runs.build import resolve
from pyro_gmmvae.runs.data import TrainingData
from pyro_gmmvae.runs.label_graph import probs_by_graph
from pyro_gmmvae.training import Callback
from pyro_gmmvae.training.devices import seeded

Array = NDArray[Any]
FOLDS = 5
# of out-of-fold accuracy: a teacher that is right in 5 % more rows weighs e times as much
SHARPNESS = 20.0
TREES = 150
SHARPNESS_OF_DISTANCES = 2.0
# the least probability of a row that self-training labels; with the default of 0.75 it went
# astray on tables of unequal classes
SURE = 0.9
# rows without a label: those that can get one, and those beside the labelled ones in a fold
MOST_ROWS, MOST_BESIDE = 5000, 1500


def with_teacher(
    config: Config, data: TrainingData, callbacks: Sequence[Callback] = ()
) -> TrainingData:
    """The same data, with classes by a teacher for its surest share of the rows without a label.

    Args:
        config: ``teacher_share`` is the share; 0: no teacher.
        data: with labelled rows of at least two classes; else nothing is done.
        callbacks: notified of the start and the end.

    Raises:
        GMMVAEError: anything that can't be fitted, rows from which teacher=graph can't make a
            graph, no time left to fit, or fewer than two classes where a teacher was given, and is
            not that of a preset.
    """
    if not config.teacher_share or config.class_site is None:
        return data
    y = data.visible_labels().numpy()
    if y.ndim > 1 or len(np.unique(y[y >= 0])) < 2:
        if config.fold is None and {"teacher", "teacher_share"} & config.given:
            raise GMMVAEError("teacher_share needs labelled rows of at least two classes")
        return data
    cpu = torch.device("cpu")
    with seeded(0, cpu):  # refuse what can't be fitted before the teacher takes its time
        build(resolve(config), data, cpu).dry_run()
    started = time.monotonic()
    for callback in callbacks:
        callback.on_start(f"teacher: {config.teacher}")
    if config.teacher == "graph":
        rows, probs = probs_by_graph(config, data, y)
    else:
        rows, probs = _probs_by_classifiers(config, data, y)
    sure = probs.max(1)
    sure[y[rows] >= 0] = -1
    free = int((sure >= 0).sum())
    chosen = np.argsort(-sure, kind="stable")[: int(config.teacher_share * free)]
    # no label reached the others
    chosen = chosen[sure[chosen] > (1 + 1e-6) / probs.shape[1]]
    taught = np.full(len(y), -1, np.int64)
    taught[rows[chosen]] = probs.argmax(1)[chosen]
    seconds = time.monotonic() - started
    if config.minutes is not None and seconds >= 60 * config.minutes:
        raise GMMVAEError(
            f"the teacher took {seconds:.0f} s, and minutes={config.minutes:g} leaves no time to "
            "fit; give more --minutes, or teacher_share=0"
        )
    for callback in callbacks:
        callback.on_start(f"teacher: {len(chosen)} rows labelled, {seconds:.0f} s")
    return replace(data, taught=taught, teacher_seconds=seconds)


def _probs_by_classifiers(config: Config, data: TrainingData, y: Labels) -> tuple[Labels, Array]:
    """Rows, by their places among the training rows, and their (n, C) class probabilities."""
    free = np.flatnonzero(y < 0)
    some = np.random.default_rng(0).permutation(free)[:MOST_ROWS]
    rows = np.concatenate([np.flatnonzero(y >= 0), np.sort(some)])
    points = data.points(data.training_rows[rows])
    # members have seeds of their own, and one teacher
    seed = config.seed if config.label_seed is None else config.label_seed
    return rows, teach(points, y[rows], len(data.schema.classes), seed)


def teach(x: Array, y: Labels, classes: int, seed: int) -> Array:
    """(N, C) class probabilities of rows by several classifiers, weighted by their accuracy.

    Each has a weight exp(20 a), with a its accuracy on labelled rows that were held out.

    Args:
        x: (N, n) finite numbers.
        y: (N,) classes, -1 where unknown; at least two classes occur.
        classes: C.
        seed: of the classifiers and folds.
    """
    scores = np.array([_held_out_accuracy(fit, x, y, classes, seed) for fit in TEACHERS.values()])
    weights = np.exp(SHARPNESS * (scores - scores.max()))
    parts = [fit(x, y, x, classes, seed) for fit in TEACHERS.values()]
    return np.tensordot(weights / weights.sum(), np.stack(parts), 1)


def _held_out_accuracy(fit: "Teacher", x: Array, y: Labels, classes: int, seed: int) -> float:
    """The accuracy of a classifier on labelled rows, in folds; 0 where there can be none."""
    from sklearn.model_selection import StratifiedKFold

    labelled = np.flatnonzero(y >= 0)
    folds = number_of_folds(y[labelled], FOLDS)
    if not folds:
        return 0.0
    some = np.concatenate([labelled, np.flatnonzero(y < 0)[:MOST_BESIDE]])
    correct = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds
        kind = StratifiedKFold(folds, shuffle=True, random_state=seed)
        parts = list(kind.split(labelled, y[labelled]))
    for _, held in parts:
        rows = labelled[held]
        seen = y.copy()
        seen[rows] = -1
        if len(np.unique(seen[seen >= 0])) > 1:
            probs = fit(x[some], seen[some], x[rows], classes, seed)
            correct += int((probs.argmax(1) == y[rows]).sum())
    return correct / len(labelled)


# from rows x and classes y (-1: unknown) to class probabilities of other rows, with a seed
Teacher = Callable[[Array, Labels, Array, int, int], Array]


def _supervised(make: Callable[[int], Any]) -> Teacher:
    """A classifier that is fitted on the labelled rows alone."""

    def fit(x: Array, y: Labels, rows: Array, classes: int, seed: int) -> Array:
        known = y >= 0
        return _probs(make(seed).fit(x[known], y[known]), rows, classes)

    return fit


def _trees(seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(TREES, random_state=seed)


def _svm(seed: int) -> Any:  # noqa: ARG001
    from sklearn.svm import SVC

    class SoftmaxSVC(SVC):
        """Probabilities from distances: calibration by folds needs more labels."""

        def predict_proba(self, rows: Array) -> Array:
            from scipy.special import softmax

            distances = self.decision_function(rows)
            if distances.ndim == 1:
                distances = np.stack([-distances, distances], 1)
            return np.asarray(softmax(SHARPNESS_OF_DISTANCES * distances, axis=1))

    return SoftmaxSVC(C=10)


def _logistic(seed: int) -> Any:  # noqa: ARG001
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000)


def _self_training(x: Array, y: Labels, rows: Array, classes: int, seed: int) -> Array:
    from sklearn.semi_supervised import SelfTrainingClassifier

    used = np.concatenate([np.flatnonzero(y >= 0), np.flatnonzero(y < 0)[:MOST_BESIDE]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no row without a label
        fitted = SelfTrainingClassifier(_svm(seed), threshold=SURE).fit(x[used], y[used])
    return _probs(fitted, rows, classes)


def _label_spreading(x: Array, y: Labels, rows: Array, classes: int, seed: int) -> Array:  # noqa: ARG001
    from sklearn.semi_supervised import LabelSpreading

    neighbors = min(7, len(x) - 1)
    spread = LabelSpreading(kernel="knn", n_neighbors=neighbors, max_iter=100)
    with warnings.catch_warnings():
        # rows that no label reaches, and iterations that end before they converge
        warnings.simplefilter("ignore")
        return np.nan_to_num(_probs(spread.fit(x, y), rows, classes), nan=1 / classes)


def _probs(classifier: Any, rows: Array, classes: int) -> Array:
    """(n, C) probabilities, 0 for classes that the classifier has not seen."""
    probs = np.zeros((len(rows), classes))
    probs[:, classifier.classes_] = classifier.predict_proba(rows)
    return probs


TEACHERS: Mapping[str, Teacher] = {
    "trees": _supervised(_trees),
    "svm": _supervised(_svm),
    "logistic": _supervised(_logistic),
    "self-training": _self_training,
    "label spreading": _label_spreading,
}
