"""Augmentation of windows of poses, on the device that holds them.

All functions take windows x (B, T, J, C), relative to a root, NaN where a joint is missing, and
return windows of the same shape; each window gets its own random amounts.
"""

import math
from typing import TYPE_CHECKING

from pyro_gmmvae.data.kinds import Pairs

if TYPE_CHECKING:
    from torch import Tensor

JITTER, SPEED, DEGREES, DEGREES_UPRIGHT = 0.02, 0.25, 10.0, 30.0


def mirror(x: "Tensor", pairs: Pairs) -> "Tensor":
    """Exchange left and right joints in half of the windows, and turn x around.

    Args:
        x: windows.
        pairs: (left, right) joint numbers.
    """
    import torch

    from pyro_gmmvae.skeletons.features import at_joints

    order = list(range(x.shape[2]))
    for left, right in pairs:
        order[left], order[right] = right, left
    mirrored = at_joints(x, order)
    mirrored[..., 0].neg_()
    return torch.where(_uniform(x) < 0.5, mirrored, x)


def jitter(x: "Tensor") -> "Tensor":
    """Add normal noise to every coordinate, 2 % of the window's root mean square distance."""
    import torch

    size = x.square().nanmean((1, 2, 3), keepdim=True).sqrt().nan_to_num()
    return x + JITTER * size * torch.randn_like(x)


def warp(x: "Tensor") -> "Tensor":
    """Make time up to a quarter faster or slower about the window's middle.

    Frames are interpolated linearly; beyond the window's ends the outermost frames are repeated.
    """
    import torch

    T = x.shape[1]
    middle, speed = (T - 1) / 2, 1 + SPEED * (2 * _uniform(x)[:, 0, 0, 0] - 1)
    frames = torch.arange(T, device=x.device, dtype=x.dtype) - middle
    time = (middle + speed.unsqueeze(1) * frames).clamp(0, T - 1)
    before = time.floor().long().clamp_max(max(0, T - 2))
    share = (time - before)[:, :, None, None]
    rows = torch.arange(len(x), device=x.device).unsqueeze(1)
    here, there = x[rows, before], x[rows, (before + 1).clamp_max(T - 1)]
    # where one of the two is missing, the other is used
    here, there = torch.where(here.isnan(), there, here), torch.where(there.isnan(), here, there)
    return here + share * (there - here)


def rotate(x: "Tensor") -> "Tensor":
    """Rotate 3-D windows up to 30 degrees about the vertical axis y, 2-D ones up to 10 degrees."""
    import torch

    upright = x.shape[-1] == 3
    if x.shape[-1] < 2:
        return x
    most = math.radians(DEGREES_UPRIGHT if upright else DEGREES)
    angle = most * (2 * _uniform(x)[..., 0] - 1)
    cos, sin = angle.cos(), angle.sin()
    first, second = x[..., 0], x[..., 2 if upright else 1]
    one, other = cos * first - sin * second, sin * first + cos * second
    parts = (one, x[..., 1], other) if upright else (one, other)
    return torch.stack(parts, -1)


def drop(x: "Tensor", share: float) -> "Tensor":
    """Hide joints over the whole window: a random share of them, uniform up to ``share``."""
    import torch

    hidden_share = share * _uniform(x)
    hidden = torch.rand(len(x), 1, x.shape[2], 1, dtype=x.dtype, device=x.device) < hidden_share
    return torch.where(hidden, torch.nan, x)


def _uniform(x: "Tensor") -> "Tensor":
    """(B, 1, 1, 1) in [0, 1)."""
    import torch

    return torch.rand(len(x), 1, 1, 1, dtype=x.dtype, device=x.device)
