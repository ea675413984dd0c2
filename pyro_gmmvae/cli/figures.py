"""gmmvae figures, report, traverse"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyro_gmmvae.cli.options import (
    PATH,
    NameList,
    check_output,
    device_option,
    force_option,
    moved_data_option,
    run_argument,
    weights_option,
)

if TYPE_CHECKING:
    from pyro_gmmvae.figures import RunView

MAX_FRAMES = 1000  # of a GIF, which is put together in memory


@click.command(short_help="Draw every picture of a run.")
@run_argument
@click.option(
    "--out",
    type=PATH,
    metavar="DIR",
    help="Where to write.  [default: RUN/figures]",
)
@click.option(
    "--format",
    "ending",
    type=click.Choice(["png", "svg", "pdf"]),
    default="png",
    show_default=True,
    help="Of still pictures.",
)
@click.option("--only", type=NameList(), metavar="A,B,...", help="Draw only these pictures.")
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
    """Draw RUN: training, samples, classification, latent space and components.

    \b
    training         terms of the ELBO, accuracy and schedules over the epochs
    samples          draws from the prior, a line per class
    analogies        one z per line, a class per column
    traversal        each entry of z moved within its prior; also a GIF
    interpolation    between test rows through the latents; also a GIF
    manifold         the whole plane of a z of two entries
    latent           z of rows, with the components' ellipses
    reconstructions  test rows and their reconstructions
    confusion        true against predicted classes
    reliability      accuracy against confidence
    components       a line per component in use: its decoded mean, its nearest rows
                     (highest q(s|x), then closest in z) and its least certain ones
    entropy          entropy of q(s|x) over rows, and its mean per component

    It also writes clusters.csv ('--only clusters'): the part, component, name, probability and
    entropy of each row or sequence. A picture that the run does not have is skipped with the
    reason.
    """
    start = time.monotonic()
    from pyro_gmmvae.errors import GMMVAEError, unknown_name
    from pyro_gmmvae.runs.folder import CLUSTERS, FIGURES, PICTURES, read_config

    read_config(run)
    table = Path(CLUSTERS).stem
    with_table = only is None or table in only
    names = [name for name in only or PICTURES if name != table]
    for name in names:
        if name not in PICTURES:
            raise unknown_name("picture", name, [*PICTURES, table])
    folder = run / FIGURES if out is None else out
    files = [f"{name}.{end}" for name in names for end in (ending, "gif")]
    _check_folder(folder, [*files, *([CLUSTERS] if with_table else [])], force)
    # torch is imported from here on
    from pyro_gmmvae.figures import draw_all
    from pyro_gmmvae.figures.saving import save, save_clusters

    view = _view(run, data, weights, device, projection)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GMMVAEError(f"can't make {folder}: {error.strerror or error}") from error
    pictures, skipped = 0, {}
    for name, drawn in draw_all(view, names):
        if isinstance(drawn, str):
            skipped[name] = drawn
        else:
            save(drawn, folder, name, ending)
            pictures += 1
    written = [f"{pictures} picture{'s' if pictures != 1 else ''}"] if pictures else []
    if with_table:
        try:
            save_clusters(view.clusters, folder)
            written.append(CLUSTERS)
        except GMMVAEError as reason:
            skipped[CLUSTERS] = str(reason)
    if not written:
        if is_new:
            folder.rmdir()
        raise GMMVAEError(f"nothing was drawn: {'; '.join(dict.fromkeys(skipped.values()))}")
    for name, why in skipped.items():
        click.echo(f"skipped {name}: {why}", err=True)
    seconds = time.monotonic() - start
    click.echo(f"{' and '.join(written)} in {seconds:.1f} s -> {folder}", err=True)


@click.command(short_help="Write a report of a run as one HTML file.")
@run_argument
@click.option(
    "--out",
    type=PATH,
    metavar="FILE",
    help="Where to write.  [default: RUN/report.html]",
)
@moved_data_option
@weights_option
@force_option
@device_option
def report(
    run: Path,
    out: Path | None,
    data: str | None,
    weights: str | None,
    force: bool,
    device: str | None,
) -> None:
    """Write the numbers, pictures, configuration and origin of RUN into one HTML file.

    The file needs no other file and no network. Numbers are those of the last 'gmmvae
    evaluate'; if there are none, or --weights is given, RUN is evaluated first.
    """
    start = time.monotonic()
    from pyro_gmmvae.cli.evaluate import MEANING
    from pyro_gmmvae.files import atomic_write
    from pyro_gmmvae.runs.folder import REPORT, read_config

    read_config(run)
    file = run / REPORT if out is None else out
    check_output(file, force, (".html", ".htm"))
    # torch is imported from here on
    from pyro_gmmvae.figures.report import report as page_of

    view = _view(run, data, weights, device)
    content = page_of(view, MEANING, measure=weights is not None).encode()
    atomic_write(file, content)
    size = f"{len(content) / 1e6:.1f} MB"
    click.echo(f"{size} in {time.monotonic() - start:.1f} s -> {file}", err=True)


@click.command(short_help="Walk one latent of a run on skeletons, as a GIF.")
@run_argument
@click.option("--out", type=PATH, required=True, metavar="GIF", help="Where to write.")
@click.option(
    "--latent",
    default="0",
    show_default=True,
    metavar="N|class|FACTOR",
    help="An entry of z, or a categorical latent to walk from value to value.",
)
@click.option(
    "--class", "label", metavar="NAME", help="Class of the skeleton.  [default: the first]"
)
@click.option("--steps", type=click.IntRange(2, 200), default=25, show_default=True)
@click.option(
    "--span",
    type=click.FloatRange(0, min_open=True),
    default=2.5,
    show_default=True,
    help="How far z goes, in standard deviations of p(z|s).",
)
@click.option("--fps", type=click.IntRange(1, 100), default=15, show_default=True)
@weights_option
@force_option
@device_option
def traverse(
    run: Path,
    out: Path,
    latent: str,
    label: str | None,
    steps: int,
    span: float,
    fps: int,
    weights: str | None,
    force: bool,
    device: str | None,
) -> None:
    """Decode skeletons along one latent, forward and backward, all others at their mean.

    3-D skeletons are drawn from the front (x and y). If RUN describes windows by statistics, the
    mean pose is drawn; if it keeps frames, each step shows all frames of a window.
    """
    check_output(out, force, (".gif",))
    # torch is imported from here on
    import numpy as np

    from pyro_gmmvae.cli.skeleton import save_animation
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.figures.skeleton_animation import SkeletonAnimation
    from pyro_gmmvae.figures.traversal import traverse_skeletons
    from pyro_gmmvae.runs import Run

    loaded = Run.load(run, device=device or "auto", weights=weights)
    captions, poses = traverse_skeletons(loaded, latent, label=label, steps=steps, span=span)
    frames = poses.shape[1]
    if latent.isdecimal():  # and back, so that the animation does not jump
        captions = captions + captions[-2:0:-1]
        poses = np.concatenate([poses, poses[-2:0:-1]])
    pictures = poses.reshape(-1, *poses.shape[2:])
    if len(pictures) > MAX_FRAMES:
        raise GMMVAEError(
            f"{len(pictures)} pictures are too many for a GIF; ask for fewer with --steps"
        )
    name = "" if latent == "class" else label or loaded.class_names()[0]
    animation = SkeletonAnimation(
        pictures[:, None, :, :2],
        [name],
        loaded.schema.kind.edges,
        [caption for caption in captions for _ in range(frames)],
        title=name,
        y_down=loaded.schema.kind.y_down,
    )
    save_animation(animation, out, fps)
    click.echo(f"{len(pictures)} pictures -> {out}", err=True)


def _check_folder(folder: Path, files: list[str], force: bool) -> None:
    """Check that files can be written into a folder, and without ``force`` that none exists."""
    from pyro_gmmvae.errors import GMMVAEError

    if folder.exists() and not folder.is_dir():
        raise GMMVAEError(f"{folder} is a file; name a folder")
    for file in files:
        if not force and (folder / file).exists():
            raise GMMVAEError(f"{folder / file} exists and is kept; replace it with --force")


def _view(
    run: Path, data: str | None, weights: str | None, device: str | None, projection: str = "pca"
) -> "RunView":
    """The run, prepared for pictures."""
    from pyro_gmmvae.figures import RunView
    from pyro_gmmvae.runs import Run

    view = RunView(Run.load(run, device=device or "auto", weights=weights), data, projection)
    if data is not None:
        _ = view.rows  # a path that was given must work
    return view
