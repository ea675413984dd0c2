"""Tests of skeleton features: by hand, by invariance, and with missing joints."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons import PoseWindow
from pyro_gmmvae.skeletons.features import (
    FEATURES,
    STATISTICS,
    angle_triples,
)
from pyro_gmmvae.skeletons.layouts import BODY_25, COCO_18, KINECT_18, Layout

HOOK = Layout("hook", ("a", "b", "c"), ((0, 1), (1, 2)))


def hook() -> Tensor:
    """Two frames: a right angle of arms 3 and 4, then stretched to 3 and 8, b moved by (1, 0)."""
    return torch.tensor([[[[0.0, 3], [0, 0], [4, 0]], [[1.0, 3], [1, 0], [9, 0]]]])


def of(name: str, x: Tensor, layout: Layout) -> Tensor:
    return FEATURES[name](x, layout)


def test_features_by_hand() -> None:
    x = hook()
    assert of("joints", x, HOOK)[0, 1].tolist() == [1, 3, 1, 0, 9, 0]
    velocities = of("velocities", x, HOOK)[0]
    assert velocities[0].tolist() == [1, 0, 1, 0, 5, 0]
    assert velocities[1].isnan().all()
    assert of("bones", x, HOOK)[0].tolist() == [[3, 4], [3, 8]]
    half = math.log(3 / 4) / 2
    torch.testing.assert_close(of("ratios", x, HOOK)[0, 0], torch.tensor([half, -half]))
    assert of("angles", x, HOOK)[0].tolist() == [[0], [0]]


def test_an_angle_is_its_cosine() -> None:
    x = torch.tensor([[2.0, 0], [0, 0], [5 * math.cos(2.0), 5 * math.sin(2.0)]])
    torch.testing.assert_close(of("angles", x, HOOK), torch.tensor([math.cos(2.0)]))


def test_angles_are_between_bones_that_share_a_joint() -> None:
    star = ((0, 1), (2, 0), (0, 3))
    assert angle_triples(star) == [(1, 0, 2), (1, 0, 3), (2, 0, 3)]
    assert angle_triples(((0, 1), (2, 3))) == []


@pytest.mark.parametrize("layout", [BODY_25, COCO_18, KINECT_18], ids=lambda one: one.name)
def test_features_that_rotation_mirroring_and_scale_keep(layout: Layout) -> None:
    x = torch.randn(2, 4, len(layout.joints), 3)
    rotation = torch.linalg.qr(torch.randn(3, 3))[0]
    mirrored = x * torch.tensor([-1.0, 1, 1])
    for name in ("bones", "ratios", "angles"):
        before = of(name, x, layout)
        for moved in (x @ rotation, mirrored, x + 3.0):
            torch.testing.assert_close(of(name, moved, layout), before, atol=1e-4, rtol=1e-4)
    for name in ("ratios", "angles"):
        torch.testing.assert_close(
            of(name, 7 * x, layout), of(name, x, layout), atol=1e-4, rtol=1e-4
        )
    torch.testing.assert_close(of("bones", 7 * x, layout), 7 * of("bones", x, layout))
    torch.testing.assert_close(
        of("velocities", x + 3.0, layout),
        of("velocities", x, layout),
        equal_nan=True,
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.parametrize("missing", range(5))
def test_a_missing_joint_makes_only_its_own_features_missing(
    missing: int,
) -> None:
    edges = ((0, 1), (1, 2), (1, 3), (3, 4))
    layout = Layout("five", tuple("abcde"), edges)
    x = torch.randn(3, 6, 5, 2)
    x[1, 2, missing] = torch.nan
    expected = {
        "joints": [j == missing for j in range(5) for _ in "xy"],
        "velocities": [j == missing for j in range(5) for _ in "xy"],
        "bones": [missing in edge for edge in edges],
        "ratios": [missing in edge for edge in edges],
        "angles": [missing in triple for triple in angle_triples(edges)],
    }
    for name, unknown in expected.items():
        found = of(name, x, layout).isnan()
        assert found[1, 2].tolist() == unknown
        frames = [1] if name == "velocities" else []
        assert all(found[1, t].tolist() == unknown for t in frames)
        # and the last frame, which has no next one
        others = found[:, :-1] if name == "velocities" else found
        assert int(others.sum()) == sum(unknown) * (1 + len(frames))


def test_statistics_ignore_missing_frames() -> None:
    x = np.random.default_rng(0).normal(size=(4, 7, 3)).astype(np.float32)
    x[0, [0, 3, 6], 0] = np.nan
    x[1, :, 2] = np.nan
    expected = {
        "mean": np.nanmean,
        "std": np.nanstd,
        "min": np.nanmin,
        "max": np.nanmax,
        "first": lambda row: row[np.isfinite(row)][0],
        "last": lambda row: row[np.isfinite(row)][-1],
    }
    assert set(expected) == set(STATISTICS)
    for name, function in expected.items():
        found = STATISTICS[name](torch.from_numpy(x))
        assert found.shape == (4, 3)
        for row, feature in np.ndindex(4, 3):
            value = found[row, feature].item()
            if (row, feature) == (1, 2):
                assert math.isnan(value)
            else:
                assert value == pytest.approx(function(x[row, :, feature]), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("features", [("joints",), ("bones", "joints"), tuple(FEATURES)])
@pytest.mark.parametrize("statistics", [("mean",), ("std", "mean"), ()])
def test_columns_name_entries_and_poses_are_recovered(
    features: tuple[str, ...], statistics: tuple[str, ...], dimensions: int
) -> None:
    kind = PoseWindow(COCO_18, 5, dimensions, features=features, statistics=statistics)
    x = torch.randn(3, 5, 18, dimensions)
    rows = kind.featurize(x)
    assert rows.shape == (3, *kind.x_shape)
    assert kind.drawing == "skeleton"
    poses = torch.from_numpy(kind.poses(rows.numpy()))
    if statistics:
        names = kind.columns
        assert names is not None
        assert rows.shape == (3, len(names))
        assert len(set(names)) == len(names)
        at = names.index("mean joints LWrist y")
        torch.testing.assert_close(rows[:, at], x[:, :, 7, 1].mean(1))
        torch.testing.assert_close(poses, x.mean(1, keepdim=True))
        if "bones" in features:
            at = names.index("mean bones Neck-RShoulder")
            torch.testing.assert_close(rows[:, at], (x[:, :, 1] - x[:, :, 2]).norm(dim=-1).mean(1))
    else:
        torch.testing.assert_close(poses, x)
    np.testing.assert_array_equal(kind.featurize_array(x.numpy()), rows.numpy())
    assert PoseWindow.from_json(json.loads(json.dumps(kind.to_json()))) == kind


def test_features_of_single_joints_keep_the_joint_axis() -> None:
    x = torch.randn(2, 4, 18, 3)
    kind = PoseWindow(COCO_18, 4, 3, features=("velocities", "joints"), statistics=())
    rows = kind.featurize(x)
    assert rows.shape == (2, 4, 18, 6)
    torch.testing.assert_close(rows[:, :-1, :, :3], x[:, 1:] - x[:, :-1])
    np.testing.assert_array_equal(kind.poses(rows.numpy()), x.numpy())


@pytest.mark.parametrize(
    ("layout", "features", "statistics", "message"),
    [
        (COCO_18, ("joint",), (), "did you mean 'joints'"),
        (COCO_18, ("joints",), ("means",), "did you mean 'mean'"),
        (COCO_18, (), ("mean",), "name at least one"),
        (Layout("dots", ("a", "b")), ("joints", "ratios"), (), "no edges, which ratios need"),
        (Layout("one", ("a", "b"), ((0, 1),)), ("angles",), (), "share a joint"),
    ],
)
def test_bad_features_are_refused(
    layout: Layout, features: tuple[str, ...], statistics: tuple[str, ...], message: str
) -> None:
    with pytest.raises(GMMVAEError, match=message):
        PoseWindow(layout, 4, 2, features=features, statistics=statistics)


def test_features_without_joints_can_not_be_drawn() -> None:
    for features, statistics in ((("bones",), ()), (("joints",), ("std",))):
        kind = PoseWindow(COCO_18, 2, 2, features=features, statistics=statistics)
        assert kind.drawing in ("profile", "series")
        with pytest.raises(GMMVAEError, match="can't draw them"):
            kind.poses(kind.featurize_array(np.random.rand(1, 2, 18, 2)))
