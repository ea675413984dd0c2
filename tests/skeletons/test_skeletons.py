"""Tests of windows of tracks: interpolation, coverage of frames, and units of the body."""

import numpy as np
import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons import PoseWindow
from pyro_gmmvae.skeletons.layouts import BODY_25, COCO_18, Layout
from pyro_gmmvae.skeletons.tracks import Track
from pyro_gmmvae.skeletons.windows import (
    Windows,
    continuous_pieces,
    cut_windows,
    interpolate,
    relative_poses,
)

STICK = Layout("stick", ("a", "b", "c"), ((0, 1), (1, 2)), root=0, torso=((0,), (1,)))


def poses(frames: int, joints: int = 3, dimensions: int = 2, seed: int = 0) -> np.ndarray:
    shape = (frames, joints, dimensions)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def track(frames: list[int], values: np.ndarray, name: str = "a") -> Track:
    whole = Track.of_poses(name, values)
    return Track(name, np.array(frames), whole.poses, whole.confidence)


def cut(
    tracks: list[Track],
    layout: Layout,
    window: int = 8,
    stride: int = 4,
    max_gap: int = 5,
    scale: str = "torso",
) -> Windows:
    return cut_windows(tracks, layout, window=window, stride=stride, max_gap=max_gap, scale=scale)


def test_short_gaps_are_interpolated_and_longer_ones_stay() -> None:
    x = poses(20)
    gone = np.zeros((20, 3), bool)
    gone[[0, 1, 5, 6, 19], 0] = True  # the ends, and a gap of two
    gone[3:6, 1] = True  # of three: just short enough
    gone[8:12, 1] = True  # of four: too long
    gone[:, 2] = True
    filled, put_in = interpolate(np.where(gone[..., None], np.nan, x), 3)
    expected_in = np.zeros_like(gone)
    expected_in[[5, 6], 0] = expected_in[3:6, 1] = True
    np.testing.assert_array_equal(put_in, expected_in)
    np.testing.assert_array_equal(np.isnan(filled).any(-1), gone & ~put_in)
    np.testing.assert_array_equal(filled[~gone], x[~gone])
    for joint in (0, 1):
        there = np.flatnonzero(~gone[:, joint])
        for axis in (0, 1):
            line = np.interp(np.arange(20), there, x[there, joint, axis])
            at = put_in[:, joint]
            np.testing.assert_allclose(filled[at, joint, axis], line[at], rtol=1e-6)


def test_interpolation_does_not_change_its_input() -> None:
    x = poses(5)
    x[2] = np.nan
    before = x.copy()
    interpolate(x, 2)
    np.testing.assert_array_equal(x, before)


def test_missing_frames_are_gaps_and_long_gaps_end_a_piece() -> None:
    x = poses(5)
    pieces = continuous_pieces(np.array([10, 13, 17, 18, 22]), x, 2)
    assert [len(piece) for piece, _ in pieces] == [4, 2, 1]
    np.testing.assert_allclose(pieces[0][0][1], x[0] + (x[1] - x[0]) / 3, rtol=1e-5)
    assert pieces[0][1].all(-1).tolist() == [False, True, True, False]
    np.testing.assert_array_equal(pieces[1][0], x[2:4])


@pytest.mark.parametrize("length", range(1, 14))
@pytest.mark.parametrize(("window", "stride"), [(4, 1), (4, 3), (5, 5), (3, 7), (8, 4)])
def test_windows_cover_every_frame(length: int, window: int, stride: int) -> None:
    """Strides longer than a window skip frames, as requested."""
    x = np.arange(length * 6, dtype=np.float32).reshape(length, 3, 2)
    layout = Layout("free", ("a", "b", "c"))
    found = cut([track(list(range(length)), x)], layout, window, stride, 0)
    assert found.x.shape[1:] == (window, 3, 2)
    assert set(found.x[np.isfinite(found.x)]) <= set(x.flat)
    if stride <= window:
        assert set(found.x[np.isfinite(found.x)]) == set(x.flat)
    assert x[-1, -1, -1] in found.x[-1]
    for one in found.x:
        known = one[np.isfinite(one)]
        np.testing.assert_array_equal(np.diff(known), 1)
    assert found.short == (("a",) if length < window else ())
    assert found.of_track.tolist() == [0] * len(found.x)


def test_a_track_without_joints_has_no_window_and_keeps_its_number() -> None:
    nothing = np.full((6, 3, 2), np.nan)
    tracks = [track(list(range(6)), x, n) for n, x in (("a", nothing), ("b", poses(6)))]
    found = cut(tracks, STICK, 3, 3)
    assert found.empty == ("a",)
    assert found.of_track.tolist() == [1, 1]
    with pytest.raises(GMMVAEError, match="none of 1 tracks has a joint"):
        cut(tracks[:1], STICK, 3, 3)


def test_windows_without_joints_are_dropped() -> None:
    x = poses(12)
    x[4:8] = np.nan
    found = cut([track(list(range(12)), x)], STICK, 4, 4, 1)
    assert len(found.x) == 2


def test_window_0_is_whole_sequences_padded_to_the_longest() -> None:
    tracks = [track(list(range(n)), poses(n), name) for n, name in ((3, "a"), (7, "b"))]
    found = cut(tracks, STICK, 0, 2)
    assert found.x.shape == (2, 7, 3, 2)
    assert np.isnan(found.x[0, 3:]).all()
    assert np.isfinite(found.x[0, :3]).all()
    assert found.short == ()


def test_a_far_frame_number_takes_no_memory() -> None:
    found = cut([track([0, 1, 10**12], poses(3))], STICK, 0, 2)
    assert found.x.shape == (2, 2, 3, 2)


@pytest.mark.parametrize("layout", [BODY_25, COCO_18, STICK], ids=lambda layout: layout.name)
def test_scale_and_position_of_a_body_do_not_matter(layout: Layout) -> None:
    x = poses(9, len(layout.joints))
    relative = relative_poses(x, layout)
    np.testing.assert_allclose(relative_poses(3 * x + 50, layout), relative, atol=1e-4)
    assert layout.root is not None
    assert not relative[:, layout.root].any()
    in_file_units = relative_poses(3 * x + 50, layout, "file")
    np.testing.assert_allclose(in_file_units, 3 * (x - x[:, [layout.root]]), atol=1e-4)


def test_the_torso_is_one_unit_long() -> None:
    x = poses(9)
    lengths = np.linalg.norm(relative_poses(x, STICK)[:, 1], axis=-1)
    assert np.median(lengths) == pytest.approx(1, rel=1e-5)


def test_without_a_torso_the_unit_is_the_spread_of_the_joints() -> None:
    """All corners of a square of side 2 are sqrt(2) from the center."""
    square = np.array([[[0.0, 0], [2, 0], [2, 2], [0, 2]]], np.float32)
    for layout in (
        Layout("square", tuple("abcd"), root=0),
        Layout("hidden", tuple("abcde"), root=0, torso=((0,), (4,))),
    ):
        x = np.full((1, len(layout.joints), 2), np.nan, np.float32)
        x[:, :4] = square
        relative = relative_poses(x, layout)
        np.testing.assert_allclose(relative[0, 2], [2**0.5, 2**0.5], rtol=1e-6)


def test_a_missing_root_is_interpolated_over_time() -> None:
    """Between frames 0 and 10 the root moves ten units; at frame 1 it was not detected."""
    x = np.zeros((3, 3, 2), np.float32)
    x[:, 0, 0], x[:, 1, 1] = [0, 1, 10], 1
    x[1, 0] = np.nan
    found = cut([track([0, 1, 10], x)], STICK, 11, 1, 10, "file")
    assert found.x[0, 1, 1].tolist() == [-1, 1]
    assert np.isfinite(found.x).all()


def test_a_root_that_is_always_missing_is_the_mean_of_the_joints() -> None:
    x = poses(4)
    x[:, 0] = np.nan
    x[2, 1] = np.nan
    relative = relative_poses(x, STICK, "file")
    np.testing.assert_allclose(relative[0, 1], (x[0, 1] - x[0, 2]) / 2, rtol=1e-5)
    np.testing.assert_allclose(relative[2, 2], 0, atol=1e-6)
    assert np.isnan(relative[:, 0]).all()


def test_positions_without_a_root_are_not_changed() -> None:
    x = poses(4)
    np.testing.assert_array_equal(relative_poses(x, Layout("free", ("a", "b", "c"))), x)


def test_tracks_of_different_joints_are_refused() -> None:
    for other in (poses(4, 3, 3), poses(4, 4, 2)):
        tracks = [track([0, 1, 2, 3], poses(4)), track([0, 1, 2, 3], other)]
        with pytest.raises(GMMVAEError, match="several layouts or dimensions"):
            cut(tracks, STICK)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"window": -1}, "window -1"),
        ({"stride": 0}, "stride 0"),
        ({"max_gap": -2}, "max_gap -2"),
        ({"scale": "body"}, "not 'body'"),
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(GMMVAEError, match=message):
        PoseWindow(STICK, 0, 2, **values)  # type: ignore[arg-type]
