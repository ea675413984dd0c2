"""Metrics of a run on its test rows, and predictions for sequences."""

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from pyro_gmmvae.data.row_groups import Sequences
from pyro_gmmvae.evaluation import (
    accuracy,
    assignment_entropy,
    clustering_scores,
    confusion,
    detection_auroc,
    disentanglement,
    expected_calibration_error,
    guide_draws,
    n_components_used,
    probe_accuracy,
    reliability,
    silhouette,
    sum_by_name,
    total_correlation,
    wilson_interval,
)
from pyro_gmmvae.models import VQVAE
from pyro_gmmvae.runs.data import TrainingData, some_of
from pyro_gmmvae.runs.densities import measure_densities
from pyro_gmmvae.training.devices import seeded

if TYPE_CHECKING:
    from pyro_gmmvae.runs.run import Run

ROWS_PER_ENTRY = 10  # of z; a covariance of fewer rows has correlations of its own
DISENTANGLEMENT_ROWS = 2000
SILHOUETTE_ROWS = 2000  # it compares all pairs
Array = np.ndarray[Any, Any]
Numbers = dict[str, Any]


def measure(
    run: "Run", rows: TrainingData, samples: int, nll_rows: int, proposal: str = "tilted"
) -> Numbers:
    """Measure a run on its test rows; a metric that does not apply to the run is None.

    Returns:
        From class probabilities and true classes (None where fit or test rows had no labels):
        ``accuracy`` with its 95 % Wilson interval ``accuracy_low`` and ``accuracy_high``,
        ``ece``, ``reliability``, ``confusion``, ``probe_accuracy`` (a linear probe of z).
        From components and classes: ``cluster_accuracy``, ``nmi``, ``ari`` and, where components
        were named after the fit, ``named_accuracy`` (share of test rows whose most probable
        name is their class). From components alone: ``components_used`` (the number that
        are the most probable one of a row, and of 0.1 % of the rows), ``component_sizes`` (the
        number of rows whose most probable component each one is),
        ``assignment_entropy`` (mean entropy of q(s|x), nats) and, where fit or test rows had
        no labels, ``silhouette`` (of posterior means z, on up to 2,000 rows).
        ``total_correlation`` of draws of z (None with fewer than 10 rows for each entry), and for
        data with further factors the scores of :func:`pyro_gmmvae.evaluation.disentanglement`, on
        up to 2,000 rows; of VQ-VAE ``code_perplexity``, the mean over groups of codes.
        Those of :func:`pyro_gmmvae.runs.densities.measure_densities`. Of rows that are windows of
        sequences also those of :func:`measure_sequences`, and of further factors
        ``accuracy_NAME``, ``cluster_accuracy_NAME``, ``nmi_NAME``, ``ari_NAME``.
    """
    x, y = rows.tensors(rows.split.test, run.device)
    log_probs = run.log_probs(x) if len(x) else None
    numbers = _of_classes(run, rows, log_probs, x, y.cpu().numpy())
    numbers |= _of_components(run, rows, log_probs, x, y.cpu().numpy())
    numbers |= _of_entries_of_z(run, rows)
    chosen = some_of(len(x), nll_rows) if nll_rows else np.arange(0)
    numbers |= measure_densities(run, x, y, samples, chosen, proposal)
    if rows.groups.merges:
        elbo = run.elbo(x) if run.has_bound else None
        numbers |= measure_sequences(rows, log_probs, elbo, rows.split.test)
    for name in rows.factors:
        numbers |= _of_factor(run, rows, name, x)
    return numbers | {"test_rows": len(x), "labels": rows.labels}


def _of_factor(run: "Run", rows: TrainingData, name: str, x: Tensor) -> Numbers:
    """Metrics of a further factor: of its clusters, and the accuracy if the fit saw its labels."""
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
    run: "Run",
    rows: TrainingData,
    log_probs: Array | None,
    x: Tensor,
    y: Array,
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


def _of_entries_of_z(run: "Run", rows: TrainingData) -> Numbers:
    """How the entries of z depend on each other, and on the factors of the data."""
    test, dataset = rows.split.test, rows.dataset
    known = {factor.name: factor.y for factor in dataset.factors} | {"": dataset.y}
    chosen = test[some_of(len(test), DISENTANGLEMENT_ROWS)]
    x = rows.tensors(chosen, run.device)[0]
    z = run.embed(x)
    # entries without information about x have means that are nearly constant, and correlated
    numbers: Numbers = {"total_correlation": total_correlation(_draws_of_z(run, x))}
    if len(x) < ROWS_PER_ENTRY * z.shape[1]:
        numbers["total_correlation"] = None
    if isinstance(run.model, VQVAE):
        codes = run.model.codes(x).cpu().numpy()
        numbers["code_perplexity"] = float(np.mean([_perplexity(group) for group in codes.T]))
    complete = np.all([y[chosen] >= 0 for y in known.values()], axis=0)
    if dataset.factors and complete.any():
        values = {name: y[chosen[complete]] for name, y in known.items()}
        numbers |= disentanglement(z[complete], values)
    return numbers


def _perplexity(codes: Array) -> float:
    """exp of the entropy of the codes of rows (N,): the number of codes in use."""
    shares = np.unique(codes, return_counts=True)[1] / len(codes)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _draws_of_z(run: "Run", x: Tensor) -> Array:
    """(N, d) a draw of z for each row; means where z is no site or depends on a given class."""
    if "z" not in run.model.latents or run.model.given_class:
        return run.embed(x)
    with seeded(0, run.device):
        drawn = guide_draws(run.model.model, run.model.guide, x, 1, 1).latents["z"]
    return drawn.reshape(len(x), -1).cpu().numpy()


def _of_components(
    run: "Run",
    rows: TrainingData,
    log_probs: Array | None,
    x: Tensor,
    y: Array,
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
        # a class without a component of its name is never predicted: its rows count as wrong
        wanted = np.array([number_of.get(name, len(found)) for name in rows.schema.classes])
        numbers["named_accuracy"] = accuracy(of_names, np.where(y < 0, -1, wanted[y]))
    return numbers


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
