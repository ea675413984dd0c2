"""gmmvae skeleton track"""

import json
import time
from pathlib import Path

import click

from pyro_gmmvae.cli.options import check_output, force_option, json_option


@click.command(short_help="Tell who is who over OpenPose frames.")
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Tracks to write (.parquet, .csv or .npz).",
)
@click.option("--strict", is_flag=True, help="Stop with an error at the first problem.")
@click.option(
    "--max-gap",
    type=click.IntRange(0),
    default=60,
    show_default=True,
    metavar="N",
    help="Frames in which a person may be hidden and be known again.",
)
@click.option(
    "--min-length",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    metavar="N",
    help="Leave out people who were detected in fewer frames.",
)
@click.option(
    "--frame-rate",
    type=click.FloatRange(1, 1000),
    default=30,
    show_default=True,
    metavar="N",
    help="Frames a second, which tells how far people move between two.",
)
@force_option
@json_option
def track(
    source: Path,
    out: Path,
    strict: bool,
    max_gap: int,
    min_length: int,
    frame_rate: float,
    force: bool,
    as_json: bool,
) -> None:
    """Link the people in the OpenPose JSON of DIR (or of a .tar, .tar.gz, .tgz, .zip) over time.

    Each person of a clip becomes a sequence CLIP/1, CLIP/2, ... in order of appearance. False
    detections of a few joints are left out, and a person's second detection in a frame.
    """
    from itertools import chain

    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.skeletons.openpose import ReadingReport, read_frames
    from pyro_gmmvae.skeletons.tracking import TrackingOptions, track_people
    from pyro_gmmvae.skeletons.tracks import write_tracks

    check_output(out, force, (".parquet", ".csv", ".npz"))
    options = TrackingOptions(frame_rate=frame_rate, max_gap=max_gap, min_length=min_length)
    start, report = time.perf_counter(), ReadingReport()
    frames = read_frames(source, strict=strict, report=report)
    first = next(frames)  # the layout is known from here on
    assert report.layout is not None
    tracks = list(track_people(chain([first], frames), report.layout, options))
    if not report.people:
        raise GMMVAEError(f"{source}: there is nobody in any of its {report.frames} frames")
    if not tracks:
        raise GMMVAEError(
            f"{source}: nobody was followed for {min_length} frames; lower --min-length"
        )
    write_tracks(tracks, out)
    content = {
        "people": len(tracks),
        "clips": len(report.clips),
        "frames": report.frames,
        "detections": report.people,
        "tracked": sum(len(found.frames) for found in tracks),
        "problems": len(report.problems),
        "layout": report.layout.name,
        "seconds": round(time.perf_counter() - start, 2),
        "out": str(out),
    }
    click.echo(json.dumps(content) if as_json else _line(content))


def _line(content: dict[str, object]) -> str:
    left_out = f", {content['problems']} left out (see inspect)" if content["problems"] else ""
    return (
        f"{content['people']} people in {content['clips']} clips, {content['frames']} frames"
        f"{left_out}, {content['seconds']} s -> {content['out']}"
    )
