"""Networks of several inputs at once, whose leading axes broadcast."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_gmmvae.networks.mlp import hidden_layers
from pyro_gmmvae.networks.options import NetworkOptions


def joined(*parts: Tensor) -> Tensor:
    """Concatenate (..., n_i) along the last axis, the other axes broadcast.

    A class that is summed out brings an axis of its own: (K, 1, K) beside (B, d).
    """
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], -1)


def apply_to_rows(network: nn.Module, rows: Tensor) -> Tensor:
    """A network of (B, n) on rows (..., n): leading axes are flattened for it and put back."""
    if rows.dim() == 2:
        return network(rows)
    flat = network(rows.reshape(-1, rows.shape[-1]))
    return flat.view(*rows.shape[:-1], *flat.shape[1:])


class JointMLP(nn.Module):
    """Inputs (..., n_i), concatenated, through one hidden layer to outputs (..., out_i).

    Args:
        in_sizes: sizes of the inputs.
        out_sizes: sizes of the outputs; as many tensors come out.
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
