"""gmmvae skeleton render"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyro_gmmvae.cli.options import check_output, force_option

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyro_gmmvae.skeletons.layouts import Layout
    from pyro_gmmvae.skeletons.tracks import Track

ENDINGS = (".gif", ".mp4")
# a gif is put together in memory, and nobody watches one for longer
MOST_FRAMES = {".gif": 1000, ".mp4": 20_000}


@click.command(short_help="Draw tracks as stick figures.")
@click.argument("tracks", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The film to write (.gif or .mp4).",
)
@click.option(
    "--layout",
    metavar="NAME|TOML",
    help="The joints.  [default: body_25 for 25 joints, coco_18 for 18]",
)
@click.option("--clip", metavar="NAME", help="The clip to draw.  [default: the first]")
@click.option("--first", type=int, metavar="N", help="Frame number to begin at.")
@click.option("--frames", type=click.IntRange(1), metavar="N", help="How many frames.")
@click.option(
    "--fps",
    type=click.IntRange(1, 100),
    default=25,
    show_default=True,
    help="Frames a second.",
)
@force_option
def render(
    tracks: Path,
    out: Path,
    layout: str | None,
    clip: str | None,
    first: int | None,
    frames: int | None,
    fps: int,
    force: bool,
) -> None:
    """Draw TRACKS (parquet, csv or npz) as stick figures, a color per identity.

    Sequences named CLIP/IDENTITY are drawn together with those of the same clip; any other is
    a clip of its own. Of 3-D tracks x and y are drawn, y upwards. An mp4 needs
    pip install 'pyro-gmmvae[video]'.
    """
    from pyro_gmmvae.figures.skeleton_animation import SkeletonAnimation

    check_output(out, force, ENDINGS)
    ffmpeg = _ffmpeg() if out.suffix == ".mp4" else None
    found, used = _read(tracks, layout)
    chosen, of_clip, clips = _choose(found, clip, tracks)
    numbers = _numbers(of_clip, first, frames, out, f"{tracks}, clip {chosen!r}")
    film = SkeletonAnimation(
        _stack(of_clip, numbers),
        [track.sequence.rpartition("/")[2] for track in of_clip],
        used.edges,
        [f"frame {number}" for number in numbers],
        title=chosen,
        y_down=of_clip[0].poses.shape[-1] == 2,
    )
    save_film(film, out, fps, ffmpeg)
    other = "" if clips == 1 else f" (1 of {clips} clips: --clip)"
    click.echo(f"clip {chosen}{other}, {len(numbers)} frames -> {out}", err=True)


def _ffmpeg() -> str:
    from pyro_gmmvae.errors import GMMVAEError

    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise GMMVAEError(
            "mp4 files need ffmpeg: pip install 'pyro-gmmvae[video]', or write a .gif"
        ) from error


def _read(path: Path, name: str | None) -> tuple[list["Track"], "Layout"]:
    from pyro_gmmvae.skeletons.layouts import find_layout, layout_like
    from pyro_gmmvae.skeletons.tracks import read_tracks

    layout = None if name is None else find_layout(name)
    tracks = read_tracks(path, None if layout is None else len(layout.joints))
    return tracks, layout or layout_like(tracks[0].poses.shape, str(path))


def _choose(tracks: list["Track"], name: str | None, path: Path) -> tuple[str, list["Track"], int]:
    """The clip's name, its tracks in natural order, and how many clips there are."""
    from pyro_gmmvae.errors import unknown_name
    from pyro_gmmvae.skeletons.openpose import natural

    clips: dict[str, list[Track]] = {}
    for track in sorted(tracks, key=lambda track: natural(track.sequence)):
        clip = track.sequence.rpartition("/")[0] or track.sequence
        clips.setdefault(clip, []).append(track)
    if name is not None and name not in clips:
        raise unknown_name(f"clip of {path}", name, list(clips)[:20])
    chosen = name or min(clips, key=natural)
    return chosen, clips[chosen], len(clips)


def _numbers(
    tracks: list["Track"], first: int | None, count: int | None, out: Path, place: str
) -> list[int]:
    """Frame numbers to draw, those without anybody too: time goes on at its pace."""
    import numpy as np

    from pyro_gmmvae.errors import GMMVAEError

    seen = np.unique(np.concatenate([track.frames for track in tracks]))
    # of a clip that keeps every tenth frame only these are drawn
    step = int(np.gcd.reduce(np.diff(seen))) if len(seen) > 1 else 1
    begin, end = int(seen[0]), int(seen[-1])
    if first is not None:
        if not begin <= first <= end:
            raise GMMVAEError(f"{place}: no frame {first}; its frames are {begin} to {end}")
        begin += -(-(first - begin) // step) * step
    numbers = range(begin, end + 1, step)[:count]
    if len(numbers) > MOST_FRAMES[out.suffix]:
        raise GMMVAEError(
            f"{place}: {len(numbers)} frames are too many for a {out.suffix}; ask for at most "
            f"{MOST_FRAMES[out.suffix]} with --first and --frames"
        )
    return list(numbers)


def _stack(tracks: list["Track"], numbers: list[int]) -> "NDArray[Any]":
    """(T, P, J, 2) coordinates, NaN where a person is not in a frame."""
    import numpy as np

    joints = tracks[0].poses.shape[1]
    poses = np.full((len(numbers), len(tracks), joints, 2), np.nan, np.float32)
    for order, track in enumerate(tracks):
        _, ours, theirs = np.intersect1d(numbers, track.frames, return_indices=True)
        poses[ours, order] = track.poses[theirs, :, :2]
    return poses


def save_film(film: Any, out: Path, fps: int, ffmpeg: str | None = None) -> None:
    """Write a film, all of it or nothing."""
    import subprocess

    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.files import atomic_file

    try:
        with atomic_file(out) as part:
            film.save(part, fps, ffmpeg)
    except subprocess.CalledProcessError as error:
        raise GMMVAEError(f"can't write {out}: {error}") from error
