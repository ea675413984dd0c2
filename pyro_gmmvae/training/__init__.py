"""The training loop for any model: batches, engines, checkpoints, pseudo-labels, loggers."""

from typing import TYPE_CHECKING

from pyro_gmmvae.lazy import lazy_names

if TYPE_CHECKING:
    from pyro_gmmvae.training.batches import Batches, Preprocessing
    from pyro_gmmvae.training.callbacks import Callback
    from pyro_gmmvae.training.capture import CaptureError
    from pyro_gmmvae.training.devices import resolve_device
    from pyro_gmmvae.training.engines import ENGINES
    from pyro_gmmvae.training.fit_state import FitState
    from pyro_gmmvae.training.loop import Fit
    from pyro_gmmvae.training.optimizer import NonFiniteError
    from pyro_gmmvae.training.precision import PRECISIONS, check_precision
    from pyro_gmmvae.training.pseudo_labels import PseudoLabeler, SequencePseudoLabeler
    from pyro_gmmvae.training.settings import FitSettings
else:
    __getattr__, __dir__ = lazy_names(__name__)

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
    "resolve_device",
]
