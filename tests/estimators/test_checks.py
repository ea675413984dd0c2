"""scikit-learn's own checks of what an estimator has to be, on small fits."""

from typing import Any

from sklearn.base import BaseEstimator, clone
from sklearn.utils.estimator_checks import check_classifiers_classes, parametrize_with_checks

from pyro_gmmvae.estimators import GMMVAEClassifier, GMMVAECluster, GMMVAEImputer, GMMVAETransformer

SMALL: dict[str, Any] = {
    "latent_dim": 2,
    "hidden": (8,),
    "batch_size": 128,
    "learning_rate": 0.02,
    "engine": "svi",
}
ESTIMATORS = [
    GMMVAEClassifier(**SMALL, epochs=12, settings={"labelled_per_batch": 64}),
    # from random weights, as the steps that k-means begins with are 300
    GMMVAECluster(**SMALL, epochs=1, settings={"init": "random"}),
    GMMVAETransformer(**SMALL, epochs=1),
    GMMVAEImputer(**SMALL, epochs=1, settings={"members": 1}),
]
WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "a weight is the share of draws: a row of "
    "weight 2 is drawn as often as two equal rows, at other steps"
}
LABELS = WEIGHTS | {
    "check_classifiers_classes": "-1 marks a row without a label, and is no class; "
    "below the check is made as it is of scikit-learn's semi-supervised classifiers"
}


def expected_failures(estimator: BaseEstimator) -> dict[str, str]:
    return LABELS if isinstance(estimator, GMMVAEClassifier) else WEIGHTS


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures, xfail_strict=True)
def test_scikit_learns_checks(estimator: BaseEstimator, check: Any) -> None:
    if check.func.__name__ == "check_clustering":
        estimator = clone(estimator).set_params(epochs=40)  # it asks for good clusters
    check(estimator)


def test_classes_as_of_semi_supervised_classifiers() -> None:
    """scikit-learn asks by name whether -1 may be a class."""
    check_classifiers_classes("SelfTrainingClassifier", ESTIMATORS[0])
