"""The training loop of any model: batches, schedules, engines, checkpoints.

Imported lazily, so that a name of this package costs no import of torch before it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_gmmvae.training.batches import Batches, Preprocessing
    from pyro_gmmvae.training.callbacks import Callback
    from pyro_gmmvae.training.capture import CaptureError
    from pyro_gmmvae.training.devices import resolve_device
    from pyro_gmmvae.training.engines import ENGINES
    from pyro_gmmvae.training.fit_state import FitState
    from pyro_gmmvae.training.loop import Fit
    from pyro_gmmvae.training.optimizer import NonFiniteError
    from pyro_gmmvae.training.precision import PRECISIONS, check_precision, dtype_of
    from pyro_gmmvae.training.pseudo_labels import PseudoLabeler, SequencePseudoLabeler
    from pyro_gmmvae.training.settings import FitSettings

_MODULES = {
    "batches": ("Batches", "Preprocessing"),
    "callbacks": ("Callback",),
    "capture": ("CaptureError",),
    "devices": ("resolve_device",),
    "engines": ("ENGINES",),
    "fit_state": ("FitState",),
    "loop": ("Fit",),
    "optimizer": ("NonFiniteError",),
    "precision": ("PRECISIONS", "check_precision", "dtype_of"),
    "pseudo_labels": ("PseudoLabeler", "SequencePseudoLabeler"),
    "settings": ("FitSettings",),
}

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "Batches",
    "Callback",
    "CaptureError",
    "Fit",
    "FitSettings",
    "FitState",
    "NonFiniteError",
    "Preprocessing",
    "PseudoLabeler",
    "SequencePseudoLabeler",
    "check_precision",
    "dtype_of",
    "resolve_device",
]


def __getattr__(name: str) -> Any:
    import importlib

    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
