"""Augmentation of images and of rows of plain numbers, on the device that holds them."""

import math
from typing import TYPE_CHECKING

from pyro_gmmvae.errors import GMMVAEError

if TYPE_CHECKING:
    from torch import Tensor

DEGREES, SCALE, SHEAR, SHIFT = 15.0, 0.15, 0.15, 1 / 14
NOISE, DROPOUT = 0.3, 0.2
MOST_HIDDEN, SWAPPED = 0.8, 0.2


def affine(x: "Tensor", missing: bool = False) -> "Tensor":
    """Rotate, scale, shear and shift each image by its own random amounts.

    Uniform in +-15 degrees, +-15 % scale and shear, and shifts of +-1/14 of the image's size (2
    pixels of MNIST's 28); bilinear, zeros outside.
    Prior knowledge about images: with it a model is no longer permutation-invariant.

    Args:
        x: (B, C, H, W).
        missing: pixels may be NaN. A new pixel is NaN where more than half of its weight falls on
            such ones; else it is the mean of the others.

    Returns:
        Of the same shape, in the same range.

    Raises:
        GMMVAEError: rows that are not images.
    """
    import torch

    if x.dim() != 4:
        raise GMMVAEError(
            "augment=affine changes images (channels, height, width), not rows of shape "
            f"{tuple(x.shape[1:])}; leave augment out"
        )
    angle, scale_x, scale_y, shear, shift_x, shift_y = (
        torch.rand(6, len(x), dtype=x.dtype, device=x.device).mul_(2).sub_(1)
    )
    angle = angle * math.radians(DEGREES)
    cos, sin = angle.cos(), angle.sin()
    scale_x, scale_y, shear = 1 + SCALE * scale_x, 1 + SCALE * scale_y, SHEAR * shear
    height, width = x.shape[-2:]
    # grid coordinates go from -1 to 1 over the image: its size is 2 along both axes, which
    # terms that mix the axes have to undo
    rows = [
        torch.stack([scale_x * cos, (shear - sin) * height / width, 2 * SHIFT * shift_x], -1),
        torch.stack([(shear + sin) * width / height, scale_y * cos, 2 * SHIFT * shift_y], -1),
    ]
    grid = torch.nn.functional.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    if not missing:
        return torch.nn.functional.grid_sample(x, grid, align_corners=False)
    unknown = x.isnan()
    both = torch.cat([torch.where(unknown, 0.0, x), unknown.to(x.dtype)], 1)
    values, share = torch.nn.functional.grid_sample(both, grid, align_corners=False).chunk(2, 1)
    return torch.where(share > 0.5, math.nan, values / (1 - share).clamp_min(0.5))


def noise(x: "Tensor") -> "Tensor":
    """Add normal noise to every standardized entry, 0.3 of its standard deviation."""
    import torch

    return x + NOISE * torch.randn_like(x)


def dropout(x: "Tensor") -> "Tensor":
    """Set a fifth of the standardized entries to their mean, 0; a missing one stays missing."""
    import torch

    return torch.where((torch.rand_like(x) < DROPOUT) & ~x.isnan(), 0.0, x)


def gaps(x: "Tensor") -> "Tensor":
    """Make a fifth of the cells missing (NaN)."""
    import torch

    return torch.where(torch.rand_like(x) < DROPOUT, torch.nan, x)


def hide(x: "Tensor") -> "Tensor":
    """Make cells missing (NaN), of each row a random share of up to 80 %."""
    import torch

    share = MOST_HIDDEN * torch.rand(len(x), 1, dtype=x.dtype, device=x.device)
    return torch.where(torch.rand_like(x) < share, torch.nan, x)


def swap(x: "Tensor") -> "Tensor":
    """Take a fifth of the cells from another row of the batch (Bahri et al. 2022, SCARF)."""
    import torch

    return torch.where(torch.rand_like(x) < SWAPPED, x.roll(1, 0), x)
