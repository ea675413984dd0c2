"""gmmvae skeleton: OpenPose frames and tracks of joints, before they are rows."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyro_gmmvae.cli.options import PATH, check_output, force_option, json_option

if TYPE_CHECKING:
    from collections import Counter

    from numpy.typing import NDArray

    from pyro_gmmvae.skeletons.layouts import Layout
    from pyro_gmmvae.skeletons.openpose import ReadingReport
    from pyro_gmmvae.skeletons.tracks import Track

MAX_PROBLEMS, MAX_CLIPS = 10, 20  # that are printed
OFTEN_MISSING = 0.5
FEW_JOINTS = 0.4  # share of the joints
# a gif is composed in memory
MAX_FRAMES = {".gif": 1000, ".mp4": 20_000}


@click.group(short_help="Inspect, track and draw OpenPose frames.", no_args_is_help=True)
def skeleton() -> None:
    """Inspect, track and draw OpenPose frames.

    \b
    gmmvae skeleton inspect frames/
    gmmvae skeleton track frames/ --out tracks.parquet
    gmmvae skeleton render tracks.parquet --out people.gif
    """


# -- inspect ---------------------------------------------------------------------------------------


@skeleton.command(short_help="Summarize OpenPose frames and their problems.")
@click.argument("source", metavar="DIR", type=PATH)
@click.option("--strict", is_flag=True, help="Stop with an error at the first problem.")
@json_option
def inspect(source: Path, strict: bool, as_json: bool) -> None:
    """Summarize the OpenPose JSON of DIR (or of a .tar, .tar.gz, .tgz, .zip).

    Shows clips, frames, people, missing joints, gaps between frame numbers, and files that can't
    be used, with the reason.
    """
    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.skeletons.openpose import ReadingReport, read_frames

    report, failure = ReadingReport(), None
    try:
        for _ in read_frames(source, strict=strict, report=report):
            pass
    except GMMVAEError as error:
        if strict or not report.problems:
            raise
        failure = error  # where all frames have a problem, the list of problems is printed
    content = _summary(report)
    click.echo(json.dumps(content) if as_json else "\n".join(_summary_lines(content)))
    if failure is not None:
        raise failure


def _summary(report: "ReadingReport") -> dict[str, Any]:
    """A report as plain values."""
    assert report.layout is not None
    joints = report.layout.joints
    detections = report.detections.tolist() or [0] * len(joints)
    missing = {
        joint: round(1 - count / report.people, 4) if report.people else None
        for joint, count in zip(joints, detections, strict=True)
    }
    least = FEW_JOINTS * len(joints)
    faint = sum(count for number, count in report.joints_per_person.items() if number < least)
    content = {
        "clips": {
            name: {"frames": s.frames, "first": s.first, "last": s.last, "missing": s.missing}
            for name, s in report.clips.items()
        },
        "frames": report.frames,
        "frames_without_people": report.people_per_frame[0],
        "people": report.people,
        "people_per_frame": _range(report.people_per_frame),
        "layout": report.layout.name,
        "people_by_layout": dict(report.layouts),
        "faint_people": faint,
        "missing_joints": missing,
        "negative_coordinates": report.negative,
        "non_finite": report.non_finite,
        "max_confidence": round(report.max_confidence, 4),
        "foreign_files": report.foreign,
        "problems": [{"file": name, "reason": reason} for name, reason in report.problems],
    }
    return content | {"hints": _hints(content)}


def _range(counts: "Counter[int]") -> dict[str, float | None]:
    import numpy as np

    if not counts:
        return {"min": None, "median": None, "max": None}
    values = np.repeat(sorted(counts), [counts[value] for value in sorted(counts)])
    low, middle, high = int(values.min()), float(np.median(values)), int(values.max())
    return {"min": low, "median": middle, "max": high}


def _hints(content: dict[str, Any]) -> list[str]:
    people, hints = content["people"], []
    if len(content["people_by_layout"]) > 1:
        names = " and ".join(sorted(content["people_by_layout"]))
        hints.append(f"two layouts in one source, {names}: move each to a separate folder")
    rare = [j for j, share in content["missing_joints"].items() if (share or 0) > OFTEN_MISSING]
    if rare:
        hints.append(f"mostly missing: {', '.join(rare)}")
    if people and content["faint_people"] > 0.02 * people:
        share = content["faint_people"] / people
        hints.append(
            f"{share:.0%} of the people have less than {FEW_JOINTS:.0%} of their joints: occluded "
            "people or false detections"
        )
    if any(clip["missing"] for clip in content["clips"].values()):
        hints.append("frame numbers are missing: the time between frames is not constant")
    if content["negative_coordinates"]:
        hints.append("negative coordinates are outside the image; they are kept")
    if content["non_finite"]:
        hints.append("joints with non-finite coordinates are treated as missing")
    if content["max_confidence"] > 1:
        hints.append("confidence above 1 is clipped to 1")
    return hints


def _summary_lines(content: dict[str, Any]) -> list[str]:
    clips, per_frame = content["clips"], content["people_per_frame"]
    layouts = content["people_by_layout"]
    counted = ", ".join(f"{name} {count}" for name, count in layouts.items())
    rows = {
        "clips": len(clips),
        "frames": content["frames"],
        "people": content["people"],
        "people per frame": "min {min}, median {median:g}, max {max}".format(**per_frame)
        if content["frames"]
        else "-",
        "without people": f"{content['frames_without_people']} frames",
        "layout": content["layout"] + (f" (people: {counted})" if len(layouts) > 1 else ""),
        "missing numbers": sum(clip["missing"] for clip in clips.values()),
        "faint people": content["faint_people"],
        "outside image": f"{content['negative_coordinates']} joints",
        "non-finite": f"{content['non_finite']} joints",
        "max. confidence": f"{content['max_confidence']:g}",
        "foreign files": content["foreign_files"],
        "problems": len(content["problems"]),
    }
    lines = [f"{name:<18}{value}" for name, value in rows.items()]
    return [*lines, *_clip_lines(clips), *_joint_lines(content), *_closing_lines(content)]


def _clip_lines(clips: dict[str, Any]) -> list[str]:
    if not clips:
        return []
    width = max(20, *(len(name) + 2 for name in clips))
    lines = ["", f"{'clip':<{width}}{'frames':>8}{'first':>12}{'last':>12}{'missing':>10}"]
    for name, clip in list(clips.items())[:MAX_CLIPS]:
        numbers = f"{clip['frames']:>8}{clip['first']:>12}{clip['last']:>12}{clip['missing']:>10}"
        lines.append(f"{name:<{width}}{numbers}")
    return lines + _more(len(clips) - MAX_CLIPS)


def _joint_lines(content: dict[str, Any]) -> list[str]:
    if not content["people"]:
        return []
    shares = content["missing_joints"].items()
    return ["", "joint               missing", *(f"{j:<15}{share:>12.1%}" for j, share in shares)]


def _closing_lines(content: dict[str, Any]) -> list[str]:
    problems, hints = content["problems"], content["hints"]
    lines = ["", "problems"] if problems else []
    lines += [f"  {p['file']}: {p['reason']}" for p in problems[:MAX_PROBLEMS]]
    lines += _more(len(problems) - MAX_PROBLEMS)
    return lines + (["", "hints", *(f"  {hint}" for hint in hints)] if hints else [])


def _more(count: int) -> list[str]:
    return [f"  and {count} more (all with --json)"] if count > 0 else []


# -- track -----------------------------------------------------------------------------------------


@skeleton.command(short_help="Track people over OpenPose frames.")
@click.argument("source", metavar="DIR", type=PATH)
@click.option(
    "--out",
    type=PATH,
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
    help="Frames that a person may be hidden for and be recognized again.",
)
@click.option(
    "--min-length",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    metavar="N",
    help="Drop people who are detected in fewer frames.",
)
@click.option(
    "--frame-rate",
    type=click.FloatRange(1, 1000),
    default=30,
    show_default=True,
    metavar="N",
    help="Frames per second, which bounds how far people move between frames.",
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
    """Track the people in the OpenPose JSON of DIR (or of a .tar, .tar.gz, .tgz, .zip).

    Each person of a clip becomes a sequence CLIP/1, CLIP/2, ... in order of appearance. False
    detections of a few joints and duplicate detections of a person are dropped.
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
        raise GMMVAEError(f"{source}: none of its {report.frames} frames has people")
    if not tracks:
        raise GMMVAEError(
            f"{source}: no person was tracked for {min_length} frames; lower --min-length"
        )
    write_tracks(tracks, out)
    content = {
        "people": len(tracks),
        "clips": len(report.clips),
        "frames": report.frames,
        "detections": report.people,
        "tracked": sum(len(one.frames) for one in tracks),
        "problems": len(report.problems),
        "layout": report.layout.name,
        "seconds": round(time.perf_counter() - start, 2),
        "out": str(out),
    }
    click.echo(json.dumps(content) if as_json else _track_line(content))


def _track_line(content: dict[str, object]) -> str:
    left_out = f", {content['problems']} problems (see inspect)" if content["problems"] else ""
    return (
        f"{content['people']} people in {content['clips']} clips, {content['frames']} frames"
        f"{left_out}, {content['seconds']} s -> {content['out']}"
    )


# -- render ----------------------------------------------------------------------------------------


@skeleton.command(short_help="Draw tracks as stick figures.")
@click.argument("tracks", type=PATH)
@click.option(
    "--out",
    type=PATH,
    required=True,
    metavar="FILE",
    help="Animation to write (.gif or .mp4).",
)
@click.option(
    "--layout",
    metavar="NAME|TOML",
    help="Joint layout: a name or a TOML file.  [default: body_25 for 25 joints, coco_18 for 18]",
)
@click.option("--clip", metavar="NAME", help="Clip to draw.  [default: the first]")
@click.option("--first", type=int, metavar="N", help="First frame number.")
@click.option("--frames", type=click.IntRange(1), metavar="N", help="Number of frames.")
@click.option(
    "--fps",
    type=click.IntRange(1, 100),
    default=25,
    show_default=True,
    help="Frames per second.",
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
    """Draw TRACKS (parquet, csv or npz) as stick figures, one color per person.

    Sequences named CLIP/PERSON are drawn together with those of the same clip; any other sequence
    is a separate clip. For 3-D tracks x and y are drawn, y upwards. An mp4 needs
    pip install 'pyro-gmmvae[video]'.
    """
    from pyro_gmmvae.figures.skeleton_animation import SkeletonAnimation
    from pyro_gmmvae.files import ending

    check_output(out, force, tuple(MAX_FRAMES))
    ffmpeg = _ffmpeg() if ending(out) == ".mp4" else None
    all_tracks, used_layout = _read(tracks, layout)
    chosen, of_clip, clips = _choose_clip(all_tracks, clip, tracks)
    numbers = _frame_numbers(of_clip, first, frames, out, f"{tracks}, clip {chosen!r}")
    animation = SkeletonAnimation(
        _stack(of_clip, numbers),
        [track.sequence.rpartition("/")[2] for track in of_clip],
        used_layout.edges,
        [f"frame {number}" for number in numbers],
        title=chosen,
        y_down=of_clip[0].poses.shape[-1] == 2,
    )
    save_animation(animation, out, fps, ffmpeg)
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


def _choose_clip(
    tracks: list["Track"], name: str | None, path: Path
) -> tuple[str, list["Track"], int]:
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


def _frame_numbers(
    tracks: list["Track"], first: int | None, count: int | None, out: Path, place: str
) -> list[int]:
    """Frame numbers to draw, also those without people, so that time is even."""
    import numpy as np

    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.files import ending

    seen = np.unique(np.concatenate([track.frames for track in tracks]))
    # a clip that has every tenth frame is drawn in steps of ten
    step = int(np.gcd.reduce(np.diff(seen))) if len(seen) > 1 else 1
    begin, end = int(seen[0]), int(seen[-1])
    if first is not None:
        if not begin <= first <= end:
            raise GMMVAEError(f"{place}: frame {first} is outside its frames {begin} to {end}")
        begin += -(-(first - begin) // step) * step
    numbers = range(begin, end + 1, step)[:count]
    if len(numbers) > MAX_FRAMES[ending(out)]:
        raise GMMVAEError(
            f"{place}: {len(numbers)} frames are too many for a {out.suffix}; choose at most "
            f"{MAX_FRAMES[ending(out)]} with --first and --frames"
        )
    return list(numbers)


def _stack(tracks: list["Track"], numbers: list[int]) -> "NDArray[Any]":
    """(T, P, J, 2) coordinates, NaN where a person is not in a frame."""
    import numpy as np

    joints = tracks[0].poses.shape[1]
    poses = np.full((len(numbers), len(tracks), joints, 2), np.nan, np.float32)
    for order, track in enumerate(tracks):
        _, drawn, rows = np.intersect1d(numbers, track.frames, return_indices=True)
        poses[drawn, order] = track.poses[rows, :, :2]
    return poses


def save_animation(animation: Any, out: Path, fps: int, ffmpeg: str | None = None) -> None:
    """Write an animation atomically."""
    import subprocess

    from pyro_gmmvae.errors import GMMVAEError
    from pyro_gmmvae.files import atomic_file

    try:
        with atomic_file(out) as part:
            animation.save(part, fps, ffmpeg)
    except subprocess.CalledProcessError as error:
        raise GMMVAEError(f"can't write {out}: {error}") from error
