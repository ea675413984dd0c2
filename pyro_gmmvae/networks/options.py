"""What every network is told besides its sizes, and the layers that follow from it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


@dataclass(frozen=True)
class NetworkOptions:
    """Sizes of the hidden layers and what stands between them.

    Attributes:
        hidden: widths of an MLP's hidden layers.
        channels: channels of a conv net's layers, each of which halves the image.
        activation: a key of ``ACTIVATIONS``.
        batch_norm: normalize before each activation.
        dropout: probability of dropping a hidden unit, in [0, 1).
        input_noise: standard deviation of Gaussian noise added to the encoder's input while
            training, in units of x.
    """

    hidden: tuple[int, ...] = (256, 256)
    channels: tuple[int, ...] = (32, 64)
    activation: str = "relu"
    batch_norm: bool = False
    dropout: float = 0.0
    input_noise: float = 0.0

    def activate(self, norm: nn.Module) -> list[nn.Module]:
        """The layers after a linear or convolution: norm, activation, dropout as chosen."""
        layers: list[nn.Module] = [norm] if self.batch_norm else []
        layers.append(ACTIVATIONS[self.activation]())
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        return layers


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
