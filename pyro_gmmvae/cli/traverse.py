"""gmmvae traverse"""

from pathlib import Path

import click

from pyro_gmmvae.cli.options import (
    check_output,
    device_option,
    force_option,
    run_argument,
    weights_option,
)

MOST_PICTURES = 1000


@click.command(short_help="Walk one latent of a run on skeletons, as a GIF.")
@run_argument
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="GIF", help="The film."
)
@click.option(
    "--latent",
    default="0",
    show_default=True,
    metavar="N|class|FACTOR",
    help="An entry of z, or the s to walk from class to class.",
)
@click.option("--class", "label", metavar="NAME", help="Whose skeleton.  [default: the first]")
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
    """Decode skeletons along one latent, all else at its mean, there and back.

    Of 3-D skeletons the front (x and y) is drawn. Where RUN describes windows by statistics, the
    mean pose is drawn; where it keeps frames, each step shows all frames of a window.
    """
    import numpy as np

    from pyro_gmmvae.cli.skeleton.render import save_film
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.figures.skeleton import SkeletonFilm
    from pyro_gmmvae.runs import Run

    check_output(out, force, (".gif",))
    loaded = Run.load(run, device=device or "auto", weights=weights)
    captions, poses = loaded.traverse(latent, label=label, steps=steps, span=span)
    frames = poses.shape[1]
    if latent.isdecimal():  # and back, so that the film has no jump
        captions = captions + captions[-2:0:-1]
        poses = np.concatenate([poses, poses[-2:0:-1]])
    pictures = poses.reshape(-1, *poses.shape[2:])
    if len(pictures) > MOST_PICTURES:
        raise GMMVAEError(
            f"{len(pictures)} pictures are too many for a GIF; ask for fewer with --steps"
        )
    name = "" if latent == "class" else label or loaded.class_names()[0]
    film = SkeletonFilm(
        pictures[:, None, :, :2],
        [name],
        loaded.schema.kind.edges,
        [caption for caption in captions for _ in range(frames)],
        title=name,
        y_down=loaded.schema.kind.y_down,
    )
    save_film(film, out, fps)
    click.echo(f"{len(pictures)} pictures -> {out}", err=True)
