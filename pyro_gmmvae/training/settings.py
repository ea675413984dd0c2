"""How to fit."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Record = dict[str, float]


class LossTerms(Protocol):
    """What an objective returns: a scalar to minimise and detached scalars to report."""

    loss: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True)
class FitSettings:
    """How to fit, whatever the model.

    Attributes:
        epochs: passes over the rows; None where ``minutes`` bounds the fit.
        minutes: wall-clock minutes, resumed ones included; the rate then decays over time.
        learning_rate: of Adam, at the start.
        decay: "cosine" (to 0 at the end) or "constant".
        weight_decay: decoupled from the gradient, as in AdamW.
        clip_norm: largest gradient norm; 0 leaves gradients alone.
        patience: stop after this many epochs without a better validation; 0 never stops.
        checkpoint_seconds: least time between two checkpoints.
        deterministic: demand deterministic kernels.
        engine: how loss and gradients are computed; see :mod:`pyro_gmmvae.training.engines`.
        precision: "f32", "bf16" (operands of matrix products are rounded) or "f64"; the
            module's parameters and the rows must be of its type.
        verify: compare a captured step with eager evaluation before it is used.
    """

    epochs: int | None = None
    minutes: float | None = None
    learning_rate: float = 2e-3
    decay: str = "cosine"
    weight_decay: float = 0.0
    clip_norm: float = 200.0
    patience: int = 0
    checkpoint_seconds: float = 30.0
    deterministic: bool = False
    engine: str = "svi"
    precision: str = "f32"
    verify: bool = True
