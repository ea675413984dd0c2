"""Accuracy of tracking on scenes with known identities; speed and results on real frames.

python benchmarks/tracking.py --data-dir DIR --out benchmarks/results/tracking

DIR has ucalgary_gait and openpose_json. Walkers of the UCalgary gait set (27 people in 3-D, by a
Kinect) cross in the picture of a pinhole camera, or real OpenPose detections of single soccer
players are laid over each other; then joints are jittered, occluded by nearer people, and lost,
detections are missed, false and duplicate ones added. The truth is the remaining detections.
"Hungarian" is the baseline: detections are assigned to those of the frame before by least mean
distance of joints; "patient" remembers people for as long as our tracker does. The tracker's
constants were chosen on scenes of seeds from 1000 on.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from tracking_metrics import Matched, score
from tracking_scenes import (
    DIFFICULTIES,
    NOBODY,
    Difficulty,
    Scene,
    gait_walks,
    openpose_clips,
    openpose_scene,
    walking_scene,
)

from pyro_gmmvae.cli import run
from pyro_gmmvae.runs import machine
from pyro_gmmvae.skeletons import (
    BODY_25,
    Frame,
    Layout,
    Track,
    TrackingOptions,
    read_frames,
    track_people,
)

Tracker = Callable[[Sequence[Frame], Layout], list[Track]]
OPENPOSE = {
    "openpose-2": Difficulty(2, 0.0),
    "openpose-3": Difficulty(3, 0.0, missed=0.02, ghosts=0.2, whole=True),
}
REAL = ("posepy_1to3", "posepy_multi", "soccer_0to3")
LEAST = 5  # detections of a track, for every tracker


def ours(frames: Sequence[Frame], layout: Layout) -> list[Track]:
    """The library's tracker with its defaults."""
    return list(track_people(frames, layout, TrackingOptions(min_length=LEAST)))


def hungarian(frames: Sequence[Frame], layout: Layout, patience: int = 1) -> list[Track]:
    """Frame-to-frame assignment by mean joint distance, up to half a bounding box's height."""
    chains: list[list[tuple[int, int]]] = []
    for t, frame in enumerate(frames):
        active = [chain for chain in chains if t - chain[-1][0] <= patience]
        last = [frames[at].poses[k] for at, k in (chain[-1] for chain in active)]
        shape = (len(last), len(layout.joints), 2)
        cost = distances(np.array(last, np.float32).reshape(shape), frame.poses)
        cost = np.where(cost < 0.5, cost, 1e6)
        taken = set()
        for row, column in zip(*linear_sum_assignment(cost), strict=True):
            if cost[row, column] < 1e6:
                active[row].append((t, int(column)))
                taken.add(int(column))
        chains += [[(t, k)] for k in range(len(frame.poses)) if k not in taken]
    kept = [chain for chain in chains if len(chain) >= LEAST]
    return [_track(str(k), chain, frames) for k, chain in enumerate(kept)]


def _track(name: str, chain: list[tuple[int, int]], frames: Sequence[Frame]) -> Track:
    numbers = np.array([frames[t].number for t, _ in chain], np.int64)
    poses = np.array([frames[t].poses[k] for t, k in chain])
    return Track(name, numbers, poses, np.array([frames[t].confidence[k] for t, k in chain]))


TRACKERS: dict[str, Tracker] = {
    "ours": ours,
    "hungarian": hungarian,
    "patient": partial(hungarian, patience=TrackingOptions().max_gap + 1),
}


def distances(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Mean distance (A, B) of common joints over the height of a's bounding box."""
    apart = np.hypot(*np.moveaxis(a[:, None] - b[None], -1, 0))
    common = np.isfinite(apart)
    mean = np.where(common, apart, 0).sum(-1) / common.sum(-1).clip(1)
    found = np.isfinite(a).all(-1)
    top = np.where(found, a[..., 1], np.inf).min(1, initial=np.inf)
    height = np.where(found, a[..., 1], -np.inf).max(1, initial=-np.inf) - top
    return np.where(common.any(-1), mean / height.clip(1)[:, None], np.inf).astype(np.float64)


def matched(scene: Scene, tracks: Sequence[Track]) -> Iterator[Matched]:
    """Truth and tracks by frame; within a tenth of the height they may be the same."""
    for frame, whose in zip(scene.frames, scene.truth, strict=True):
        real = whose != NOBODY
        here = [(t.sequence, t.poses[t.frames == frame.number]) for t in tracks]
        here = [(name, pose) for name, pose in here if len(pose)]
        shape = (len(here), len(scene.layout.joints), 2)
        poses = np.array([pose[0] for _, pose in here], np.float32).reshape(shape)
        apart = distances(frame.poses[real], poses)
        names = [name for name, _ in here]
        yield whose[real].tolist(), names, np.where(apart < 0.1, apart, np.inf)


def scenes(data_dir: Path, seeds: int) -> Iterator[tuple[str, int, Scene]]:
    """All scenes with known truth, by difficulty and seed."""
    walks = gait_walks(data_dir / "ucalgary_gait")
    clips = openpose_clips(data_dir / "openpose_json")
    for seed in range(seeds):
        for name, difficulty in DIFFICULTIES.items():
            yield name, seed, walking_scene(walks, difficulty, seed)
        for name, difficulty in OPENPOSE.items():
            yield name, seed, openpose_scene(clips, difficulty, seed)


def measure_known(data_dir: Path, seeds: int) -> pd.DataFrame:
    """A row per difficulty, seed and tracker."""
    rows = []
    for name, seed, scene in scenes(data_dir, seeds):
        for tracker, track in TRACKERS.items():
            start = time.perf_counter()
            tracks = track(scene.frames, scene.layout)
            seconds = time.perf_counter() - start
            result = score(matched(scene, tracks))
            people = len({k for whose in scene.truth for k in whose.tolist()} - {NOBODY})
            rows.append(
                {"scene": name, "seed": seed, "tracker": tracker}
                | {"idf1": result.idf1, "mota": result.mota, "switches": result.switches}
                | {"misses": result.misses, "false": result.false, "detections": result.people}
                | {"people": people, "tracks": len(tracks), "frames": len(scene.frames)}
                | {"seconds": seconds}
            )
    return pd.DataFrame(rows)


def measure_real(data_dir: Path) -> pd.DataFrame:
    """Results on frames of OpenPose without known truth: a row per set and tracker."""
    rows = []
    for name in REAL:
        frames = list(read_frames(data_dir / "openpose_json" / name, layout=BODY_25))
        for tracker in ("ours", "hungarian"):
            start = time.perf_counter()
            # the baseline takes a clip at a time
            clips = dict.fromkeys(frame.clip for frame in frames)
            split = [[frame for frame in frames if frame.clip == clip] for clip in clips]
            tracks = [t for clip in split for t in TRACKERS[tracker](clip, BODY_25)]
            seconds = time.perf_counter() - start
            lengths = np.array([len(track.frames) for track in tracks])
            detections = sum(len(frame.poses) for frame in frames)
            rows.append(
                {"scene": name, "tracker": tracker, "frames": len(frames), "clips": len(clips)}
                | {"detections": detections, "tracked": int(lengths.sum()), "tracks": len(tracks)}
                | {"median_length": float(np.median(lengths)), "longest": int(lengths.max())}
                | {"most_people": max(len(frame.poses) for frame in frames)}
                | {"seconds_per_1000": 1000 * seconds / len(frames), "fps": len(frames) / seconds}
            )
    return pd.DataFrame(rows)


def report(known: pd.DataFrame, real: pd.DataFrame, out: Path) -> str:
    """Write results.csv and table.md; return the latter."""
    by = known.groupby(["scene", "tracker"], sort=False)
    table = by[["idf1", "mota"]].mean()
    table.insert(1, "idf1, worst scene", by["idf1"].min())
    table.insert(2, "scenes below .95", by["idf1"].apply(lambda x: int((x < 0.95).sum())))
    table["switches"] = by["switches"].sum()
    table["people"], table["tracks"] = by["people"].sum(), by["tracks"].sum()
    table["scenes"] = by.size()
    table["fps"] = by["frames"].sum() / by["seconds"].sum()
    table = table.reset_index().round({"idf1": 3, "idf1, worst scene": 3, "mota": 3, "fps": 0})
    about = machine(torch.device("cpu"))
    text = (
        "Crossings of real people, who is who known "
        "(means over scenes; switches, people and tracks are sums)\n\n"
        f"{_markdown(table)}\n\nReal frames of OpenPose, who is who unknown\n\n"
        f"{_markdown(real.round(1))}\n\n{about['processor']}, one core\n"
    )
    out.mkdir(parents=True, exist_ok=True)
    rows = known.assign(processor=about["processor"], version=about["pyro_gmmvae"])
    rows.round(5).to_csv(out / "results.csv", index=False)
    real.round(2).to_csv(out / "real.csv", index=False)
    (out / "table.md").write_text(text)
    return text


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table.columns), ["---"] * len(table.columns)]
    lines += [
        [f"{value:g}" if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--seeds", default=50, show_default=True, type=click.IntRange(min=1))
@click.option("--quick", is_flag=True, help="Three seeds.")
def main(data_dir: Path, out: Path, seeds: int, quick: bool) -> None:
    """Track every scene with every tracker, and write the table."""
    torch.set_num_threads(1)
    known = measure_known(data_dir, 3 if quick else seeds)
    click.echo(report(known, measure_real(data_dir), out))


if __name__ == "__main__":
    run(main)
