"""What a run makes of whole sequences: numbers on the test ones, and a table of new ones."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_gmmvae.data.row_groups import Sequences, mean_by_group, pool_by_group
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.evaluation import (
    accuracy,
    clustering_scores,
    detection_auroc,
    log_probs_of_names,
    wilson_interval,
)
from pyro_gmmvae.runs.data import Schema, TrainingData
from pyro_gmmvae.skeletons import PoseWindow, read_tracks

Array = np.ndarray[Any, Any]
Numbers = dict[str, Any]


class Predicts(Protocol):
    """What is asked of a run."""

    config: Any
    schema: Schema
    model: Any

    def log_probs(self, x: Tensor) -> Array | None: ...

    def class_names(self) -> list[str]: ...

    def elbo(self, x: Tensor) -> Array: ...


def measure_sequences(
    rows: TrainingData, log_probs: Array | None, elbo: Array | None, numbers: Array
) -> Numbers:
    """Numbers of test sequences, from log q(y|x) and ELBO of the windows of some rows.

    Returns:
        ``sequence_accuracy`` with its Wilson interval and ``test_sequences``; how components
        match persons (``sequence_cluster_accuracy``, ``sequence_nmi``, ``sequence_ari``); where
        the test part has persons who are no class: ``strangers`` (their sequences), how well
        scores tell them (``stranger_auroc_extra``: probability of components beyond the classes;
        ``stranger_auroc_class``: 1 less that of the likeliest class; ``stranger_auroc_elbo``:
        minus the ELBO) and how their sequences are clustered (``stranger_accuracy``,
        ``stranger_nmi``, ``stranger_ari``). None where a number has no meaning.
    """
    sequences = rows.groups
    assert isinstance(sequences, Sequences)
    present, _ = sequences.among(numbers)
    y = sequences.first(rows.dataset.y[numbers], numbers)
    unknown = sequences.unknown_person[present]
    strange = unknown >= 0
    found: Numbers = dict.fromkeys(
        ("sequence_accuracy", "sequence_accuracy_low", "sequence_accuracy_high")
    )
    found |= dict.fromkeys(("sequence_cluster_accuracy", "sequence_nmi", "sequence_ari"))
    found |= {"test_sequences": len(present), "strangers": int(strange.sum())}
    judged = strange | (y >= 0)
    if strange.any() and elbo is not None:
        means = sequences.mean(elbo, numbers)
        found["stranger_auroc_elbo"] = detection_auroc(-means[judged], strange[judged])
    if log_probs is None:
        return found
    pooled = sequences.pool(log_probs, numbers)
    share, known = accuracy(pooled, y), int((y >= 0).sum())
    if known:
        scores = clustering_scores(pooled.argmax(1), y)
        found |= {f"sequence_{key}": value for key, value in scores.items()}
    if share is not None and len(rows.split.labelled):
        found["sequence_accuracy"] = share
        low, high = wilson_interval(share, known)
        found |= {"sequence_accuracy_low": low, "sequence_accuracy_high": high}
    if strange.any() and len(rows.split.labelled):  # else no component is a class, or extra
        of_classes = pooled[:, : len(rows.schema.classes)]
        doubt = 1 - np.exp(of_classes).max(1)
        found["stranger_auroc_class"] = detection_auroc(doubt[judged], strange[judged])
        if pooled.shape[1] > of_classes.shape[1]:
            extra = 1 - np.exp(of_classes).sum(1)
            found["stranger_auroc_extra"] = detection_auroc(extra[judged], strange[judged])
    if strange.any():
        scores = clustering_scores(pooled.argmax(1), unknown)
        names = {"cluster_accuracy": "accuracy", "nmi": "nmi", "ari": "ari"}
        found |= {f"stranger_{names[key]}": value for key, value in scores.items()}
    return found


def sequence_table(run: Predicts, file: Path) -> tuple[pd.DataFrame, Array]:
    """A table of a file's tracks: sequence, windows, person, probabilities, mean ELBO.

    A track without any joint has no windows, and nothing is said of it.

    Returns:
        The table, and each track's mean ELBO over its windows (NaN without any).

    Raises:
        GMMVAEError: a file that can't be read, or tracks of another layout.
    """
    schema, kind = run.schema, run.schema.kind
    assert isinstance(kind, PoseWindow)
    tracks = read_tracks(file, len(kind.layout.joints))
    if tracks[0].poses.shape[-1] != kind.dimensions:
        raise GMMVAEError(
            f"{file} holds tracks in {tracks[0].poses.shape[-1]}-D; the run was trained on "
            f"{kind.dimensions}-D ones"
        )
    windows = kind.cut(tracks)
    rows = schema.featurize(windows.x)
    parameter = next(run.model.parameters())
    x = torch.from_numpy(rows).to(parameter)
    present, of_row = np.unique(windows.of_track, return_inverse=True)
    counts = np.bincount(windows.of_track, minlength=len(tracks))
    table: dict[str, Any] = {"sequence": [track.sequence for track in tracks], "windows": counts}
    elbo = np.full(len(tracks), np.nan)
    elbo[present] = mean_by_group(run.elbo(x), of_row)
    log_probs = run.log_probs(x)
    if log_probs is not None:
        # a sequence whose windows are in turn of two components of one name is surely of that name
        names, of_names = log_probs_of_names(log_probs, run.class_names())
        pooled = np.full((len(tracks), len(names)), np.nan)
        pooled[present] = np.exp(pool_by_group(of_names, of_row))
        best = np.nan_to_num(pooled).argmax(1)
        table["person"] = np.where(counts > 0, np.asarray(names)[best], "")
        table["probability"] = pooled[np.arange(len(tracks)), best]
        table |= {f"p_{name}": pooled[:, k] for k, name in enumerate(names)}
    return pd.DataFrame(table), elbo
