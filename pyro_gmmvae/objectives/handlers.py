"""Effect handlers the objectives run programs under."""

from collections.abc import Mapping
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor


class LocalParams(Messenger):
    """Answers every ``pyro.param`` with the tensor it was given.

    The modules themselves own the parameters here, so a fit neither fills Pyro's global
    store nor can be reached by another model's entries in it.
    """

    def _pyro_param(self, msg: Any) -> None:
        if len(msg["args"]) > 1:  # pyro.param(name, tensor), as pyro.module calls it
            msg["value"] = msg["args"][1]
            msg["done"] = True


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
