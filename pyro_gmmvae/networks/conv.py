"""Small convolutional encoder and decoder for images."""

import math

from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.networks.mlp import InputNoise, MissingMask, NetworkOptions


def _grid_after(x_shape: tuple[int, ...], layers: int) -> list[tuple[int, int]]:
    """Heights and widths before the first and after each halving convolution."""
    if len(x_shape) != 3:
        raise GMMVAEError(
            f"the conv network needs images (channels, height, width), not rows of shape "
            f"{x_shape}; use the mlp network"
        )
    sizes = [(x_shape[1], x_shape[2])]
    for _ in range(layers):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


class ConvEncoder(nn.Module):
    """Images x (B, C, H, W) -> features (B, out_size).

    Each convolution (3 x 3, stride 2) halves the image; a linear hidden layer of
    ``options.hidden[0]`` units and a linear output follow.

    Raises:
        GMMVAEError: ``x_shape`` is not the shape of an image.
    """

    def __init__(self, x_shape: tuple[int, ...], out_size: int, options: NetworkOptions) -> None:
        super().__init__()
        height, width = _grid_after(x_shape, len(options.channels))[-1]
        layers: list[nn.Module] = [InputNoise(options.input_noise), MissingMask(options.missing, 1)]
        channels = options.copies * x_shape[0]
        for out in options.channels:
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1)]
            layers += options.activate(nn.BatchNorm2d(out))
            channels = out
        top = options.hidden[0]
        layers += [nn.Flatten(), nn.Linear(channels * height * width, top)]
        layers += options.activate(nn.BatchNorm1d(top))
        self.layers = nn.Sequential(*layers, nn.Linear(top, out_size))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ConvDecoder(nn.Module):
    """Latents (B, in_size) -> one parameter per pixel, (B, C, H, W): the encoder mirrored."""

    def __init__(self, in_size: int, x_shape: tuple[int, ...], options: NetworkOptions) -> None:
        super().__init__()
        sizes = _grid_after(x_shape, len(options.channels))[::-1]
        channels = options.channels[::-1]
        top = options.hidden[0]
        grid = (channels[0], *sizes[0])
        layers: list[nn.Module] = [nn.Linear(in_size, top)]
        layers += options.activate(nn.BatchNorm1d(top))
        layers += [nn.Linear(top, math.prod(grid)), nn.Unflatten(1, grid)]
        for i, out in enumerate((*channels[1:], x_shape[0])):
            (height, width), last = sizes[i + 1], i == len(channels) - 1
            # output_padding restores odd sizes
            padding = ((height + 1) % 2, (width + 1) % 2)
            layers += options.activate(nn.BatchNorm2d(channels[i])) if i == 0 else []
            layers += [
                nn.ConvTranspose2d(channels[i], out, 3, stride=2, padding=1, output_padding=padding)
            ]
            layers += [] if last else options.activate(nn.BatchNorm2d(out))
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents)
