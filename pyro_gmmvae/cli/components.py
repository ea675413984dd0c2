"""gmmvae components"""

from pathlib import Path
from typing import Any

import click

from pyro_gmmvae.cli.options import device_option, json_option


@click.command(short_help="Compare numbers of components where K is not known.")
@click.option("--data", default="digits", show_default=True, metavar="NAME|FILE")
@click.option("--data-dir", metavar="DIR", help="Folder with the data set's files.")
@click.option(
    "--range", "span", default="5,30", show_default=True, metavar="LOW,HIGH", help="K from, to."
)
@click.option(
    "--count", type=click.IntRange(1), default=6, show_default=True, help="How many K in between."
)
@click.option(
    "--seeds", type=click.IntRange(1), default=3, show_default=True, help="Seeds 0, 1, ... each."
)
@click.option("--preset", default="cluster", show_default=True, metavar="NAME")
@click.option("--epochs", type=int, metavar="N", help="Passes over the rows, for every run.")
@click.option("--minutes", type=float, metavar="M", help="Wall-clock budget of every run.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="A key of every run.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs at once.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@device_option
@json_option
def components(
    span: str,
    count: int,
    seeds: int,
    sets: tuple[str, ...],
    jobs: int,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Train each number of components over several seeds, without labels, into one table.

    DIR/components.csv and DIR/components.png show for each K the ELBO of held-out rows, how
    alike the clusters of two seeds are (adjusted Rand index), and how many components are in
    use. Take the K where stability is high; with --set learn_prior=true --set sparsity=5
    components that hold few rows empty, and K need only be large enough. What was trained is
    not trained again.

    \b
    gmmvae components --data digits --range 5,30 --out components
    """
    from pyro_gmmvae.cli.options import assignments
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.figures import component_curves
    from pyro_gmmvae.files import atomic_write
    from pyro_gmmvae.sweeps.select_k import candidates, compare_components

    def say(line: str) -> None:
        click.echo(line, err=True)

    ends = span.split(",")
    if len(ends) != 2 or not all(end.strip().isdecimal() for end in ends):
        raise click.UsageError(f"--range {span}: write LOW,HIGH, such as 5,30")
    numbers = candidates(int(ends[0]), int(ends[1]), count)
    common = {key: value for key, value in options.items() if value is not None}
    table, failures = compare_components(
        common | assignments(sets), numbers, out, seeds=seeds, jobs=jobs, say=say
    )
    atomic_write(out / "components.csv", table.to_csv(index=False).encode())
    component_curves(table, Path(common["data"]).stem).savefig(out / "components.png", dpi=150)
    click.echo(
        table.to_json(orient="records") if as_json else table.round(3).to_string(index=False)
    )
    if failures:
        raise GMMVAEError(f"{len(failures)} runs failed; the first: {failures[0]}")
