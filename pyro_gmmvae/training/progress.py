"""Where a fit stands."""

import math
from dataclasses import dataclass, field

from pyro_gmmvae.training.settings import Record


@dataclass
class Progress:
    """Where a fit stands; everything here travels in a checkpoint."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    best_value: float = -math.inf
    best_epoch: int = 0
    history: list[Record] = field(default_factory=list)
