"""Masked convolutions: numbers of a pixel from the pixels above and to the left of it."""

from typing import cast

import torch
from torch import Tensor, nn

from pyro_gmmvae.networks.mlp import NetworkOptions


class MaskedConv(nn.Conv2d):
    """A 3 x 3 convolution of the pixels above and to the left, in the order of rows.

    Args:
        in_channels, out_channels: as for ``torch.nn.Conv2d``.
        with_center: whether the pixel itself is among its inputs.
    """

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, with_center: bool) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        mask = torch.zeros(3, 3)
        mask[0], mask[1, 0], mask[1, 1] = 1, 1, float(with_center)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.mask, self.bias)


class PixelCNN(nn.Module):
    """Images x (B, C, H, W) and features h (B, F, H, W) -> numbers of each pixel.

    Those of a pixel depend on h, and on the pixels of x before it: to the left in its row, and r
    rows above it to the left and at most r columns to the right, at most ``field`` rows and columns
    away. (Pixels farther to the right above it are the blind spot of such layers.) h is added
    behind the first layer.

    Args:
        in_channels, features, out_channels: C, F, and the number of numbers of a pixel.
        field: the number of masked layers, at least 1.
        options: of the activation.

    Reference:
        van den Oord, Kalchbrenner, Kavukcuoglu 2016, arXiv:1601.06759.
    """

    def __init__(
        self,
        in_channels: int,
        features: int,
        out_channels: int,
        *,
        field: int,
        options: NetworkOptions,
    ) -> None:
        super().__init__()
        self.first = MaskedConv(in_channels, features, with_center=False)
        self.layers = nn.ModuleList(
            nn.Sequential(
                options.new_activation(), MaskedConv(features, features, with_center=True)
            )
            for _ in range(field - 1)
        )
        self.last = nn.Sequential(options.new_activation(), nn.Conv2d(features, out_channels, 1))

    @property
    def field(self) -> int:
        """The farthest pixel that counts, in rows and columns."""
        return 1 + len(self.layers)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        a = cast("Tensor", self.first(x)) + h
        for layer in self.layers:
            a = a + layer(a)
        return self.last(a)
