"""Fully connected encoder and decoder."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from pyro_gmmvae.networks.options import InputNoise, Known, NetworkOptions


def hidden_layers(
    in_size: int, options: NetworkOptions, widths: Sequence[int]
) -> tuple[list[nn.Module], int]:
    """Hidden layers of these widths, and the width they end with."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(in_size, width), *options.activate(nn.BatchNorm1d(width))]
        in_size = width
    return layers, in_size


class MLPEncoder(nn.Module):
    """x (B, *x_shape) -> features (B, out_size), ending in a linear layer.

    Args:
        x_shape: shape of one observation; it is flattened.
        out_size: how many features come out.
        options: hidden widths, activation, batch norm, dropout, input noise, skip, missing.
    """

    def __init__(self, x_shape: tuple[int, ...], out_size: int, options: NetworkOptions) -> None:
        super().__init__()
        in_size = options.copies * math.prod(x_shape)
        layers, width = hidden_layers(in_size, options, options.hidden)
        before = (nn.Flatten(), InputNoise(options.input_noise), Known(options.missing))
        if not options.skip:
            self.layers = nn.Sequential(*before, *layers, nn.Linear(width, out_size))
            return
        deep = nn.Sequential(*layers, nn.Linear(width, out_size))
        self.layers = nn.Sequential(*before, Beside(deep, nn.Linear(in_size, out_size)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Beside(nn.Module):
    """The sum of two networks of the same input."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


class MLPDecoder(nn.Module):
    """Latents (B, in_size) -> one parameter per entry of x, (B, *x_shape), unconstrained."""

    def __init__(self, in_size: int, x_shape: tuple[int, ...], options: NetworkOptions) -> None:
        super().__init__()
        layers, width = hidden_layers(in_size, options, options.hidden)
        self.layers = nn.Sequential(
            *layers, nn.Linear(width, math.prod(x_shape)), nn.Unflatten(1, x_shape)
        )

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents)
