"""gmmvae figures"""

import time
from pathlib import Path

import click

from pyro_gmmvae.cli.options import (
    Names,
    device_option,
    force_option,
    moved_data_option,
    run_argument,
    weights_option,
)


@click.command(short_help="Draw every picture of a run.")
@run_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where to write.  [default: RUN/figures]",
)
@click.option(
    "--format",
    "ending",
    type=click.Choice(["png", "svg", "pdf"]),
    default="png",
    show_default=True,
    help="Of pictures that stand still.",
)
@click.option("--only", type=Names(None), metavar="A,B,...", help="These pictures alone.")
@click.option(
    "--projection",
    type=click.Choice(["pca", "umap"]),
    default="pca",
    show_default=True,
    help="How 'latent' shows a z of more than two entries in the plane.",
)
@moved_data_option
@weights_option
@force_option
@device_option
def figures(
    run: Path,
    out: Path | None,
    ending: str,
    only: tuple[str, ...] | None,
    projection: str,
    data: str | None,
    weights: str | None,
    force: bool,
    device: str | None,
) -> None:
    """Draw RUN: how it was trained, what it makes, how it sorts rows, what its latents do.

    \b
    training         terms of the ELBO, accuracy and schedules, epoch by epoch
    samples          draws from the prior, a line per class
    analogies        one z per line, a class per column
    traversal        each entry of z moved within its prior; also a GIF
    interpolation    between test rows through the latents; also a GIF
    manifold         the whole plane of a z of two entries
    latent           z of rows, with the components' ellipses
    reconstructions  test rows and what is decoded of them
    confusion        true classes against the likeliest ones
    reliability      how often a probability is right
    components       a line per component in use: its decoded mean, its nearest rows
                     (highest q(s|x), then closest in z) and its least certain ones
    entropy          entropy of q(s|x) over rows, and its mean per component

    Beside them stands clusters.csv ('--only clusters'): each row's (or sequence's) part,
    component, name, probability and entropy. What the run does not have is named with the
    reason.
    """
    start = time.monotonic()
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.figures.all import PICTURES, View, check_names, draw_all
    from pyro_gmmvae.figures.saving import (
        files_of,
        make_folder,
        refuse_existing,
        save,
        save_clusters,
    )
    from pyro_gmmvae.runs import Run
    from pyro_gmmvae.runs.folder import CLUSTERS, FIGURES

    has_table = only is None or Path(CLUSTERS).stem in only
    names = list(PICTURES) if only is None else [n for n in only if n != Path(CLUSTERS).stem]
    check_names(names)
    folder = run / FIGURES if out is None else out
    if not force:
        files = [file for name in names for file in files_of(name, ending)]
        refuse_existing(folder, [*files, *([CLUSTERS] if has_table else [])])
    loaded = Run.load(run, device=device or "auto", weights=weights)
    view = View(loaded, data, projection=projection)
    if data is not None:
        _ = view.rows  # its place was said: what is wrong there is an error
    make_folder(folder)
    made, reasons = [], []
    for name, drawn in draw_all(view, names):
        if isinstance(drawn, str):
            reasons.append(drawn)
            click.echo(f"skipped {name}: {drawn}", err=True)
        else:
            save(drawn, folder, name, ending)
            made.append(name)
    if has_table:
        try:
            clusters = view.clusters
        except GMMVAEError as reason:
            reasons.append(str(reason))
            click.echo(f"skipped {CLUSTERS}: {reason}", err=True)
        else:
            save_clusters(clusters, folder)
            made.append(CLUSTERS)
    if not made:
        raise GMMVAEError(f"nothing was drawn: {reasons[0]}")
    pictures = len(made) - (CLUSTERS in made)
    told = [f"{pictures} picture{'s' if pictures != 1 else ''}"] if pictures else []
    told += [CLUSTERS] if CLUSTERS in made else []
    seconds = time.monotonic() - start
    click.echo(f"{' and '.join(told)} in {seconds:.1f} s -> {folder}", err=True)
