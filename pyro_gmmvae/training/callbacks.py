"""Callbacks of a fit."""

from collections.abc import Sequence

from pyro_gmmvae.errors import GMMVAEError


class Callback:
    """Reacts to the progress of a fit; subclasses override the methods that they need.

    An exception ends the fit; its last checkpoint stays, and ``on_end`` is not called.
    """

    def on_start(self, about: str) -> None:
        """Called before the first epoch, with each line on the fit: its data, its engine."""

    def on_step(self, progress: float) -> None:
        """Called after each step; ``progress`` goes from 0 to 1 over the whole fit."""

    def on_epoch(self, record: dict[str, float]) -> None:
        """Called after each epoch, with its row of the history."""

    def on_end(self, outcome: str) -> None:
        """Called once, with "complete", "early-stopped" or the name of the signal."""

    def close(self) -> None:
        """Close files, threads and connections; called however a run ends, perhaps twice."""


def checked(callbacks: Sequence[Callback]) -> Sequence[Callback]:
    """Check that each callback is an object of :class:`Callback`.

    Raises:
        GMMVAEError: an object is not a Callback; the message names its class.
    """
    for callback in callbacks:
        if isinstance(callback, type):
            raise GMMVAEError(
                f"the callback {callback.__name__} is a class; give an object of it: "
                f"{callback.__name__}()"
            )
        if not isinstance(callback, Callback):
            raise GMMVAEError(
                f"the callback {callback!r} is not a Callback; make its class "
                f"{type(callback).__name__} a subclass of pyro_gmmvae.training.Callback"
            )
    return callbacks
