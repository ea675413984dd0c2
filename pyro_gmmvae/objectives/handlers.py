"""Effect handlers the objectives run programs under."""

from collections.abc import Mapping
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor


class SiteWeights(Messenger):
    """Scales the log-density of the named sites, each by a tensor (0 allowed).

    ``poutine.scale`` refuses 0 and looks at a tensor's value, which a warm-up that starts at
    0 and a captured graph cannot have.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.weights = weights

    def _pyro_sample(self, msg: Any) -> None:
        weight = self.weights.get(msg["name"])
        if weight is not None:
            msg["scale"] = msg["scale"] * weight
