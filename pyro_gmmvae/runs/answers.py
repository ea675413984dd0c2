"""Answers for new rows, by labelled rows that were held out: what they say about a prediction."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import (
    check_coverage,
    conformal_sets,
    fit_temperature,
    new_class_shares,
    tempered,
)
from pyro_gmmvae.runs.folder import FOLDS, OUT_OF_FOLD, VALIDATION_SCORES, read_metrics
from pyro_gmmvae.runs.out_of_fold import OutOfFold

if TYPE_CHECKING:
    from pyro_gmmvae.runs.run import Run

FALSE_ALARMS = 0.05
"""Share of rows of known classes whose ``new`` reaches 1 - FALSE_ALARMS, about."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Answers:
    """Calibrated probabilities, sets of classes and alarms for new classes of a run.

    Attributes:
        run: the run, whose fit saw labels.
        held_out: scores of labelled rows that were held out.
        source: "out-of-fold", or "validation".
        temperature: of the class probabilities.
    """

    run: "Run"
    held_out: OutOfFold
    source: str
    temperature: float

    @classmethod
    def of(cls, run: "Run") -> "Answers | None":
        """The answers of a run; None where no labelled row was held out.

        They are of the weights that the run loads by default.

        Raises:
            GMMVAEError: a file of scores that is damaged, or of another run.
        """
        if read_metrics(run.path).get("weights") != run.weights:
            return None
        for source, name in (("out-of-fold", OUT_OF_FOLD), ("validation", VALIDATION_SCORES)):
            file = run.path / name
            if not file.exists():
                continue
            held_out = OutOfFold.load(file)
            classes = run.schema.classes
            if held_out.names[: len(classes)] != classes:
                raise GMMVAEError(f"{file} has other classes than the run; train again")
            return cls(run, held_out, source, fit_temperature(held_out.log_probs, held_out.y))
        return None

    def about(self) -> dict[str, Any]:
        """Facts about the answers, for programs."""
        return {
            "new_threshold": 1 - FALSE_ALARMS,
            "false_alarms": FALSE_ALARMS,
            "temperature": self.temperature,
            "held_out_rows": len(self.held_out),
            "held_out": self.source,
        }

    def describe(self) -> str:
        """One line on what the answers are from, and how to read ``new``."""
        rows = f"{len(self.held_out)} {self.source} rows"
        if len(self.held_out) < 1 / FALSE_ALARMS - 1:
            alarm = f"new can't reach {1 - FALSE_ALARMS:g} with so few"
        else:
            alarm = (
                f"new >= {1 - FALSE_ALARMS:g} in {100 * FALSE_ALARMS:g} % of rows of known classes"
            )
        return f"by {rows}: temperature {self.temperature:.3g}; {alarm}"

    def calibrated(self, log_probs: Array) -> Array:
        """(N, K) log-probabilities with the temperature that suits the held-out rows."""
        return tempered(log_probs, self.temperature)

    def new(self, log_probs: Array, elbo: Array) -> Array:
        """(N,) near 1 for rows of no known class; see ``evaluation.new_class_shares``."""
        held = self.held_out
        return new_class_shares(elbo, log_probs, held.elbo, held.log_probs)

    def new_of_held_out(self) -> Array:
        """(n,) :meth:`new` of the held-out rows, each fold by the rows of the others.

        Of a single fold each row by all others.
        """
        held = self.held_out
        fold = held.fold if len(np.unique(held.fold)) > 1 else np.arange(len(held))
        shares = np.empty(len(held))
        for number in np.unique(fold):
            own, rest = fold == number, fold != number
            parts = held.elbo[own], held.log_probs[own], held.elbo[rest], held.log_probs[rest]
            shares[own] = new_class_shares(*parts)
        return shares

    def calibrated_held_out(self) -> Array:
        """(n, K) log-probabilities of the held-out rows, each fold by the others' temperature."""
        held = self.held_out
        result = held.log_probs.astype(float)
        for number in np.unique(held.fold) if len(np.unique(held.fold)) > 1 else ():
            own = held.fold == number
            temperature = fit_temperature(held.log_probs[~own], held.y[~own])
            result[own] = tempered(held.log_probs[own], temperature)
        return result

    def models(self) -> "Iterator[Run]":
        """The runs that did not see the rows of each fold; of validation rows the run itself."""
        if self.source == "validation":
            yield self.run
            return
        for number in range(int(self.held_out.fold.max()) + 1):
            folder = self.run.path / FOLDS / str(number)
            yield type(self.run).load(folder, device=str(self.run.device))

    def sets(self, log_probs: Array, coverage: float) -> Array:
        """(N, classes) whether each class is in the set of a row.

        Args:
            log_probs: (folds, N, K) by each of :meth:`models`.
            coverage: probability of the true class being in the set.

        Raises:
            GMMVAEError: too few held-out rows for the coverage.
        """
        held, classes = self.held_out, len(self.run.schema.classes)
        scores = -held.log_probs[np.arange(len(held)), held.y]
        return conformal_sets(scores, held.fold, -log_probs[..., :classes], coverage)


def answers_for_coverage(run: "Run", coverage: float | None) -> Answers | None:
    """:meth:`Answers.of`, and a check that a coverage can be had.

    Raises:
        GMMVAEError: a coverage is asked for, and too few labelled rows were held out, or none.
    """
    answers = Answers.of(run)
    if coverage is None:
        return answers
    if answers is None:
        raise GMMVAEError(
            f"{run.path} has no scores of labelled rows outside training (with the weights "
            f"{run.weights!r}), which --coverage needs; train with --cv 5, or with validation rows"
        )
    check_coverage(coverage, len(answers.held_out))
    return answers
