"""gmmvae evaluate"""

import json
from pathlib import Path

import click

from pyro_gmmvae.cli.options import (
    device_option,
    json_option,
    moved_data_option,
    run_argument,
    weights_option,
)

MEANING = {
    "accuracy": "accuracy on the test rows",
    "elbo": "ELBO, nats per row",
    "nll": "-log p(x) bound, nats per row",
    "pareto_k_bad": "share of rows with Pareto k > 0.7",
}


@click.command(short_help="Measure a run on its test rows.")
@run_argument
@click.option(
    "--samples",
    type=click.IntRange(2),
    default=100,
    show_default=True,
    help="Importance samples per row for nll.",
)
@click.option(
    "--nll-rows",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Test rows nll is measured on; 0: all.",
)
@moved_data_option
@weights_option
@device_option
@json_option
def evaluate(
    run: Path,
    samples: int,
    nll_rows: int,
    data: str | None,
    weights: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Measure RUN on its test rows: accuracy, ELBO and an importance-weighted bound on -log p(x).

    The numbers are also written to RUN/metrics.json. Where the share of rows with Pareto k
    above 0.7 is large, the guide is too far from the posterior for nll to be trusted.
    """
    from pyro_gmmvae.runs import Run

    loaded = Run.load(run, device=device or "auto", weights=weights)
    result = loaded.evaluate(samples=samples, nll_rows=nll_rows, data=data)
    if as_json:
        click.echo(json.dumps(result))
        return
    for key, value in result.items():
        shown = f"{value:.4f}" if isinstance(value, float) else "-" if value is None else str(value)
        click.echo(f"{key:<13}{shown:<12}{MEANING.get(key, '')}".rstrip())
