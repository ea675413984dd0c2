"""The rows of a file to label next."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.runs.answers import FALSE_ALARMS, Answers
from pyro_gmmvae.runs.predictions import rows_to_predict

if TYPE_CHECKING:
    from pyro_gmmvae.runs.run import Run

POOL = 5  # the rows to choose from, times the number of rows to name
Array = np.ndarray[Any, Any]


def suggest_rows(
    run: "Run", file: Path, n: int, *, drop_nonfinite: bool = False
) -> dict[str, Array]:
    """Name the rows of a file whose labels would help a fit most.

    Of the rows without a label the 5 n with the smallest margin between the two most probable
    classes are taken, and of these n that are far from each other in z, the least certain one
    first (farthest-first traversal, Gonzalez 1985; as core-sets, arXiv:1708.00489, of uncertain
    rows). The margin alone names rows that resemble each other.

    Args:
        run: a run with classes or components.
        file: the rows; those that have a label are left out.
        n: the number of rows; fewer where fewer have no label.
        drop_nonfinite: leave out rows with missing cells or infinite values.

    Returns:
        Columns ``row`` (number in the file, from 0; of tracks ``sequence``), ``label`` (the most
        probable class) and ``reason``, the first row to label first.

    Raises:
        GMMVAEError: a run without classes or with a single one, a file that can't be read, or one
            in which each row has a label.
    """
    rows = rows_to_predict(run, file, drop_nonfinite=drop_nonfinite, read_labels=None)
    x = rows.tensor(run)
    found = rows.log_probs(run, x)
    if found is None or len(found[0]) < 2:
        raise GMMVAEError(
            f"{run.path} has fewer than two classes, so no row is uncertain; train a model with "
            "classes on labels of several"
        )
    free = np.flatnonzero(~rows.labelled[rows.present])
    if not len(free):
        raise GMMVAEError(f"{file}: there is no row without a label to suggest")
    names, log_probs = np.asarray(found[0]), found[1]
    answers = Answers.of(run)
    probs = np.exp(log_probs if answers is None else answers.calibrated(log_probs))
    best = np.argsort(-probs, axis=1, kind="stable")[:, :2]
    first, second = np.take_along_axis(probs, best, 1).T
    uncertain = free[np.argsort((first - second)[free], kind="stable")[: POOL * n]]
    z = rows.embed(run, x)
    chosen = uncertain[farthest_first(z[uncertain] / (z.std(0) + 1e-9), n)]
    reasons = [
        f"{names[best[i, 0]]} {first[i]:.2f} or {names[best[i, 1]]} {second[i]:.2f}" for i in chosen
    ]
    if answers is not None:
        new = answers.new(log_probs[chosen], rows.elbo(run, x)[chosen])
        reasons = [
            f"{reason}; new {share:.2f}" if share >= 1 - FALSE_ALARMS else reason
            for reason, share in zip(reasons, new, strict=True)
        ]
    key = next(iter(rows.columns))
    return {
        key: rows.columns[key][rows.present][chosen],
        "label": names[best[chosen, 0]],
        "reason": np.array(reasons, str),
    }


def farthest_first(z: Array, n: int) -> list[int]:
    """Numbers of up to n points (N, d): the first, then each time the one farthest from those."""
    chosen, distance = [0], np.full(len(z), np.inf)
    while len(chosen) < min(n, len(z)):
        distance = np.minimum(distance, ((z - z[chosen[-1]]) ** 2).sum(1))
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return chosen
