"""Inference: a loop that knows no model, its batches, schedules and checkpoints."""

from pyro_gmmvae.inference.augment import AUGMENTATIONS, augmentation
from pyro_gmmvae.inference.augment_skeletons import Body
from pyro_gmmvae.inference.batches import Batches
from pyro_gmmvae.inference.callbacks import Callback, StepCallback
from pyro_gmmvae.inference.devices import resolve_device
from pyro_gmmvae.inference.engines import ENGINES
from pyro_gmmvae.inference.graph import CaptureError
from pyro_gmmvae.inference.nonfinite import NonFiniteError
from pyro_gmmvae.inference.precision import PRECISIONS, check_precision, dtype_of
from pyro_gmmvae.inference.schedules import Schedule
from pyro_gmmvae.inference.sequence_teacher import SequenceTeacher
from pyro_gmmvae.inference.settings import FitSettings
from pyro_gmmvae.inference.svi import Fit
from pyro_gmmvae.inference.teacher import Teacher

__all__ = [
    "AUGMENTATIONS",
    "ENGINES",
    "PRECISIONS",
    "Batches",
    "Body",
    "Callback",
    "CaptureError",
    "Fit",
    "FitSettings",
    "NonFiniteError",
    "Schedule",
    "SequenceTeacher",
    "StepCallback",
    "Teacher",
    "augmentation",
    "check_precision",
    "dtype_of",
    "resolve_device",
]
