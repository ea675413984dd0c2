"""gmmvae skeleton inspect"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyro_gmmvae.cli.options import json_option

if TYPE_CHECKING:
    from collections import Counter

    from pyro_gmmvae.skeletons.openpose import ReadingReport

SHOWN_PROBLEMS = 10
SHOWN_CLIPS = 20
OFTEN_MISSING = 0.5
# fewer joints than this share make a person who is hardly there
FAINT = 0.4


@click.command(short_help="What is in OpenPose frames, and what is wrong with them.")
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Stop with an error at the first problem.")
@json_option
def inspect(source: Path, strict: bool, as_json: bool) -> None:
    """Read the OpenPose JSON of DIR (or of a .tar, .tar.gz, .tgz, .zip) and say what is in it.

    Shows clips, frames, people, joints that were not detected, gaps between frame numbers, and
    the files that can't be used with the reason.
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
        failure = error  # of frames that all have a problem, the list is what is wanted
    content = summary(report)
    click.echo(json.dumps(content) if as_json else "\n".join(_lines(content)))
    if failure is not None:
        raise failure


def summary(report: "ReadingReport") -> dict[str, Any]:
    """A report as plain values."""
    assert report.layout is not None, "nothing was read"
    joints = report.layout.joints
    detections = report.detections.tolist() or [0] * len(joints)
    missing = {
        joint: round(1 - count / report.people, 4) if report.people else None
        for joint, count in zip(joints, detections, strict=True)
    }
    least = FAINT * len(joints)
    faint = sum(count for found, count in report.joints_per_person.items() if found < least)
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
        hints.append(f"two layouts in one source, {names}: move each into a folder of its own")
    rare = [j for j, share in content["missing_joints"].items() if (share or 0) > OFTEN_MISSING]
    if rare:
        hints.append(f"mostly not detected: {', '.join(rare)}")
    if people and content["faint_people"] > 0.02 * people:
        share = content["faint_people"] / people
        hints.append(
            f"{share:.0%} of the people have less than {FAINT:.0%} of their joints: people who "
            "are hidden, or who are none"
        )
    if any(clip["missing"] for clip in content["clips"].values()):
        hints.append("frame numbers are missing: time between frames is not even")
    if content["negative_coordinates"]:
        hints.append("negative coordinates are off the picture; they are kept as they are")
    if content["non_finite"]:
        hints.append("joints with numbers that are none are taken as not detected")
    if content["max_confidence"] > 1:
        hints.append("confidence above 1 is taken as 1")
    return hints


def _lines(content: dict[str, Any]) -> list[str]:
    clips, per_frame = content["clips"], content["people_per_frame"]
    layouts = content["people_by_layout"]
    counted = ", ".join(f"{name} {count}" for name, count in layouts.items())
    rows = {
        "clips": len(clips),
        "frames": content["frames"],
        "people": content["people"],
        "people a frame": "min {min}, median {median:g}, max {max}".format(**per_frame)
        if content["frames"]
        else "-",
        "no people": f"{content['frames_without_people']} frames",
        "layout": content["layout"] + (f" (people: {counted})" if len(layouts) > 1 else ""),
        "missing numbers": sum(clip["missing"] for clip in clips.values()),
        "faint people": content["faint_people"],
        "off the picture": f"{content['negative_coordinates']} joints",
        "not a number": f"{content['non_finite']} joints",
        "confidence up to": f"{content['max_confidence']:g}",
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
    for name, clip in list(clips.items())[:SHOWN_CLIPS]:
        numbers = f"{clip['frames']:>8}{clip['first']:>12}{clip['last']:>12}{clip['missing']:>10}"
        lines.append(f"{name:<{width}}{numbers}")
    return lines + _more(len(clips) - SHOWN_CLIPS)


def _joint_lines(content: dict[str, Any]) -> list[str]:
    if not content["people"]:
        return []
    shares = content["missing_joints"].items()
    return ["", "joint          not detected", *(f"{j:<15}{share:>12.1%}" for j, share in shares)]


def _closing_lines(content: dict[str, Any]) -> list[str]:
    problems, hints = content["problems"], content["hints"]
    lines = ["", "problems"] if problems else []
    lines += [f"  {p['file']}: {p['reason']}" for p in problems[:SHOWN_PROBLEMS]]
    lines += _more(len(problems) - SHOWN_PROBLEMS)
    return lines + (["", "hints", *(f"  {hint}" for hint in hints)] if hints else [])


def _more(count: int) -> list[str]:
    return [f"  and {count} more (all with --json)"] if count > 0 else []
