"""gmmvae name"""

from pathlib import Path

import click

from pyro_gmmvae.cli.options import (
    PATH,
    device_option,
    moved_data_option,
    run_argument,
    weights_option,
)


@click.command(short_help="Name the components of a run by a few labelled rows.")
@run_argument
@click.argument("labels", type=PATH)
@click.option(
    "--allow-unnamed",
    is_flag=True,
    help="Leave components without a labelled row unnamed.",
)
@moved_data_option
@weights_option
@device_option
def name(
    run: Path,
    labels: Path,
    allow_unnamed: bool,
    data: str | None,
    weights: str | None,
    device: str | None,
) -> None:
    """Name the components of RUN, which was trained without labels, by those in LABELS (csv).

    LABELS has the columns row and label (for a run on sequences sequence and label), with rows
    numbered as in the clusters.csv that 'gmmvae figures' writes; or component and label. A
    component takes the most probable label of its rows; several components may share one.
    predict, generate and evaluate use the names, which are kept in RUN/names.json.
    """
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.runs import Run
    from pyro_gmmvae.runs.clusters import read_clusters
    from pyro_gmmvae.runs.component_names import fitted_names, write_names
    from pyro_gmmvae.runs.folder import NAMES
    from pyro_gmmvae.runs.label_components import name_components, read_labels, summary

    loaded = Run.load(run, device=device or "auto", weights=weights)
    if loaded.model.factors and fitted_names(loaded.config, loaded.schema):
        raise GMMVAEError(
            f"{run} was trained with labels: its components have the classes' names already"
        )
    unit = loaded.schema.kind.group_noun
    read = read_labels(labels, unit)
    clusters = read_clusters(loaded, data)
    naming = name_components(clusters, read, str(labels), allow_unnamed=allow_unnamed)
    for line in naming.conflicts():
        click.echo(line, err=True)
    if naming.tested:
        click.echo(
            f"{naming.tested} of the labelled {unit}s are test ones: named_accuracy of 'gmmvae "
            "evaluate' counts them, too",
            err=True,
        )
    write_names(run, naming.names, naming.counts)
    click.echo(summary(clusters, naming).to_string(index=False))
    replaced = " (the names it had are replaced)" if loaded.names is not None else ""
    click.echo(f"names -> {run / NAMES}{replaced}", err=True)
