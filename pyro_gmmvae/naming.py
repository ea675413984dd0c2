"""Names for ``pyro.module`` that two models in one process never share."""

import itertools
from weakref import WeakKeyDictionary

import pyro
from torch import nn

_count = itertools.count()
_serials: "WeakKeyDictionary[nn.Module, int]" = WeakKeyDictionary()


def register(**modules: nn.Module) -> None:
    """Register each module with Pyro under its keyword and a number of its own.

    Pyro's parameter store is global and keyed by name: two models that both registered a
    "decoder" would silently train one set of parameters. The number belongs to the object,
    so copies get another one and no number is used twice.
    """
    for name, module in modules.items():
        serial = _serials.get(module)
        if serial is None:
            serial = _serials[module] = next(_count)
        pyro.module(f"{name}-{serial}", module)
