"""Settings of a fit: its budget, learning rate and engine."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Record = dict[str, float]


class LossTerms(Protocol):
    """What an objective returns: a scalar to minimize and detached scalars to report."""

    loss: "Tensor"
    parts: "dict[str, Tensor]"


@dataclass(frozen=True)
class FitSettings:
    """Settings of a fit of any model.

    Attributes:
        epochs: passes over the rows; None where ``steps`` or ``minutes`` bounds the fit.
        steps: optimizer steps, rounded up to whole passes; instead of ``epochs``.
        minutes: wall-clock minutes, resumed ones included; the rate then decays over time.
        learning_rate: of Adam, at the start.
        decay: "cosine" (to 0 at the end) or "constant".
        weight_decay: decoupled from the gradient, as in AdamW.
        discriminator_rate: of the Adam of discriminators, as a multiple of ``learning_rate``.
        clip_norm: largest gradient norm; 0 leaves gradients alone.
        patience: stop after this many epochs without a better validation; 0 never stops.
        checkpoint_seconds: least time between two checkpoints.
        deterministic: demand deterministic kernels; TF32 is then off.
        tf32: let CUDA round the operands of products and convolutions to 10 bits of mantissa.
        engine: how loss and gradients are computed; see :mod:`pyro_gmmvae.training.engines`.
        precision: "f32", "bf16" (operands of matrix products are rounded) or "f64"; the
            module's parameters and the rows must be of its type.
        verify: compare a captured step with eager evaluation before it is used.
    """

    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 2e-3
    decay: str = "cosine"
    weight_decay: float = 0.0
    discriminator_rate: float = 1.0
    clip_norm: float = 200.0
    patience: int = 0
    checkpoint_seconds: float = 30.0
    deterministic: bool = False
    tf32: bool = False
    engine: str = "svi"
    precision: str = "f32"
    verify: bool = True

    def total_steps(self, steps_per_epoch: int) -> int | None:
        """The number of steps of a fit that is bounded by epochs or steps."""
        epochs = self.epochs
        if epochs is None and self.steps is not None:
            epochs = math.ceil(self.steps / max(1, steps_per_epoch))
        return None if epochs is None else epochs * steps_per_epoch

    def fraction(self, step: int, seconds: float, steps_per_epoch: int) -> float:
        """The part of the budget that is spent, 0 to 1 (the larger of steps' and minutes')."""
        spent = 0.0
        total = self.total_steps(steps_per_epoch)
        if total is not None:
            spent = step / max(1, total)
        if self.minutes is not None:
            spent = max(spent, seconds / (60 * self.minutes))
        return min(spent, 1.0)

    def rate(self, fraction: float) -> float:
        """Adam's learning rate once a fraction of the budget is spent."""
        if self.decay == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * fraction))
