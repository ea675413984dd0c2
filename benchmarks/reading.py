"""Seconds to read frames of OpenPose JSON, from copies of one real frame.

python benchmarks/reading.py FRAME.json --out benchmarks/results/reading.json
"""

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import click

from pyro_gmmvae.cli import run
from pyro_gmmvae.runs import processor
from pyro_gmmvae.skeletons import read_frames


@click.command()
@click.argument("frame", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--frames", default=10_000, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path))
def main(frame: Path, frames: int, repeats: int, out: Path | None) -> None:
    """Copy FRAME to a folder as often as asked, and read the folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(frames):
            shutil.copy(frame, folder / f"clip_{number:012d}_keypoints.json")
        seconds, people = [], 0
        for _ in range(repeats):
            start = time.perf_counter()
            people = sum(len(one.poses) for one in read_frames(folder))
            seconds.append(round(time.perf_counter() - start, 2))
    found = {
        "frames": frames,
        "people": people,
        "seconds": seconds,
        "median": statistics.median(seconds),
        "processor": processor(),
    }
    click.echo(json.dumps(found))
    if out is not None:
        out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
