"""Tests of augmentation of pose windows: what each one changes and keeps."""

import math

import pytest
import torch
from torch import Tensor

from pyro_gmmvae.data import RowKind, Table
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.skeletons import PoseWindow
from pyro_gmmvae.skeletons.layouts import COCO_18
from pyro_gmmvae.skeletons.pose_augment import (
    JITTER,
    SPEED,
    drop,
    jitter,
    mirror,
    rotate,
    warp,
)

KIND = PoseWindow(COCO_18, 5, 2, joint_dropout=0.5)


def augmented(name: str, x: Tensor) -> Tensor:
    change = KIND.augmentation(name)
    assert change is not None
    return change(x)


def windows(n: int = 200, dimensions: int = 2, frames: int = 5) -> Tensor:
    x = torch.randn(n, frames, 18, dimensions)
    x[torch.rand(n, frames, 18) < 0.2] = torch.nan
    return x


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 2, 7])
@pytest.mark.parametrize("name", PoseWindow.augmentations)
def test_shape_and_unknown_joints_are_kept(name: str, frames: int, dimensions: int) -> None:
    """A joint has all of its coordinates or none; missing joints stay missing."""
    x = windows(50, dimensions, frames)
    x[:, :, 0] = torch.nan  # the nose, which is its own mirror
    before = x.clone()
    moved = augmented(name, x)
    assert moved.shape == x.shape
    torch.testing.assert_close(x, before, equal_nan=True, rtol=0, atol=0)
    gone = moved.isnan()
    assert torch.equal(gone.any(-1), gone.all(-1))
    assert gone[:, :, 0].all()
    if name in ("jitter", "rotate"):
        assert torch.equal(gone, x.isnan())
    if name == "drop":
        assert (gone >= x.isnan()).all()


@pytest.mark.parametrize("name", PoseWindow.augmentations)
def test_each_window_has_its_own_amounts(name: str) -> None:
    x = torch.randn(1, 6, 18, 2).expand(64, -1, -1, -1)
    moved = augmented(name, x).nan_to_num()
    different = len(torch.unique(moved, dim=0))
    if name == "drop":  # some windows lose no joint
        assert 40 < different <= 64
    else:
        assert different == (2 if name == "mirror" else 64)


def test_a_mirror_exchanges_left_and_right_in_half_of_the_windows() -> None:
    x = windows(400, 3)
    torch.manual_seed(1)
    moved = mirror(x, COCO_18.pairs)
    same = (moved == x).logical_or(x.isnan() & moved.isnan()).flatten(1).all(1)
    assert 150 < same.sum() < 250
    left, right = COCO_18.joints.index("LWrist"), COCO_18.joints.index("RWrist")
    turned = torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(
        moved[~same][:, :, left], turned * x[~same][:, :, right], equal_nan=True
    )
    torch.testing.assert_close(moved[~same][:, :, 0], turned * x[~same][:, :, 0], equal_nan=True)
    torch.manual_seed(1)
    torch.testing.assert_close(mirror(moved, COCO_18.pairs), x, equal_nan=True, rtol=0, atol=0)


def test_jitter_is_a_share_of_the_body() -> None:
    x = torch.randn(500, 5, 18, 2)
    x[250:] *= 100
    noise = jitter(x) - x
    assert noise[:250].std().item() == pytest.approx(JITTER, rel=0.03)
    assert noise[250:].std().item() == pytest.approx(100 * JITTER, rel=0.03)
    nothing = torch.full((2, 5, 18, 2), torch.nan)
    assert jitter(nothing).isnan().all()


def test_a_warped_straight_walk_is_a_straight_walk_at_another_speed() -> None:
    frames = torch.arange(9.0)
    x = frames[None, :, None, None].expand(300, 9, 18, 2)
    moved = warp(x)
    assert moved.min() >= 0
    assert moved.max() <= 8
    torch.testing.assert_close(moved[:, 4], x[:, 4])  # the middle stays
    speed = moved[:, 5, 0, 0] - moved[:, 4, 0, 0]
    assert (speed - 1).abs().max() <= SPEED + 1e-5
    assert speed.std() > SPEED / 3
    expected = (4 + speed[:, None] * (frames - 4)).clamp(0, 8)
    torch.testing.assert_close(moved[:, :, 3, 1], expected)


def test_warp_uses_the_frame_that_is_known() -> None:
    x = torch.arange(5.0)[None, :, None, None].expand(100, 5, 2, 2).clone()
    x[:, 1] = torch.nan
    moved = warp(x)
    assert (moved.isnan().flatten(1).sum(1) <= 4).all()  # one frame at most
    known = moved[~moved.isnan()]
    assert ((known >= 0) & (known <= 4)).all()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_rotation_keeps_lengths_and_the_vertical_axis(dimensions: int) -> None:
    x = torch.randn(300, 4, 18, dimensions)
    moved = rotate(x)
    torch.testing.assert_close(torch.cdist(moved, moved), torch.cdist(x, x), atol=1e-3, rtol=1e-3)
    across = [0, 2 if dimensions == 3 else 1]
    if dimensions == 3:
        torch.testing.assert_close(moved[..., 1], x[..., 1], rtol=0, atol=0)
    one, other = x[..., across], moved[..., across]
    cross = one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]
    angle = torch.atan2(cross, (one * other).sum(-1))
    most = math.radians(30 if dimensions == 3 else 10)
    assert angle.abs().max() <= most + 1e-3
    assert angle.abs().max() > 0.9 * most
    torch.testing.assert_close(angle, angle[:, :1, :1].expand_as(angle), atol=1e-3, rtol=0)


def test_drop_hides_whole_joints_up_to_a_share() -> None:
    x = torch.randn(2000, 3, 18, 2)
    hidden = drop(x, 0.5).isnan()
    assert torch.equal(hidden.any((1, 3)), hidden.all(3).all(1))
    share = hidden[:, 0, :, 0].float().mean(1)
    assert share.mean().item() == pytest.approx(0.25, abs=0.02)  # uniform up to a half
    assert share.std() > 0.14  # of one fixed share it would be 0.10
    assert not drop(x, 0.0).isnan().any()


def test_named_augmentations_are_applied_in_order() -> None:
    x = windows()
    both = KIND.augmentation(" mirror, drop ")
    assert both is not None
    torch.manual_seed(2)
    found = both(x)
    torch.manual_seed(2)
    torch.testing.assert_close(drop(mirror(x, COCO_18.pairs), 0.5), found, equal_nan=True)
    for nothing in (None, "", " , "):
        assert KIND.augmentation(nothing) is None


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        ("miror", KIND, "did you mean 'mirror'"),
        ("affine", KIND, "the rows are windows of poses, which take mirror"),
        ("mirror,affine", KIND, "augment=affine"),
        ("drop", Table((30,)), "the rows are plain numbers, which take noise, dropout"),
    ],
)
def test_augmentations_of_other_kinds_are_refused(names: str, kind: RowKind, message: str) -> None:
    with pytest.raises(GMMVAEError, match=message):
        kind.augmentation(names)
