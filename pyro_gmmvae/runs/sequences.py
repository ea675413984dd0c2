"""Numbers of test sequences, and predictions for the sequences of a file."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_gmmvae.data.row_groups import Sequences, mean_by_group, pool_by_group
from pyro_gmmvae.evaluation import (
    accuracy,
    clustering_scores,
    detection_auroc,
    sum_by_name,
    wilson_interval,
)
from pyro_gmmvae.runs.data import Schema, TrainingData
from pyro_gmmvae.skeletons import PoseWindow

Array = np.ndarray[Any, Any]


class Predicts(Protocol):
    """The methods of a run that a table of sequences needs."""

    schema: Schema
    model: Any

    def log_probs(self, x: Tensor) -> Array | None: ...

    def class_names(self) -> list[str]: ...

    def elbo(self, x: Tensor) -> Array: ...


def measure_sequences(
    data: TrainingData, log_probs: Array | None, elbo: Array | None, rows: Array
) -> dict[str, Any]:
    """Numbers of the sequences of some windows, from their log q(y|x) and ELBO.

    Args:
        data: rows that are windows of sequences.
        log_probs: (n, K) of the windows, or None.
        elbo: (n,) of the windows in nats, or None.
        rows: (n,) numbers of the windows.

    Returns:
        ``test_sequences`` and, None where a number has no meaning, ``sequence_accuracy`` with its
        95 % Wilson interval and how components match people (``sequence_cluster_accuracy``,
        ``sequence_nmi``, ``sequence_ari``). ``unknown_sequences`` are those of people who have no
        training class; where there are some: the area under the ROC curve of three scores that
        detect them (``unknown_auroc_extra``: probability of components beyond the classes;
        ``unknown_auroc_class``: 1 - highest class probability; ``unknown_auroc_elbo``: -ELBO), and
        how they are clustered (``unknown_accuracy``, ``unknown_nmi``, ``unknown_ari``).
    """
    sequences = data.groups
    assert isinstance(sequences, Sequences)
    present, _ = sequences.among(rows)
    y = sequences.first(data.dataset.y[rows], rows)
    unknown_person = sequences.unknown_person[present]
    is_unknown = unknown_person >= 0
    is_known = y >= 0
    named = is_unknown | is_known
    numbers: dict[str, Any] = dict.fromkeys(
        ("sequence_accuracy", "sequence_accuracy_low", "sequence_accuracy_high")
    )
    numbers |= dict.fromkeys(("sequence_cluster_accuracy", "sequence_nmi", "sequence_ari"))
    numbers |= {"test_sequences": len(present), "unknown_sequences": int(is_unknown.sum())}

    def auroc(scores: Array) -> float | None:
        return detection_auroc(scores[named], is_unknown[named])

    if is_unknown.any() and elbo is not None:
        numbers["unknown_auroc_elbo"] = auroc(-sequences.mean(elbo, rows))
    if log_probs is None:
        return numbers
    pooled = sequences.pool(log_probs, rows)
    if is_known.any():
        scores = clustering_scores(pooled.argmax(1), y)
        numbers |= {f"sequence_{key}": value for key, value in scores.items()}
    has_labels = len(data.split.labelled) > 0  # otherwise no component is a class, or beyond them
    share = accuracy(pooled, y) if has_labels else None
    if share is not None:
        low, high = wilson_interval(share, int(is_known.sum()))
        interval = {"sequence_accuracy_low": low, "sequence_accuracy_high": high}
        numbers |= {"sequence_accuracy": share} | interval
    if not is_unknown.any():
        return numbers
    if has_labels:
        probs = np.exp(pooled[:, : len(data.schema.classes)])
        numbers["unknown_auroc_class"] = auroc(1 - probs.max(1))
        if pooled.shape[1] > probs.shape[1]:
            numbers["unknown_auroc_extra"] = auroc(1 - probs.sum(1))
    scores = clustering_scores(pooled.argmax(1), unknown_person)
    names = {"cluster_accuracy": "accuracy", "nmi": "nmi", "ari": "ari"}
    return numbers | {f"unknown_{names[key]}": value for key, value in scores.items()}


def sequence_table(run: Predicts, file: Path) -> tuple[pd.DataFrame, Array]:
    """Predictions for a file's tracks: sequence, windows, person and probabilities.

    A track without any joint has no windows and no prediction.

    Returns:
        The table, and each track's mean ELBO over its windows (NaN without any).

    Raises:
        GMMVAEError: a file that can't be read, or tracks of another layout.
    """
    kind = run.schema.kind
    assert isinstance(kind, PoseWindow)
    tracks, windows = kind.read(file)
    x = torch.from_numpy(run.schema.featurize(windows.x)).to(next(run.model.parameters()))
    present, place = np.unique(windows.of_track, return_inverse=True)
    counts = np.bincount(windows.of_track, minlength=len(tracks))
    table: dict[str, Any] = {"sequence": [track.sequence for track in tracks], "windows": counts}
    elbo = np.full(len(tracks), np.nan)
    elbo[present] = mean_by_group(run.elbo(x), place)
    log_probs = run.log_probs(x)
    if log_probs is not None:
        # components of one name are summed per window: a sequence whose windows alternate between
        # two of them is certainly of that name
        names, of_names = sum_by_name(log_probs, run.class_names())
        probs = np.full((len(tracks), len(names)), np.nan)
        probs[present] = np.exp(pool_by_group(of_names, place))
        best = np.nan_to_num(probs).argmax(1)
        table["person"] = np.where(counts > 0, np.asarray(names)[best], "")
        table["probability"] = probs[np.arange(len(tracks)), best]
        table |= {f"p_{name}": probs[:, k] for k, name in enumerate(names)}
    return pd.DataFrame(table), elbo
