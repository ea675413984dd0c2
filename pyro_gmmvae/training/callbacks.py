"""Who hears of a fit."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training.settings import Record

METHODS = ("on_start", "on_epoch", "on_end")


class Callback(Protocol):
    """Hears of a fit's progress.

    What it raises ends the fit, of which the last checkpoint stays; ``on_end`` is not called then.
    """

    def on_start(self, about: str) -> None:
        """Before the first epoch, with each line on what is fitted: the data, then the engine."""

    def on_epoch(self, record: Record) -> None:
        """After each epoch, with its row of the history."""

    def on_end(self, outcome: str) -> None:
        """Once, with "complete", "early-stopped" or the name of the signal that stopped it."""


@runtime_checkable
class StepCallback(Callback, Protocol):
    """A callback that hears of each step, too."""

    def on_step(self, progress: float) -> None:
        """After each step; progress goes from 0 to 1 over the whole fit."""


def checked(callbacks: Sequence[Callback]) -> Sequence[Callback]:
    """The callbacks, each of which has its three methods.

    Raises:
        GMMVAEError: naming the class and what it lacks.
    """
    for callback in callbacks:
        if isinstance(callback, type):
            raise GMMVAEError(f"the callback {callback.__name__} is a class; give an object of it")
        lacks = [m for m in METHODS if not callable(getattr(callback, m, None))]
        if lacks:
            raise GMMVAEError(
                f"the callback {type(callback).__name__} has no {', '.join(lacks)}; a callback "
                f"has {', '.join(METHODS)}"
            )
    return callbacks
