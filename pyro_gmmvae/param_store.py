"""Parameters without global state: names no two models share, and a store left alone."""

import itertools
import threading
from typing import Any
from weakref import WeakKeyDictionary

import pyro
from pyro.poutine.messenger import Messenger
from torch import nn


class _Depth(threading.local):
    depth = 0


_local = _Depth()
_count = itertools.count()
_serials: "WeakKeyDictionary[nn.Module, int]" = WeakKeyDictionary()


def register(**modules: nn.Module) -> None:
    """Register each module with Pyro under its keyword and a number of its own.

    Pyro's parameter store is global and keyed by name: two models that both registered a
    "decoder" would silently train one set of parameters. The number belongs to the object,
    so copies get another one and no number is used twice. Under :class:`LocalParams` there is
    no store to fill, and nothing is done.
    """
    if _local.depth:
        return
    for name, module in modules.items():
        serial = _serials.get(module)
        if serial is None:
            serial = _serials[module] = next(_count)
        pyro.module(f"{name}-{serial}", module)


class LocalParams(Messenger):
    """Answers every ``pyro.param`` with the tensor it was given.

    The modules themselves own the parameters here, so a fit neither fills Pyro's global
    store nor can be reached by another model's entries in it.
    """

    def __enter__(self) -> "LocalParams":
        _local.depth += 1
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        _local.depth -= 1
        super().__exit__(*exception)

    def _pyro_param(self, msg: Any) -> None:
        if len(msg["args"]) > 1:  # pyro.param(name, tensor), as pyro.module calls it
            msg["value"] = msg["args"][1]
            msg["done"] = True
