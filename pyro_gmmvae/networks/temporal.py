"""Dilated convolutions over time, for windows of frames."""

import math

import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.networks.mlp import InputNoise, MissingMask, NetworkOptions


def _frames_and_features(x_shape: tuple[int, ...]) -> tuple[int, int]:
    if len(x_shape) < 2:
        raise GMMVAEError(
            f"the temporal network needs windows (frames, ...), not rows of shape {x_shape}; give "
            "statistics= (none), so that frames are kept, or use the mlp network"
        )
    return x_shape[0], math.prod(x_shape[1:])


def _dilated(
    in_size: int, widths: tuple[int, ...], options: NetworkOptions
) -> tuple[list[nn.Module], int]:
    """Convolutions over three frames, each twice as far apart as those before."""
    layers: list[nn.Module] = []
    for number, width in enumerate(widths):
        apart = 2**number
        layers += [nn.Conv1d(in_size, width, 3, padding=apart, dilation=apart)]
        layers += options.activate(nn.BatchNorm1d(width))
        in_size = width
    return layers, in_size


class TemporalEncoder(nn.Module):
    """Windows x (B, T, ...) -> features (B, out_size): dilated convolutions, mean over frames.

    Args:
        x_shape: (T, ...); all but the first axis are one frame's features.
        out_size: number of features.
        options: ``channels`` of the convolutions, activation, batch norm, dropout, ...

    Raises:
        GMMVAEError: rows without an axis of frames.

    Reference:
        Bai, Kolter, Koltun 2018, arXiv:1803.01271 (here not causal).
    """

    def __init__(self, x_shape: tuple[int, ...], out_size: int, options: NetworkOptions) -> None:
        super().__init__()
        _, size = _frames_and_features(x_shape)
        self.before = nn.Sequential(
            nn.Flatten(2), InputNoise(options.input_noise), MissingMask(options.missing)
        )
        layers, width = _dilated(options.copies * size, options.channels, options)
        self.layers = nn.Sequential(*layers)
        self.to_out = nn.Linear(width, out_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_out(self.layers(self.before(x).transpose(1, 2)).mean(-1))


class TemporalDecoder(nn.Module):
    """Latents (B, in_size) -> one parameter per entry of x, (B, T, ...).

    Each frame starts as a linear map of the latents plus an embedding of its position; dilated
    convolutions follow.
    """

    def __init__(self, in_size: int, x_shape: tuple[int, ...], options: NetworkOptions) -> None:
        super().__init__()
        self.x_shape = x_shape
        frames, size = _frames_and_features(x_shape)
        widths = options.channels[::-1]
        self.begin = nn.Linear(in_size, widths[0])
        self.place = nn.Parameter(0.1 * torch.randn(widths[0], frames))
        layers, width = _dilated(widths[0], widths, options)
        self.layers = nn.Sequential(*layers, nn.Conv1d(width, size, 1))

    def forward(self, latents: Tensor) -> Tensor:
        frames = self.begin(latents).unsqueeze(-1) + self.place
        return self.layers(frames).transpose(1, 2).reshape(-1, *self.x_shape)
