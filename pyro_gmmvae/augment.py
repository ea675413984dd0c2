"""Augmentation of rows on the device they live on, before a step."""

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from pyro_gmmvae.data.augment_tables import OF_TABLES
from pyro_gmmvae.errors import GMMVAEError, unknown_name
from pyro_gmmvae.skeletons.pose_augment import OF_SKELETONS, Body

Augmentation = Callable[[Tensor], Tensor]

DEGREES, SCALE, SHEAR, SHIFT = 15.0, 0.15, 0.15, 1 / 14


def affine(x: Tensor) -> Tensor:
    """Each image turned, scaled, sheared and shifted by its own random amounts.

    Uniform in +-15 degrees, +-15 % scale and shear, and shifts of +-1/14 of the image's size (2
    pixels of MNIST's 28); bilinear, zeros outside.
    Prior knowledge about images: with it a model is no longer permutation-invariant.

    Args:
        x: (B, C, H, W).

    Returns:
        Of the same shape, in the same range.

    Raises:
        GMMVAEError: rows that are no images.
    """
    if x.dim() != 4:
        raise GMMVAEError(
            "augment=affine turns images (channels, height, width), not rows of shape "
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
    # what mixes the axes has to undo
    rows = [
        torch.stack([scale_x * cos, (shear - sin) * height / width, 2 * SHIFT * shift_x], -1),
        torch.stack([(shear + sin) * width / height, scale_y * cos, 2 * SHIFT * shift_y], -1),
    ]
    grid = torch.nn.functional.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return torch.nn.functional.grid_sample(x, grid, align_corners=False)


OF_IMAGES: dict[str, Callable[[Tensor], Tensor]] = {"affine": affine}

OF_KINDS: dict[str, dict[str, Callable[..., Tensor]]] = {
    "images": OF_IMAGES,
    "skeletons": OF_SKELETONS,
    "plain numbers": OF_TABLES,
}
AUTO = {"images": "affine", "skeletons": "mirror,jitter,warp", "plain numbers": "noise,dropout"}
AUGMENTATIONS = ("auto", *(name for kind in OF_KINDS.values() for name in kind))


def _kind_of_rows(x_shape: tuple[int, ...], body: Body | None) -> str:
    """A key of ``OF_KINDS``."""
    if body is not None:
        return "skeletons"
    return "images" if len(x_shape) == 3 else "plain numbers"


def augmentation(
    names: str | None, x_shape: tuple[int, ...], body: Body | None = None
) -> Augmentation | None:
    """What some names, separated by commas, do to rows one after the other; None: nothing.

    Args:
        names: of what is in ``OF_KINDS`` for this kind of rows, or "auto": what suits them.
        x_shape: of one row.
        body: of the skeletons; None where rows are none.

    Raises:
        GMMVAEError: an unknown name, or one that rows of this kind can't take.
    """
    kind = _kind_of_rows(x_shape, body)
    text = AUTO[kind] if names == "auto" else names or ""
    steps: list[Augmentation] = []
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name not in AUGMENTATIONS:
            raise unknown_name("augmentation", name, list(AUGMENTATIONS))
        if name not in OF_KINDS[kind]:
            raise GMMVAEError(
                f"augment={name}: the rows are {kind}, for which there is "
                f"{', '.join(OF_KINDS[kind])} (augment=auto takes what suits)"
            )
        step = OF_KINDS[kind][name]
        steps.append(step if body is None else functools.partial(step, body=body))
    return functools.partial(_in_turn, steps) if steps else None


def _in_turn(steps: list[Augmentation], x: Tensor) -> Tensor:
    for step in steps:
        x = step(x)
    return x
