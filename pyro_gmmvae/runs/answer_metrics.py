"""Metrics of calibrated probabilities, sets of classes and alarms for new classes."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import (
    accuracy,
    check_coverage,
    confusion,
    detection_auroc,
    expected_calibration_error,
    log_loss,
    reliability,
    wilson_interval,
)
from pyro_gmmvae.runs.answers import FALSE_ALARMS, Answers, answers_for_coverage
from pyro_gmmvae.runs.data import TrainingData, some_of
from pyro_gmmvae.runs.out_of_fold import OutOfFold, class_log_probs, score_rows

if TYPE_CHECKING:
    from pyro_gmmvae.runs.run import Run

Array = np.ndarray[Any, Any]
Numbers = dict[str, Any]
COVERAGE = 0.9
MOST_ROWS = 2000  # test rows; each is scored by the models of all folds
KEYS = (
    *("log_loss", "temperature", "calibrated_log_loss", "calibrated_ece"),
    *("sets_asked", "set_coverage", "set_coverage_low", "set_coverage_high", "set_size"),
    *("new_alarms", "new_auroc"),
)


def measure_answers(run: "Run", data: TrainingData, coverage: float | None = None) -> Numbers:
    """Measure what ``predict`` adds to a class, on up to 2,000 test rows with a label.

    Args:
        run: the run.
        data: its data, with test rows.
        coverage: of the sets; None: 0.9 where there are enough held-out rows for it.

    Returns:
        ``log_loss`` of the model's probabilities, ``temperature``, and ``calibrated_log_loss`` and
        ``calibrated_ece`` with it. ``sets_asked`` (the coverage), ``set_coverage`` (share of rows
        whose set holds their class) with its 95 % Wilson interval, ``set_size`` (mean number of
        classes). ``new_alarms``: share of rows whose ``new`` reaches 0.95; ``new_auroc``: how well
        it detects rows of the class that was left out, or of unknown people. None where no
        labelled row was held out, or no test row has a label.

    Raises:
        GMMVAEError: a coverage for which too few labelled rows were held out.
    """
    numbers: Numbers = dict.fromkeys(KEYS)
    answers = answers_for_coverage(run, coverage)
    rows = data.split.test[data.dataset.y[data.split.test] >= 0]
    if answers is None or not len(rows):
        return numbers
    rows = rows[some_of(len(rows), MOST_ROWS)]
    test = OutOfFold.of(run, data, rows)
    calibrated = answers.calibrated(test.log_probs)
    new = answers.new(test.log_probs, test.elbo)
    numbers |= _of_probabilities(test, calibrated) | {
        "temperature": answers.temperature,
        "new_alarms": float((new >= 1 - FALSE_ALARMS).mean()),
        "new_auroc": _auroc(answers, data, new),
    }
    if coverage is None and not _enough(answers):
        return numbers
    of_folds = [
        class_log_probs(one, replace(data, schema=one.schema), rows) for one in answers.models()
    ]
    asked = coverage or COVERAGE
    sets = answers.sets(np.stack(of_folds), asked)
    share = float(sets[np.arange(len(test)), test.y].mean())
    low, high = wilson_interval(share, len(test))
    return numbers | {
        "sets_asked": asked,
        "set_coverage": share,
        "set_coverage_low": low,
        "set_coverage_high": high,
        "set_size": float(sets.sum(1).mean()),
    }


def measure_out_of_fold(run: "Run", data: TrainingData, coverage: float | None = None) -> Numbers:
    """Measure a run without test rows on the rows of its cross-validation.

    Returns:
        ``from``: "out-of-fold"; ``accuracy`` with its 95 % Wilson interval, ``log_loss``, ``ece``,
        ``reliability`` and ``confusion`` of each row by the model that was trained without its
        fold; ``calibrated_log_loss`` and ``calibrated_ece`` by the temperature of the other folds;
        ``temperature``; ``new_auroc`` as in :func:`measure_answers`; ``labels`` and ``folds``.

    Raises:
        GMMVAEError: there was no cross-validation; a coverage, which needs test rows.
    """
    answers = Answers.of(run)
    if answers is None or answers.source != "out-of-fold":
        raise GMMVAEError(
            f"{run.path} was trained without test rows (test = 0, or a split that names none) and "
            "without a cross-validation (cv)"
        )
    if coverage is not None:
        raise GMMVAEError(
            f"{run.path} has no test rows to measure the coverage of sets on; train with test rows "
            "(--set test=0.2), or leave --coverage out"
        )
    held = answers.held_out
    share, table = accuracy(held.log_probs, held.y), reliability(held.log_probs, held.y)
    assert share is not None
    low, high = wilson_interval(share, len(held))
    return {
        "from": answers.source,
        "accuracy": share,
        "accuracy_low": low,
        "accuracy_high": high,
        **_of_probabilities(held, answers.calibrated_held_out()),
        "ece": expected_calibration_error(table),
        "reliability": table.to_dict("records"),
        "confusion": confusion(held.log_probs, held.y).tolist(),
        "temperature": answers.temperature,
        "new_auroc": _auroc(answers, data, answers.new_of_held_out()),
        "labels": len(held),
        "folds": int(held.fold.max()) + 1,
    }


def _of_probabilities(scores: OutOfFold, calibrated: Array) -> Numbers:
    return {
        "log_loss": log_loss(scores.log_probs, scores.y),
        "calibrated_log_loss": log_loss(calibrated, scores.y),
        "calibrated_ece": expected_calibration_error(reliability(calibrated, scores.y)),
    }


def _auroc(answers: Answers, data: TrainingData, new: Array) -> float | None:
    """AUROC of ``new`` for rows of no known class, beside its values for known rows."""
    unknown = data.unknown
    if not len(unknown):
        return None
    of_unknown = answers.new(*score_rows(answers.run, data, unknown))
    is_unknown = np.arange(len(new) + len(of_unknown)) >= len(new)
    return detection_auroc(np.concatenate([new, of_unknown]), is_unknown)


def _enough(answers: Answers) -> bool:
    try:
        check_coverage(COVERAGE, len(answers.held_out))
    except GMMVAEError:
        return False
    return True
