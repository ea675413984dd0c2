"""gmmvae evaluate"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from pyro_gmmvae.cli.options import (
    device_option,
    json_option,
    moved_data_option,
    run_argument,
    weights_option,
)
from pyro_gmmvae.evaluation import PROPOSALS

MEANING = {
    "from": "the rows that were measured, where they are not test rows",
    "accuracy": "share of test rows classified correctly",
    "ece": "expected calibration error",
    "log_loss": "-log probability of the true class, nats per row",
    "temperature": "of the class probabilities, fitted on rows that were held out",
    "calibrated_log_loss": "log loss with this temperature",
    "calibrated_ece": "expected calibration error with this temperature",
    "sets_asked": "coverage that sets of classes were made for",
    "set_coverage": "share of rows whose set holds their class",
    "set_size": "mean number of classes in a set",
    "new_alarms": "share of rows of known classes with new >= 0.95",
    "new_auroc": "AUROC of new for rows of no known class",
    "folds": "folds of the cross-validation",
    "sequence_accuracy": "share of test sequences, their windows pooled",
    "sequence_cluster_accuracy": "components matched to people one to one, windows pooled",
    "sequence_nmi": "normalized mutual information of both",
    "sequence_ari": "adjusted Rand index of both",
    "test_sequences": "number of test sequences",
    "unknown_sequences": "test sequences of people who have no training class",
    "unknown_auroc_extra": "AUROC, score: probability of components beyond the classes",
    "unknown_auroc_class": "AUROC, score: 1 - highest class probability",
    "unknown_auroc_elbo": "AUROC, score: -ELBO",
    "unknown_accuracy": "components matched to these people one to one",
    "unknown_nmi": "normalized mutual information of both",
    "unknown_ari": "adjusted Rand index of both",
    "probe_accuracy": "logistic regression on z of the labelled rows",
    "cluster_accuracy": "components matched to classes one to one",
    "nmi": "normalized mutual information of both",
    "ari": "adjusted Rand index of both",
    "components_used": "most probable one of at least 1 test row, and of 1 in 1000",
    "component_sizes": "test rows per most probable component",
    "assignment_entropy": "mean entropy of q(s|x), nats",
    "silhouette": "of z in components, -1 to 1, on up to 2000 rows",
    "named_accuracy": "share of test rows whose most probable name is their class",
    "elbo": "nats per row",
    "rate": "KL of all latents, nats per row",
    "distortion": "-log p(x|latents), nats per row",
    "nll": "importance-weighted bound on -log p(x), nats per row",
    "bits_per_dim": "the same in bits per entry of x, in the model's units",
    "ess": "median effective samples of that bound",
    "nll_proposal": "distribution of the samples of nll",
    "pareto_k": "median Pareto k of its rows: < 0.5 a good proposal, to 0.7 usable",
    "pareto_k_bad": "share of its rows with k > 0.7: a poor proposal",
    "rhat": "R-hat of posterior draws (export), largest of a row, median of 20 rows",
    "recognized": "share of draws that an SVM gives their class",
    "judge_accuracy": "share of test rows that this SVM gives their class",
    "precision": "share of draws near a test row",
    "recall": "share of test rows near a draw",
    "density": "mean number of test rows that a draw is near to, over 5",
    "coverage": "share of test rows with a draw near them",
    "spread": "of draws within a class, relative to test rows",
    "nearest_training_draws": "median distance of a draw to the nearest training row",
    "nearest_training_test": "the same of a test row",
    "active_units": "entries of z whose posterior mean varies over rows",
    "total_correlation": "of a Gaussian with the moments of draws of z, nats",
    "code_perplexity": "number of codes in use, exp of their entropy, mean over groups",
    "mig": "mutual information gap of z and the factors of the data, 20 bins",
    "dci_disentanglement": "1: each entry of z serves one factor",
    "dci_completeness": "1: each factor needs one entry of z",
    "dci_informativeness": "accuracy of factors predicted from z",
    "sap": "accuracy gap of the two best entries of z, of linear classifiers",
    "factor_vae_score": "accuracy of votes for the factor that is constant",
    "kl_units": "KL of each entry of z, nats per row",
}


@click.command(short_help="Measure a run on its test rows.")
@run_argument
@click.option(
    "--samples",
    type=click.IntRange(2, 100_000),
    help="Importance samples per row for nll.  [default: 200; laplace: 100; ais: 16]",
)
@click.option(
    "--proposal",
    type=click.Choice(list(PROPOSALS)),
    default="tilted",
    show_default=True,
    help="Distribution of these samples: the guide; the guide with a tilted s and heavier tails; "
    "Student-t around the modes of each row's posterior; annealed importance sampling.",
)
@click.option(
    "--nll-rows",
    type=click.IntRange(0),
    help="Test rows that nll is measured on; 0: none, which is faster.  [default: 1000; laplace: "
    "100; ais: 50]",
)
@click.option(
    "--draws",
    type=click.IntRange(0, 100_000),
    default=1000,
    show_default=True,
    help="Draws to measure the generator on, at most as many as test rows; 0: none.",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="Probability that the set of classes of a row holds its class.  [default: 0.9]",
)
@moved_data_option
@weights_option
@device_option
@json_option
def evaluate(
    run: Path,
    samples: int | None,
    proposal: str,
    nll_rows: int | None,
    draws: int,
    coverage: float | None,
    data: str | None,
    weights: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Measure RUN on its test rows: accuracy, bounds on log p(x), and draws beside real rows.

    A run that was cross-validated and has no test rows is measured on its labelled rows, each by
    the model that was trained without its fold; there are no densities and draws then.

    The numbers are also written to RUN/metrics.json. Pareto k says whether the proposal covers the
    posterior (Yao et al. 2018, arXiv:1802.02538): below 0.5 well, to 0.7 well enough; above, it is
    too far from the row's posterior for nll to be trusted.

    Draws have the classes of the test rows. An SVM, trained on all labels of the training rows,
    recognizes them; precision, recall, density and coverage compare them with test rows
    (arXiv:1904.06991, arXiv:2002.09797). The same numbers follow for real test rows and, where
    draws are means of p(x|z,s), for samples of x.
    """
    from pyro_gmmvae.evaluation.generation import NEIGHBORS
    from pyro_gmmvae.runs import Run
    from pyro_gmmvae.runs.densities import loose_bound

    loaded = Run.load(run, device=device or "auto", weights=weights)
    options: dict[str, Any] = {"proposal": proposal, "draws": draws, "coverage": coverage}
    result = loaded.evaluate(samples=samples, nll_rows=nll_rows, data=data, **options)
    if as_json:
        click.echo(json.dumps(result))
        return
    for line in _lines(result):
        click.echo(line)
    if (warning := loose_bound(result)) is not None:
        click.echo(f"\n{warning}")
    out_of_fold = result.get("from") == "out-of-fold"
    if out_of_fold:
        click.echo(
            f"\nthe run has no test rows: cross-validated over {result['labels']} labelled rows, "
            f"in {result['folds']} folds"
        )
    if not out_of_fold and draws and result["test_rows"] <= NEIGHBORS:
        click.echo(
            f"\ndraws were not measured: recall with {NEIGHBORS} neighbors needs at least "
            f"{NEIGHBORS + 1} test rows, and there are {result['test_rows']}"
        )
    if (of_columns := result.get("log_px_of_columns")) is not None:
        shares = sorted(of_columns, key=of_columns.__getitem__)
        numbers = [f"{name}: {of_columns[name]:.3f}" for name in shares]
        click.echo(_wrapped("log p(x|latents) of columns, nats per row", numbers))
    if result.get("component_sizes") is not None:
        names, sizes = loaded.class_names(), result["component_sizes"]
        order = sorted(range(len(names)), key=lambda k: -sizes[k])
        listed = [f"{names[k]}: {sizes[k]}" for k in order]
        click.echo(_wrapped("test rows per component", listed))
    if not result["labels"] and result.get("cluster_accuracy") is not None:
        click.echo("\nthe fit saw no class label; those of the data served this evaluation only")
    if result["confusion"] is not None:
        classes = len(loaded.schema.classes)
        click.echo(_confusion(loaded.class_names(), classes, result["confusion"]))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    """A line for each number that was measured, with its meaning.

    An accuracy has its interval on its line, and a measure of draws the number of real rows.
    """
    from pyro_gmmvae.runs.generator import REFERENCES

    on_other_lines = {*REFERENCES.values(), *(f"{key}_sampled" for key in REFERENCES)}
    for key, value in result.items():
        of_interval = key.endswith(("_low", "_high")) and key.rpartition("_")[0] in result
        if value is None or isinstance(value, list | dict) or of_interval or key in on_other_lines:
            continue
        low, high = result.get(f"{key}_low"), result.get(f"{key}_high")
        if low is not None and high is not None:
            yield f"{key:<27}{value:.3f} (95 % Wilson interval {low:.3f} to {high:.3f})"
            continue
        shown = f"{value:.4f}" if isinstance(value, float) else str(value)
        beside = {"real rows": result.get(REFERENCES.get(key, ""))}
        beside["sampled"] = result.get(f"{key}_sampled")
        known = [f"{word} {number:.4f}" for word, number in beside.items() if number is not None]
        meaning = "; ".join(filter(None, [MEANING.get(key, ""), *known]))
        yield f"{key:<27}{shown:<24}{meaning}".rstrip()


def _wrapped(title: str, items: Sequence[str]) -> str:
    """Items of a name and a number, each on one line."""
    joined = ", ".join(item.replace(" ", "\N{NO-BREAK SPACE}") for item in items)
    listed = f"{title}: {joined}"
    wrapped = textwrap.fill(listed, 100, subsequent_indent="  ", break_on_hyphens=False)
    return "\n" + wrapped.replace("\N{NO-BREAK SPACE}", " ")


def _confusion(names: list[str], classes: int, counts: list[list[int]]) -> str:
    """The confusion matrix with the classes' names, rows the true classes.

    Components beyond the classes stand in a column where a row was given to them.
    """
    import pandas as pd

    table = pd.DataFrame(counts, names, names).rename_axis("true \\ predicted")
    table = table.iloc[:classes]
    table = table.loc[:, [k < classes or table[name].sum() > 0 for k, name in enumerate(names)]]
    return "\n" + table.to_string(max_rows=40, max_cols=40)
