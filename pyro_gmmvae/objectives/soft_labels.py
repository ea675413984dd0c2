"""Soft labels: rows whose label is a distribution over the classes."""

import torch
from torch import Tensor, nn


class SoftLabels(nn.Module):
    """Values of K numbers for each soft label of a fit.

    Among labels y, K + r stands for the soft label r. The values belong to the rows of a fit, and
    are not saved with the weights.

    Args:
        values: (R, K).
    """

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values, persistent=False)

    def forward(self, y: Tensor, others: Tensor) -> Tensor:
        """(B, K): the values of soft labels y (B,), and ``others`` (B, K) for all other rows."""
        K = self.values.shape[1]
        return torch.where((y >= K).unsqueeze(-1), self.values[(y - K).clamp_min(0)], others)

    def classes(self, y: Tensor) -> Tensor:
        """(B,) labels of one class; -1 for rows with a soft label."""
        return torch.where(y < self.values.shape[1], y, -1)


def softened(pi: Tensor, eps: float) -> Tensor:
    """Probabilities pi (R, K) with eps left to the classes other than a certain one.

    Each class gets at least eps / (K - 1), as the classes beside a label do.
    """
    K = pi.shape[-1]
    return pi.lerp(torch.full_like(pi, 1 / K), min(1.0, eps * K / max(1, K - 1)))
