"""Tests of tracking on simulated people, whose identities are known."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pyro_gmmvae.errors import GMMVAEError, GMMVAEWarning
from pyro_gmmvae.skeletons.detections import detections_of, heights
from pyro_gmmvae.skeletons.layouts import BODY_25, Layout
from pyro_gmmvae.skeletons.linking import TrackletGraph, link
from pyro_gmmvae.skeletons.openpose import Frame, read_frames
from pyro_gmmvae.skeletons.path_cover import Cover, PathCover, solve, solve_exact, solve_relaxed
from pyro_gmmvae.skeletons.tracking import TrackingOptions, fill_gaps, track_people
from pyro_gmmvae.skeletons.tracklets import grow_tracklets
from pyro_gmmvae.skeletons.tracks import Track

Reals = NDArray[np.float64]
Person = Callable[[int], Reals | None]
STICK = Layout(
    name="stick",
    joints=("head", "neck", "left", "right", "hip", "knee", "foot"),
    edges=((0, 1), (1, 2), (1, 3), (1, 4), (4, 5), (5, 6)),
    root=1,
    torso=((1,), (4,)),
)
# a person 180 pixels tall, around the neck
SHAPE = np.array([[0, -30], [0, 0], [-25, 10], [25, 10], [0, 55], [5, 100], [0, 150]], float)


def walker(x: float, step: float, y: float = 300, size: float = 1, phase: float = 0) -> Person:
    """A person who walks along x; the knee and foot swing."""

    def pose(t: int) -> Reals:
        swing = 20 * np.sin(0.3 * t + phase)
        legs = np.array([[0, 0]] * 5 + [[swing / 2, 0], [swing, 0]])
        return (SHAPE + legs) * size + [x + step * t, y]

    return pose


def during(person: Person, times: Iterable[int]) -> Person:
    kept = set(times)
    return lambda t: person(t) if t in kept else None


def frame(number: int, poses: list[Reals], clip: str = "c", sure: float = 0.8) -> Frame:
    rng = np.random.default_rng(number)
    found = np.array(poses, np.float32).reshape(-1, len(SHAPE), 2)
    found = found + rng.normal(0, 1, found.shape).astype(np.float32)
    confidence = np.where(np.isfinite(found).all(-1), sure, 0).astype(np.float32)
    return Frame(clip, number, found, confidence, f"{clip}_{number}.json")


def film(people: list[Person], length: int = 60) -> list[Frame]:
    """Frames whose people are in an order that changes."""
    frames = []
    for t in range(length):
        poses = [pose for person in people if (pose := person(t)) is not None]
        order = np.random.default_rng(t).permutation(len(poses))
        frames.append(frame(t, [poses[k] for k in order]))
    return frames


def tracked(frames: Iterable[Frame], **options: int) -> list[Track]:
    return list(track_people(frames, STICK, TrackingOptions(**options)))


def follows(track: Track, person: Person) -> bool:
    """Whether each pose of the track is at the person's position."""
    truth = [person(int(t)) for t in track.frames]
    return all(
        pose is not None and np.abs(pose - found).max() < 10
        for pose, found in zip(truth, track.poses, strict=True)
    )


def test_one_person_is_one_track() -> None:
    (track,) = tracked(film([walker(100, 3)]))
    assert track.sequence == "c/1"
    assert track.poses.dtype == track.confidence.dtype == np.float32
    assert track.frames.tolist() == list(range(60))
    assert follows(track, walker(100, 3))


def test_two_people_who_cross_keep_their_tracks() -> None:
    people = [walker(100, 5, phase=1), walker(400, -5, y=310)]
    tracks = tracked(film(people))
    assert len(tracks) == 2
    assert {sum(follows(t, p) for t in tracks) for p in people} == {1}
    assert min(len(track.frames) for track in tracks) >= 54


def test_an_occluded_person_is_recognized_again() -> None:
    front, back = walker(100, 5), during(walker(400, -4, size=0.8), {*range(25), *range(40, 60)})
    tracks = tracked(film([front, back]))
    assert len(tracks) == 2
    assert all(any(follows(t, p) for t in tracks) for p in (front, back))
    assert sorted(len(track.frames) for track in tracks) == [45, 60]


def test_two_people_who_cross_while_hidden_keep_their_directions() -> None:
    times = {*range(26), *range(35, 60)}
    people = [during(walker(100, 5), times), during(walker(400, -5), times)]
    tracks = tracked(film(people))
    assert len(tracks) == 2
    assert {sum(follows(t, p) for t in tracks) for p in people} == {1}


def test_ambiguous_detections_fill_gaps() -> None:
    frames = film([walker(100, 3), walker(300, 0, y=500)])
    detections = detections_of(frames, STICK, 3)
    mine = np.flatnonzero(detections.poses[:, 1, 1] < 400)
    (path,) = fill_gaps(detections, [np.delete(mine, [7, 20, 21, 22])], 30.0)
    assert path.tolist() == mine.tolist()


def test_ambiguous_frames_are_kept() -> None:
    """In the middle of a path, where two people pass slowly, and at its end."""
    past = tracked(film([walker(220, 1), walker(280, -1, y=306)]))
    assert len(past) == 2
    assert sum(len(track.frames) for track in past) >= 112
    end = tracked(film([walker(170, 2), walker(330, -2, y=304)], 40))
    assert sum(len(track.frames) for track in end) == 79


def test_people_too_close_to_tell_apart_are_ambiguous() -> None:
    people = [walker(100, 5), walker(400, -5, y=303)]
    tracklets, _ = grow_tracklets(detections_of(film(people), STICK, 3), 30.0)
    assert {t.ambiguous for t in tracklets} == {False, True}


def test_a_gap_longer_than_max_gap_makes_two_tracks() -> None:
    frames = film([during(walker(100, 2), {*range(20), *range(40, 60)})])
    assert len(tracked(frames, max_gap=20)) == 1
    assert len(tracked(frames, max_gap=19)) == 2


def test_people_enter_and_leave() -> None:
    people = [
        walker(100, 0),
        during(walker(500, 2), range(20, 50)),
        during(walker(900, 1), range(30)),
    ]
    tracks = tracked(film(people))
    spans = {(int(t.frames[0]), int(t.frames[-1])) for t in tracks}
    assert spans == {(0, 59), (20, 49), (0, 29)}
    assert [t.sequence for t in tracks] == ["c/1", "c/2", "c/3"]
    assert tracks[2].frames[0] == 20


def test_a_person_who_enters_where_another_left_is_a_new_track() -> None:
    left, came = during(walker(300, 6), range(30)), during(walker(300, -6, size=0.7), range(34, 60))
    assert len(tracked(film([left, came]))) == 2


def test_heights_identify_people_after_a_gap() -> None:
    """Two people stand side by side and change places while they are hidden."""

    def changing(before: float, after: float, size: float) -> Person:
        places = dict.fromkeys(range(25), before) | dict.fromkeys(range(35, 60), after)
        return lambda t: walker(places[t], 0, size=size)(t) if t in places else None

    people = [changing(300, 330, 1), changing(330, 300, 0.7)]
    tracks = tracked(film(people))
    assert {sum(follows(t, p) for t in tracks) for p in people} == {1}


def test_missed_frames_and_missing_numbers_leave_gaps() -> None:
    person = during(walker(100, 3), set(range(60)) - {7, 8, 31})
    frames = [f for f in film([person]) if f.number not in (7, 50)]
    (track,) = tracked(frames)
    assert set(range(60)) - set(track.frames.tolist()) == {7, 8, 31, 50}


def test_false_detections_are_dropped() -> None:
    frames = film([walker(100, 3)])
    rng = np.random.default_rng(0)
    still = rng.uniform(0, 600, (3, 2))
    for t in range(5, 55):
        ghost = np.full((7, 2), np.nan)
        ghost[:3] = rng.uniform(0, 600, (3, 2)) if t < 40 else still
        weak = frame(t, [ghost], sure=0.6)
        frames[t] = replace(
            frames[t],
            poses=np.concatenate([frames[t].poses, weak.poses]),
            confidence=np.concatenate([frames[t].confidence, weak.confidence]),
        )
    (track,) = tracked(frames, min_length=1)
    assert follows(track, walker(100, 3))


def test_a_duplicate_is_merged_and_adds_missing_joints() -> None:
    def copy(t: int) -> Reals:
        return walker(100, 3)(t) + 2

    frames = film([walker(100, 3), copy])
    for f in frames:
        f.poses[[0, 1], [6, 3]], f.confidence[[0, 1], [6, 3]] = np.nan, 0
    (track,) = tracked(frames)
    assert len(track.frames) == 60
    assert (track.confidence > 0).all()
    assert follows(track, walker(101, 3, y=301))


def test_a_distant_duplicate_is_excluded() -> None:
    """Duplicates too far apart to be merged: at most one of two tracklets is a person."""
    copy = during(walker(113, 3, y=308), range(10, 30))
    (track,) = tracked(film([walker(100, 3), copy]))
    assert len(track.frames) == 60


def test_a_cut_ends_all_tracks() -> None:
    def cut(a: int, b: int) -> list[Person]:
        scene = [walker(100 + 300 * k, 0) for k in range(3)]
        other = [walker(230 + 300 * k, 0, y=420) for k in range(3)]
        return [during(p, range(a)) for p in scene] + [during(p, range(b, 60)) for p in other]

    tracks = tracked(film(cut(30, 30)))
    assert sorted(int(t.frames[0]) for t in tracks) == [0, 0, 0, 30, 30, 30]
    # who stands where somebody stood is another even so
    people = [*cut(30, 30), during(walker(700, 0), range(40, 60))]
    assert len(tracked(film(people))) == 7


def test_one_bad_frame_is_not_a_cut() -> None:
    frames = film([walker(100 + 300 * k, 0) for k in range(3)])
    frames[30] = frame(30, [walker(230 + 300 * k, 0, y=420)(30) for k in range(3)])
    assert len(tracked(frames)) == 3


@pytest.mark.parametrize("length", [0, 1, 20])
def test_frames_without_people(length: int) -> None:
    assert tracked([frame(t, []) for t in range(length)], min_length=1) == []


def test_joints_that_are_all_missing() -> None:
    nobody = np.full((7, 2), np.nan)
    assert tracked([frame(t, [nobody, nobody]) for t in range(20)], min_length=1) == []


def test_a_single_frame() -> None:
    frames = [frame(3, [walker(100, 0)(0), walker(500, 0)(0)])]
    assert tracked(frames) == []
    assert tracked(frames, min_joints=8, min_length=1) == []


def test_clips_are_tracked_separately_one_by_one() -> None:
    def clips() -> Iterable[Frame]:
        for name in ("a", "b", ""):
            yield from (replace(f, clip=name) for f in film([walker(100, 3)], 10))
            done.append(name)

    done: list[str] = []
    names = []
    for track in track_people(clips(), STICK):
        names.append(track.sequence)
        assert len(done) == len(names)  # a clip's tracks come before the next clip is read
    assert names == ["a/1", "b/1", "1"]


@pytest.mark.parametrize("unit", [1e-3, 1 / 1920, 7.0, 1e4])
def test_the_unit_of_the_poses_does_not_matter(unit: float) -> None:
    frames = film([walker(100, 4), walker(340, -4, 310, size=0.8)])
    pixels = tracked(frames)
    others = tracked(replace(f, poses=(f.poses * unit).astype(np.float32)) for f in frames)
    assert [list(t.frames) for t in others] == [list(t.frames) for t in pixels]
    for one, other in zip(pixels, others, strict=True):
        np.testing.assert_allclose(other.poses, one.poses * unit, rtol=1e-5)


@pytest.mark.parametrize("start", [0, 1_600_000_000_000])
@pytest.mark.parametrize("step", [1000 / 90, 1000 / 60, 20, 100 / 3, 40, 1000, 1e8 / 3, 15, 60])
def test_frame_numbers_may_be_times(step: float, start: int) -> None:
    """Milliseconds, nanoseconds and every n-th frame, from any start; four frames are missing."""
    frames = film([walker(100, 4), walker(340, -4, 310, size=0.8)])
    expected = tracked(frames[:20] + frames[24:])
    moved = [replace(f, number=start + int(f.number * step)) for f in frames[:20] + frames[24:]]
    clips = [moved, [replace(f, clip="d") for f in moved]]
    with pytest.warns(GMMVAEWarning, match="clip 'c': frame numbers rise by about") as warned:
        found = tracked(itertools.chain(*clips))
    assert len(warned) == 1
    assert [list(t.frames) for t in found] == 2 * [list(t.frames) for t in expected]


@pytest.mark.parametrize(
    "numbers",
    [[5], [0, 60], [0, 50, 51, 100, 150, 200], [0, 1, 40, 41, 80, 81], [*range(30), 90, 150, 210]],
)
def test_frame_numbers_with_gaps_stay(numbers: list[int]) -> None:
    found = detections_of([frame(n, [walker(100, 4)(n)]) for n in numbers], STICK, 3)
    assert list(found.frames) == numbers
    assert found.step == 1


def test_tracking_is_deterministic() -> None:
    frames = film([walker(100, 5), walker(400, -5), walker(250, 0, size=0.9)])
    first, second = tracked(frames), tracked(frames)
    for a, b in zip(first, second, strict=True):
        assert a.sequence == b.sequence
        np.testing.assert_array_equal(a.frames, b.frames)
        np.testing.assert_array_equal(a.poses, b.poses)


def test_the_result_does_not_depend_on_the_windows() -> None:
    people = [
        during(walker(50 + 200 * k, 1), set(range(200)) - set(range(20 * k + 20, 20 * k + 32)))
        for k in range(6)
    ]
    frames = film(people, 200)
    names = [[t.frames.tolist() for t in tracked(frames, max_gap=20, window=w)] for w in (42, 900)]
    assert names[0] == names[1]
    assert len(names[0]) == 6


def test_a_person_has_at_most_one_successor() -> None:
    """The next window keeps the decisions of the one before."""
    graph = TrackletGraph(
        tracklets=[np.zeros(1, np.int64)] * 4,
        begin=np.array([0, 12, 13, 30]),
        end=np.array([10, 25, 28, 40]),
        keep=np.full(4, 9.0),
        links=np.array([[0, 1], [0, 3], [2, 3]]),
        gain=np.array([5.0, 4.0, 3.0]),
        exclusions=np.zeros((0, 2), np.int64),
    )
    assert link(graph, max_gap=20, window=2) == [[0, 1], [2, 3]]


def test_unambiguous_people_are_one_tracklet_each() -> None:
    """The fast path alone, without the integer program."""
    frames = film([walker(100, 3), walker(600, -1), walker(900, 0)])
    tracklets, scenes = grow_tracklets(detections_of(frames, STICK, 3), 30.0)
    assert [len(t.rows) for t in tracklets] == [60, 60, 60]
    assert not any(t.ambiguous for t in tracklets)
    assert scenes.tolist() == [0]


def test_height_is_estimated_from_the_visible_bones() -> None:
    poses = np.stack([SHAPE, SHAPE * 2, SHAPE])
    poses[2, 3:] = np.nan
    found = heights(poses, STICK)
    np.testing.assert_allclose(found, 3.5 * 55 * np.array([1, 2, 1]), rtol=1e-6)
    np.testing.assert_allclose(heights(poses, replace(STICK, torso=None)), found, rtol=0.1)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([frame(1, []), frame(0, [])], "must come in order"),
        ([frame(0, []), frame(0, [], "d"), frame(1, [])], "comes twice"),
    ],
)
def test_frames_out_of_order_are_refused(frames: list[Frame], message: str) -> None:
    with pytest.raises(GMMVAEError, match=message):
        tracked(frames)


def test_another_layout_is_refused() -> None:
    with pytest.raises(GMMVAEError, match="25 joints"):
        list(track_people([frame(0, [SHAPE])], BODY_25))


@pytest.mark.parametrize("name", ["max_gap", "min_length", "frame_rate"])
def test_options_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(GMMVAEError, match=name):
        TrackingOptions(**{name: -1})


def random_problem(seed: int, nodes: int = 6) -> PathCover:
    rng = np.random.default_rng(seed)
    pairs = np.array(list(itertools.combinations(range(nodes), 2)))
    links = pairs[rng.uniform(size=len(pairs)) < 0.5]
    held = np.arange(nodes) < rng.integers(0, 2)
    links = links[~held[links[:, 1]]]
    exclusions = pairs[rng.uniform(size=len(pairs)) < 0.2]
    return PathCover(
        keep=rng.normal(1, 2, nodes),
        enter=rng.uniform(0, 2, nodes),
        leave=rng.uniform(0, 2, nodes),
        links=links,
        gain=rng.normal(0, 3, len(links)),
        exclusions=exclusions[~held[exclusions].any(1)],
        held=held,
    )


def best_by_trying(problem: PathCover) -> float:
    """Every choice of links and of nodes without one."""
    n, best = len(problem.keep), -np.inf
    for chosen in itertools.product([False, True], repeat=len(problem.links)):
        used = problem.links[np.array(chosen, bool)]
        if len(set(used[:, 0])) < len(used) or len(set(used[:, 1])) < len(used):
            continue
        for alone in itertools.product([False, True], repeat=n):
            kept = np.array(alone) | problem.held
            if not kept[used].all() or (kept[problem.exclusions].all(1)).any():
                continue
            begins, ends = kept & ~problem.held, kept.copy()
            begins[used[:, 1]] = False
            ends[used[:, 0]] = False
            value = problem.keep[kept].sum() + problem.gain[np.array(chosen, bool)].sum()
            best = max(best, value - problem.enter[begins].sum() - problem.leave[ends].sum())
    return best


def is_feasible(problem: PathCover, cover: Cover) -> bool:
    used = problem.links[cover.used]
    once = all(len(set(used[:, side])) == len(used) for side in (0, 1))
    excluded = cover.kept[problem.exclusions].all(1).any()
    return bool(once and cover.kept[used].all() and not excluded and cover.kept[problem.held].all())


@pytest.mark.parametrize("seed", range(25))
def test_the_integer_program_is_solved_exactly(seed: int) -> None:
    problem = random_problem(seed, 5)
    best = best_by_trying(problem)
    for found in (solve(problem), solve_exact(problem)):
        assert is_feasible(problem, found)
        assert found.value == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_assignment_and_integer_program_agree_without_exclusions(seed: int) -> None:
    problem = replace(random_problem(seed, 30), exclusions=np.zeros((0, 2), np.int64))
    fast, exact = solve_relaxed(problem), solve_exact(problem)
    assert fast.value == pytest.approx(exact.value, abs=1e-6)
    np.testing.assert_array_equal(fast.kept, exact.kept)
    np.testing.assert_array_equal(fast.used, exact.used)


def openpose(real_data: Path, name: str) -> Path:
    """A folder of real frames; the test is skipped where it is missing."""
    folder = real_data / "openpose_json" / name
    if not folder.is_dir():
        pytest.skip("real OpenPose frames are not here")
    return folder


def test_real_people_are_tracked(real_data: Path) -> None:
    """Two people sit, one for a part of the time. A false detection of 5 joints flickers."""
    frames = read_frames(openpose(real_data, "posepy_1to3"))
    tracks = list(track_people(frames, BODY_25))
    long = [t for t in tracks if len(t.frames) > 500]
    assert len(long) == 2
    assert long[0].frames.tolist() == list(range(1500, 2100))
    assert (int(long[1].frames[0]), int(long[1].frames[-1])) == (1510, 2046)
    assert len(tracks) <= 4


def test_a_zoom_is_not_a_cut(real_data: Path) -> None:
    """A camera zooms in on a crowd: people in the middle keep their tracks while others leave."""
    frames = [f for f in read_frames(openpose(real_data, "posepy_multi")) if f.number < 800]
    tracks = list(track_people(frames, BODY_25))
    assert sum(len(t.frames) >= 195 for t in tracks) == 6
    assert len(tracks) < 25
