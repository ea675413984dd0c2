"""Parameters without global state: unique names, and programs that leave Pyro's store alone."""

import itertools
import threading
from typing import Any
from weakref import WeakKeyDictionary

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import nn

from pyro_gmmvae.errors import GMMVAEError


class _Depth(threading.local):
    depth = 0


_local = _Depth()
_count = itertools.count()
_serials: "WeakKeyDictionary[nn.Module, int]" = WeakKeyDictionary()


def register(**modules: nn.Module) -> None:
    """Register each module with Pyro under its keyword and a number that no other module has.

    Pyro's parameter store is global and keyed by name: two models that both register a "decoder"
    would silently train one set of parameters. The number belongs to the object, so a copy gets
    another number, and no number is used twice. Under :class:`LocalParams` this does nothing,
    because there is no store to fill.
    """
    if _local.depth:
        return
    for name, module in modules.items():
        serial = _serials.get(module)
        if serial is None:
            serial = _serials[module] = next(_count)
        pyro.module(f"{name}-{serial}", module)


def refuse_plain_svi(model: nn.Module, simpler: str) -> None:
    """Refuse a training step of ``pyro.infer.SVI``, which does not fit a discriminator.

    Args:
        model: of the program that runs.
        simpler: the model without a discriminator.

    Raises:
        GMMVAEError: the model is in training mode, and runs with gradients outside of an objective
            of this package.
    """
    if model.training and torch.is_grad_enabled() and not _local.depth:
        name = type(model).__name__
        raise GMMVAEError(
            f"{name} is fitted with a discriminator, which is a term of the objective, and "
            f"pyro.infer.SVI has none; use 'gmmvae train', or {simpler}"
        )


class LocalParams(Messenger):
    """Returns from every ``pyro.param`` the tensor that was passed to it.

    The modules own the parameters, so a fit does not fill Pyro's global store, and entries of
    other models in the store do not affect it.
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
