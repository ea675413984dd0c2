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
        skip: a linear path from the encoder's input to its output, beside the hidden layers.
        missing: x may hold NaN, which stands for entries that are not known; encoders see 0
            there, and which entries are known.
        edges: the joints that bones connect, for networks of skeletons.
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

    @property
    def copies(self) -> int:
        """How many numbers an encoder gets for each entry of x."""
        return 2 if self.missing else 1

    def activate(self, norm: nn.Module) -> list[nn.Module]:
        """The layers after a linear or convolution: norm, activation, dropout as chosen."""
        layers: list[nn.Module] = [norm] if self.batch_norm else []
        layers.append(ACTIVATIONS[self.activation]())
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        return layers


class Known(nn.Module):
    """x with 0 for NaN, and 1 where x is known, 0 where not, joined along an axis.

    The identity where nothing can be missing.
    """

    def __init__(self, missing: bool, axis: int = -1) -> None:
        super().__init__()
        self.missing, self.axis = missing, axis

    def forward(self, x: Tensor) -> Tensor:
        if not self.missing:
            return x
        unknown = x.isnan()
        return torch.cat([torch.where(unknown, 0.0, x), (~unknown).to(x.dtype)], self.axis)


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
