"""Inference: a loop that knows no model, its batches, schedules and checkpoints."""

from pyro_gmmvae.training.batches import Batches
from pyro_gmmvae.training.callbacks import Callback, StepCallback
from pyro_gmmvae.training.devices import resolve_device
from pyro_gmmvae.training.engines import ENGINES
from pyro_gmmvae.training.graph import CaptureError
from pyro_gmmvae.training.loop import Fit
from pyro_gmmvae.training.nonfinite import NonFiniteError
from pyro_gmmvae.training.precision import PRECISIONS, check_precision, dtype_of
from pyro_gmmvae.training.pseudo_labels import Teacher
from pyro_gmmvae.training.sequence_pseudo_labels import SequenceTeacher
from pyro_gmmvae.training.settings import FitSettings

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "Batches",
    "Callback",
    "CaptureError",
    "Fit",
    "FitSettings",
    "NonFiniteError",
    "SequenceTeacher",
    "StepCallback",
    "Teacher",
    "check_precision",
    "dtype_of",
    "resolve_device",
]
