"""Every number of a run on its test rows."""

import math
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pyro_gmmvae.evaluation import (
    USABLE_K,
    Bounds,
    accuracy,
    assignment_entropy,
    clustering_scores,
    confusion,
    expected_calibration_error,
    n_components_used,
    pareto_k,
    probe_accuracy,
    reliability,
    silhouette,
    sum_by_name,
    wilson_interval,
)
from pyro_gmmvae.runs.data import TrainingData, some_of
from pyro_gmmvae.runs.sequences import measure_sequences

ELBO_SAMPLES = 10
SILHOUETTE_ROWS = 2000  # it compares all pairs
Numbers = dict[str, Any]


class Measured(Protocol):
    """What is asked of a run."""

    device: torch.device
    names: tuple[str, ...] | None

    @property
    def has_bound(self) -> bool: ...

    def log_probs(self, x: Tensor) -> np.ndarray[Any, Any] | None: ...

    def factor_log_probs(self, x: Tensor) -> dict[str, np.ndarray[Any, Any]]: ...

    def elbo(self, x: Tensor) -> np.ndarray[Any, Any]: ...

    def embed(self, x: Tensor) -> np.ndarray[Any, Any]: ...

    def bounds(self, x: Tensor, samples: int, *, y: Tensor | None = None) -> Bounds: ...


def measure(run: Measured, rows: TrainingData, samples: int, nll_rows: int) -> Numbers:
    """Numbers on the test rows; None where one has no meaning for the run.

    Returns:
        From class probabilities and true classes (None where fit or test rows had no labels):
        ``accuracy`` with its 95 % Wilson interval ``accuracy_low`` and ``accuracy_high``,
        ``ece``, ``reliability``, ``confusion``, ``probe_accuracy`` (a linear probe of z).
        From components and classes: ``cluster_accuracy``, ``nmi``, ``ari`` and, where components
        were named after the fit, ``named_accuracy`` (share of test rows whose likeliest name
        is their class). From components alone: ``components_used`` (likeliest of at least one
        row, and of one in a thousand), ``component_sizes`` (rows whose likeliest each is),
        ``assignment_entropy`` (mean entropy of q(s|x), nats) and, where fit or test rows had
        no labels, ``silhouette`` (of posterior means z, on up to 2,000 rows).
        In nats per row (None for a model without a bound, but ``distortion``): ``elbo``,
        ``rate``, ``distortion``, ``nll`` (minus the importance-weighted bound of ``samples``
        draws on ``nll_rows`` rows), ``bits_per_dim`` (nll in bits per entry of x, in the
        model's units), ``ess`` (median effective sample size), ``pareto_k`` (median of the
        rows' k-hat) and ``pareto_k_bad`` (share of rows with one above 0.7; both None below 25
        samples, see :func:`pyro_gmmvae.evaluation.pareto_k`). Of rows that are windows of sequences
        also what :func:`pyro_gmmvae.runs.sequences.measure_sequences` gives, and of further
        factors ``accuracy_NAME``, ``cluster_accuracy_NAME``, ``nmi_NAME``, ``ari_NAME``.
    """
    x, y = rows.tensors(rows.split.test, run.device)
    log_probs = run.log_probs(x) if len(x) else None
    numbers = _of_classes(run, rows, log_probs, x, y.cpu().numpy())
    numbers |= _of_components(run, rows, log_probs, x, y.cpu().numpy())
    numbers |= _of_densities(run, x, y, samples, some_of(len(x), nll_rows))
    if rows.groups.merges:
        elbo = run.elbo(x) if run.has_bound else None
        numbers |= measure_sequences(rows, log_probs, elbo, rows.split.test)
    for name in rows.factors:
        numbers |= _of_factor(run, rows, name, x)
    return numbers | {"test_rows": len(x), "labels": rows.labels}


def _of_factor(run: Measured, rows: TrainingData, name: str, x: Tensor) -> Numbers:
    """``accuracy_NAME`` (where the fit saw labels of it) and how it clusters its classes."""
    y = rows.factor_labels(name, rows.split.test)
    if not (y >= 0).any():
        return {}
    log_probs = run.factor_log_probs(x)[name]
    scores = clustering_scores(log_probs.argmax(1), y)
    found: Numbers = {f"{key}_{name}": value for key, value in scores.items()}
    if (rows.factor_labels(name, rows.split.train) >= 0).any():
        found[f"accuracy_{name}"] = accuracy(log_probs, y)
    return found


def _of_classes(
    run: Measured,
    rows: TrainingData,
    log_probs: np.ndarray[Any, Any] | None,
    x: Tensor,
    y: np.ndarray[Any, Any],
) -> Numbers:
    names = ("accuracy", "accuracy_low", "accuracy_high", "ece", "reliability", "confusion")
    numbers: Numbers = dict.fromkeys((*names, "probe_accuracy"))
    numbers |= dict.fromkeys(("cluster_accuracy", "nmi", "ari"))
    known = int((y >= 0).sum())
    if not known:
        return numbers
    if log_probs is not None:
        numbers |= clustering_scores(log_probs.argmax(1), y)
    if not len(rows.split.labelled):
        return numbers
    labelled_x, labelled_y = rows.tensors(rows.split.labelled, run.device)
    if len(labelled_y.unique()) > 1:
        z = run.embed(labelled_x)
        numbers["probe_accuracy"] = probe_accuracy(z, labelled_y.cpu().numpy(), run.embed(x), y)
    if log_probs is not None:
        share = accuracy(log_probs, y)
        assert share is not None
        table = reliability(log_probs, y)
        low, high = wilson_interval(share, known)
        values = (
            share,
            low,
            high,
            expected_calibration_error(table),
            table.to_dict("records"),
            confusion(log_probs, y).tolist(),
        )
        numbers |= dict(zip(names, values, strict=True))
    return numbers


def _of_components(
    run: Measured,
    rows: TrainingData,
    log_probs: np.ndarray[Any, Any] | None,
    x: Tensor,
    y: np.ndarray[Any, Any],
) -> Numbers:
    names = ("components_used", "component_sizes", "assignment_entropy", "silhouette")
    numbers: Numbers = dict.fromkeys(names)
    if log_probs is None:
        return numbers
    clusters = log_probs.argmax(1)
    numbers |= {
        "components_used": n_components_used(clusters),
        "component_sizes": np.bincount(clusters, minlength=log_probs.shape[1]).tolist(),
        "assignment_entropy": float(assignment_entropy(log_probs).mean()),
    }
    has_classes = bool((y >= 0).any())
    if not (has_classes and len(rows.split.labelled)) and numbers["components_used"] > 1:
        chosen = some_of(len(x), SILHOUETTE_ROWS)
        numbers["silhouette"] = silhouette(run.embed(x[chosen]), clusters[chosen])
    if run.names is not None and has_classes:
        found, of_names = sum_by_name(log_probs, run.names)
        number_of = {name: number for number, name in enumerate(found)}
        # a class that no component is named after is never said: its rows are wrong
        wanted = np.array([number_of.get(name, len(found)) for name in rows.schema.classes])
        numbers["named_accuracy"] = accuracy(of_names, np.where(y < 0, -1, wanted[y]))
    return numbers


def _of_densities(
    run: Measured, x: Tensor, y: Tensor, samples: int, chosen: np.ndarray[Any, Any]
) -> Numbers:
    few = run.bounds(x, ELBO_SAMPLES, y=y)
    names = ("elbo", "rate", "distortion", "nll", "bits_per_dim", "ess", "pareto_k")
    numbers: Numbers = dict.fromkeys((*names, "pareto_k_bad")) | {
        "distortion": few.distortion.mean().item()
    }
    if not run.has_bound:
        return numbers
    many = run.bounds(x[chosen], samples, y=y[chosen])
    nll = -many.iwae.mean().item()
    return (
        numbers
        | {
            "elbo": few.elbo.mean().item(),
            "rate": few.rate.mean().item(),
            "nll": nll,
            "nll_samples": samples,
            "nll_rows": len(chosen),
            "bits_per_dim": nll / (x[0].numel() * math.log(2)),
            "ess": many.effective_samples.median().item(),
        }
        | _of_k(pareto_k(many.log_w))
    )


def _of_k(k: np.ndarray[Any, Any]) -> Numbers:
    """Of the rows' Pareto k-hat; None where too few samples made no tail to fit."""
    if np.isnan(k).any():
        return {"pareto_k": None, "pareto_k_bad": None}
    middle = float(np.median(k))
    # JSON has no infinity, the k-hat of a row with hardly a weight that is not 0
    return {
        "pareto_k": middle if math.isfinite(middle) else None,
        "pareto_k_bad": float((k > USABLE_K).mean()),
    }
