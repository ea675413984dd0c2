"""Augmentation of windows of skeletons, on the device they live on.

All of them take windows x (B, T, J, C), relative to a root, NaN where a joint is missing, and
give windows of the same shape; each window gets its own random amounts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

JITTER, SPEED, DEGREES, DEGREES_UPRIGHT = 0.02, 0.25, 10.0, 30.0


@dataclass(frozen=True)
class Body:
    """What augmentation must know of skeletons.

    Attributes:
        pairs: (left, right) joint numbers.
        dropout: the largest share of joints that :func:`drop` hides.
    """

    pairs: tuple[tuple[int, int], ...]
    dropout: float


def mirror(x: Tensor, body: Body) -> Tensor:
    """Half of the windows with left and right exchanged, and x turned around."""
    order = list(range(x.shape[2]))
    for left, right in body.pairs:
        order[left], order[right] = right, left
    mirrored = x[:, :, torch.tensor(order, device=x.device)].clone()
    mirrored[..., 0].neg_()
    return torch.where(_uniform(x) < 0.5, mirrored, x)


def jitter(x: Tensor, body: Body) -> Tensor:  # noqa: ARG001 - every augmentation's signature
    """Normal noise on every coordinate: 2 % of the window's root mean square distance."""
    size = x.square().nanmean((1, 2, 3), keepdim=True).sqrt().nan_to_num()
    return x + JITTER * size * torch.randn_like(x)


def warp(x: Tensor, body: Body) -> Tensor:  # noqa: ARG001
    """Time up to a quarter faster or slower about the window's middle, linearly interpolated.

    Beyond the window's ends the frames there stand still.
    """
    T = x.shape[1]
    middle, speed = (T - 1) / 2, 1 + SPEED * (2 * _uniform(x)[:, 0, 0, 0] - 1)
    frames = torch.arange(T, device=x.device, dtype=x.dtype) - middle
    time = (middle + speed.unsqueeze(1) * frames).clamp(0, T - 1)
    before = time.floor().long().clamp_max(max(0, T - 2))
    share = (time - before)[:, :, None, None]
    rows = torch.arange(len(x), device=x.device).unsqueeze(1)
    here, there = x[rows, before], x[rows, (before + 1).clamp_max(T - 1)]
    # where one of the two is missing, the other stands for it
    here, there = torch.where(here.isnan(), there, here), torch.where(there.isnan(), here, there)
    return here + share * (there - here)


def rotate(x: Tensor, body: Body) -> Tensor:  # noqa: ARG001
    """3-D: up to 30 degrees about the vertical axis y; 2-D: up to 10 in the picture."""
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


def drop(x: Tensor, body: Body) -> Tensor:
    """Joints hidden over the whole window: a share of them, uniform up to ``body.dropout``."""
    share = body.dropout * _uniform(x)
    hidden = torch.rand(len(x), 1, x.shape[2], 1, dtype=x.dtype, device=x.device) < share
    return torch.where(hidden, torch.nan, x)


def _uniform(x: Tensor) -> Tensor:
    """(B, 1, 1, 1) in [0, 1)."""
    return torch.rand(len(x), 1, 1, 1, dtype=x.dtype, device=x.device)


OF_SKELETONS: dict[str, Callable[..., Tensor]] = {
    "mirror": mirror,
    "jitter": jitter,
    "warp": warp,
    "rotate": rotate,
    "drop": drop,
}
