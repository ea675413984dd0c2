"""gmmvae figures"""

from pathlib import Path

import click

from pyro_gmmvae.cli.options import (
    check_output,
    device_option,
    force_option,
    moved_data_option,
    run_argument,
    weights_option,
)

TABLE = "clusters.csv"


@click.command(short_help="Draw what the components of a run hold.")
@run_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where to write.  [default: RUN/figures]",
)
@moved_data_option
@weights_option
@force_option
@device_option
def figures(
    run: Path,
    out: Path | None,
    data: str | None,
    weights: str | None,
    force: bool,
    device: str | None,
) -> None:
    """Draw the components of RUN over all rows of its data, and list who is in which.

    \b
    components.png  a line per component in use: its decoded mean, its nearest rows
                    (highest q(s|x), then closest in z) and its least certain ones
    entropy.png     entropy of q(s|x) over rows, and its mean per component
    clusters.csv    each row (or sequence): part, component, name, probability, entropy
    """
    import io

    from pyro_gmmvae.inference.checkpoint import atomic_write
    from pyro_gmmvae.runs import Run
    from pyro_gmmvae.runs.clusters import read_clusters
    from pyro_gmmvae.runs.folder import FIGURES as FOLDER
    from pyro_gmmvae.runs.pictures import FIGURES

    folder = run / FOLDER if out is None else out
    if folder.exists():
        if not folder.is_dir():
            raise click.UsageError(f"{folder} is a file; name a folder")
        for name in (*FIGURES, TABLE):
            check_output(folder / name, force, (".png", ".csv"))
    clusters = read_clusters(Run.load(run, device=device or "auto", weights=weights), data)
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        buffer = io.BytesIO()
        draw(clusters).savefig(buffer, format="png", dpi=150)
        atomic_write(folder / name, buffer.getvalue())
    atomic_write(folder / TABLE, clusters.table().to_csv(index=False).encode())
    click.echo(
        f"{len(clusters.ids)} {clusters.unit}s in {len(clusters.used)} components -> {folder}",
        err=True,
    )
