"""Fully connected networks, and the options and layers that all networks share."""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.errors import unknown_name
from pyro_gmmvae.networks import ACTIVATIONS
from pyro_gmmvae.networks.columns import ColumnInputs


@dataclass(frozen=True)
class NetworkOptions:
    """Sizes of the hidden layers, and the layers between them.

    Attributes:
        hidden: widths of an MLP's hidden layers.
        channels: channels of a convolutional network's layers, each of which halves the image.
        activation: a key of ``ACTIVATIONS``.
        batch_norm: normalize before each activation.
        dropout: probability of dropping a hidden unit, in [0, 1).
        input_noise: standard deviation of Gaussian noise added to the encoder's input while
            training, in units of x.
        skip: a linear path from the encoder's input to its output, parallel to the hidden layers.
        missing: x may hold NaN for missing entries; encoders get 0 for these, and a mask of the
            observed entries.
        edges: the joints that bones connect, for networks of skeletons.
        columns: of rows of a table, whose entries become inputs of a network by their kinds.
    """

    hidden: tuple[int, ...] = (256, 256)
    channels: tuple[int, ...] = (32, 64)
    activation: str = "relu"
    batch_norm: bool = False
    dropout: float = 0.0
    input_noise: float = 0.0
    skip: bool = False
    missing: bool = False
    edges: tuple[tuple[int, int], ...] = ()
    columns: tuple[Column, ...] = ()

    @property
    def copies(self) -> int:
        """Numbers that an encoder gets for each entry of x: with ``missing`` also the mask."""
        return 2 if self.missing else 1

    def new_activation(self) -> nn.Module:
        """A layer that applies the activation.

        Raises:
            GMMVAEError: an unknown name.
        """
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", self.activation, list(ACTIVATIONS))
        layer: nn.Module = getattr(nn, ACTIVATIONS[self.activation])()
        return layer

    def activate(self, norm: nn.Module) -> list[nn.Module]:
        """The layers after a linear or convolutional one: norm, activation, dropout as chosen."""
        layers: list[nn.Module] = [norm] if self.batch_norm else []
        layers.append(self.new_activation())
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        return layers


class MissingMask(nn.Module):
    """x with 0 for NaN, and the mask of observed entries (1, or 0), joined along an axis.

    The identity where no entry can be missing.
    """

    def __init__(self, missing: bool, axis: int = -1) -> None:
        super().__init__()
        self.missing, self.axis = missing, axis

    def forward(self, x: Tensor) -> Tensor:
        if not self.missing:
            return x
        is_missing = x.isnan()
        observed = (~is_missing).to(x.dtype)
        return torch.cat([torch.where(is_missing, 0.0, x), observed], self.axis)


class InputNoise(nn.Module):
    """Adds Normal(0, std^2) noise to its input while training; the identity in evaluation."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.std == 0:
            return x
        return x + self.std * torch.randn_like(x)

    def extra_repr(self) -> str:
        return f"std={self.std}"


NOISY = (InputNoise, nn.Dropout, ColumnInputs)


def without_noise(networks: nn.Module) -> AbstractContextManager[None]:
    """Switch input noise and dropout off within the block."""
    return _evaluating(networks, NOISY)


def as_in_evaluation(networks: nn.Module) -> AbstractContextManager[None]:
    """Switch noise off, and use the running statistics of batch norms, within the block."""
    return _evaluating(networks, (*NOISY, _BatchNorm))


@contextmanager
def _evaluating(networks: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[None]:
    modules = [m for m in networks.modules() if isinstance(m, kinds) and m.training]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module in modules:
            module.training = True


@contextmanager
def without_statistics(networks: nn.Module) -> Iterator[None]:
    """Leave running means and variances as they are; each batch is normalized by its own."""
    norms = [m for m in networks.modules() if isinstance(m, _BatchNorm) and m.training]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class Parallel(nn.Module):
    """The sum of two networks of the same input."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.other(x)


def hidden_layers(
    in_size: int, options: NetworkOptions, widths: Sequence[int]
) -> tuple[list[nn.Module], int]:
    """Hidden layers of these widths, and the width of the last one."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(in_size, width), *options.activate(nn.BatchNorm1d(width))]
        in_size = width
    return layers, in_size


def input_layers(x_shape: tuple[int, ...], options: NetworkOptions) -> tuple[list[nn.Module], int]:
    """The layers from rows (B, *x_shape) to the inputs of linear layers, and their number."""
    if options.columns:
        inputs = ColumnInputs(options.columns, options.input_noise)
        return [inputs], inputs.width
    layers = [nn.Flatten(), InputNoise(options.input_noise), MissingMask(options.missing)]
    return layers, options.copies * math.prod(x_shape)


class MLPEncoder(nn.Module):
    """x (B, *x_shape) -> features (B, out_size), ending in a linear layer.

    Args:
        x_shape: shape of one observation; it is flattened.
        out_size: number of features.
        options: hidden widths, activation, batch norm, dropout, input noise, skip, missing.
    """

    def __init__(self, x_shape: tuple[int, ...], out_size: int, options: NetworkOptions) -> None:
        super().__init__()
        before, in_size = input_layers(x_shape, options)
        layers, width = hidden_layers(in_size, options, options.hidden)
        if not options.skip:
            self.layers = nn.Sequential(*before, *layers, nn.Linear(width, out_size))
            return
        deep = nn.Sequential(*layers, nn.Linear(width, out_size))
        self.layers = nn.Sequential(*before, Parallel(deep, nn.Linear(in_size, out_size)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


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


class JointMLP(nn.Module):
    """Inputs (..., n_i), concatenated, through one hidden layer to outputs (..., out_i).

    The leading axes of the inputs broadcast.

    Args:
        in_sizes: sizes of the inputs.
        out_sizes: sizes of the outputs, one tensor each.
        options: width of the hidden layer (the last of ``hidden``), activation, batch norm,
            dropout.
    """

    def __init__(
        self,
        in_sizes: Sequence[int],
        out_sizes: Sequence[int],
        options: NetworkOptions,
    ) -> None:
        super().__init__()
        layers, width = hidden_layers(sum(in_sizes), options, options.hidden[-1:])
        self.out_sizes = list(out_sizes)
        self.layers = nn.Sequential(*layers, nn.Linear(width, sum(self.out_sizes)))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return apply_to_rows(self.layers, joined(*inputs)).split(self.out_sizes, -1)


def joined(*parts: Tensor) -> Tensor:
    """Concatenate (..., n_i) along the last axis, with the other axes broadcast.

    A class that is summed out has an axis of its own: (K, 1, K) next to (B, d).
    """
    # torch.broadcast_shapes imports SymPy, which takes half a second
    shape = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], -1)


def apply_to_rows(network: nn.Module, rows: Tensor) -> Tensor:
    """Apply a network of (B, n) to rows (..., n), with the leading axes flattened for it."""
    if rows.dim() == 2:
        return network(rows)
    flat = network(rows.reshape(-1, rows.shape[-1]))
    return flat.view(*rows.shape[:-1], *flat.shape[1:])
