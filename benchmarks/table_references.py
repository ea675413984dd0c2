"""scikit-learn's classifiers of the table benchmark, on the same labels and imputed cells."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC
from table_data import MISSING, Draw

# probabilities of libsvm: self-training does better with them than with CalibratedClassifierCV
SVM = {"C": 10, "probability": True}

# settings were chosen for the references: each is the best of a few that were tried
LABELS_ONLY: dict[str, Callable[[int], Any]] = {
    "SVM (C=10)": lambda seed: SVC(**SVM, random_state=seed),
    "SVM (C=1)": lambda seed: SVC(**SVM | {"C": 1}, random_state=seed),
    "logistic": lambda seed: LogisticRegression(max_iter=2000),  # noqa: ARG005
    "ExtraTrees": lambda seed: ExtraTreesClassifier(500, random_state=seed),
    # by default a leaf has 20 rows, and with ten labels a class there is no split
    "HistGradientBoosting": lambda seed: HistGradientBoostingClassifier(
        min_samples_leaf=2, random_state=seed
    ),
    "1-NN": lambda seed: KNeighborsClassifier(1),  # noqa: ARG005
    "MLP": lambda seed: MLPClassifier((256, 256), max_iter=1000, random_state=seed),
}
ALL_ROWS: dict[str, Callable[[int], Any]] = {
    "label spreading": lambda seed: LabelSpreading(kernel="knn", max_iter=300),  # noqa: ARG005
    "self-training": lambda seed: SelfTrainingClassifier(SVC(**SVM, random_state=seed)),
}
REFERENCES = (*LABELS_ONLY, *ALL_ROWS)
WITHOUT_PROBABILITIES = {"1-NN"}  # its probabilities are 0 and 1


def predict(method: str, draw: Draw) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """Class numbers of the test rows, and (N, K) probabilities where the method has some."""
    x, test_x = encoded(draw)
    y = draw.visible
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", FutureWarning)  # of the probabilities of libsvm
        # a row of label spreading without a labelled neighbor, and self-training without a sure row
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", UserWarning)
        if method in ALL_ROWS:
            classifier = ALL_ROWS[method](draw.seed).fit(x, y)
        else:
            known = y != MISSING
            classifier = LABELS_ONLY[method](draw.seed).fit(x[known], y[known])
        label = classifier.predict(test_x)
        if method in WITHOUT_PROBABILITIES:
            return label, None
        found = np.nan_to_num(classifier.predict_proba(test_x))
    probabilities = np.zeros((len(test_x), len(draw.table.classes)))
    probabilities[:, classifier.classes_] = found
    return label, probabilities


def encoded(draw: Draw) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Training and test rows as numbers, from what the training rows have.

    Numbers: missing cells take the median, then columns are standardized. Texts: missing cells
    take the most frequent text, then there is a column for each text.
    """
    x = draw.table.x
    texts = [name for name in x if x[name].dtype.kind not in "iufb"]
    x = x.astype(dict.fromkeys(texts, object))
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    encoder = make_column_transformer(
        (numbers, [name for name in x if name not in texts]),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), one_hot), texts),
    )
    return encoder.fit_transform(x.iloc[draw.train]), encoder.transform(x.iloc[draw.test])
