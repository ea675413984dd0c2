"""What all loggers share: the protocol, the names of their numbers, and how they fail."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from pyro_gmmvae.errors import GMMVAEError

OF_SCHEDULE = ("epoch", "learning_rate", "seconds")


class Logger(Protocol):
    """A callback of a run folder and a config, which opens nothing before it is told something.

    Where it can't be written it raises :class:`GMMVAEError`, which ends the fit.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None: ...

    def on_start(self, about: str) -> None:
        """With each line on what is fitted."""

    def on_epoch(self, record: dict[str, float]) -> None:
        """With each row of the history; a step that is there already is not there twice."""

    def on_end(self, outcome: str) -> None:
        """With the word on how the fit ended."""

    def close(self) -> None:
        """Leave no file, thread or connection open; harmless where none is, and twice."""


def tagged(record: Mapping[str, float]) -> dict[str, float]:
    """A row of the history under train/, val/ and schedule/, without its step.

    >>> tagged({"step": 15, "loss": 2.5, "val_elbo": -3.0, "learning_rate": 0.1})
    {'train/loss': 2.5, 'val/elbo': -3.0, 'schedule/learning_rate': 0.1}
    """
    return {_tag(name): float(value) for name, value in record.items() if name != "step"}


def _tag(name: str) -> str:
    if name in OF_SCHEDULE:
        return f"schedule/{name}"
    return f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}"


@contextmanager
def named(what: str) -> Iterator[None]:
    """Say in one sentence which log failed; a library's own errors are of many kinds."""
    try:
        yield
    except GMMVAEError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise GMMVAEError(
            f"can't log to {what}: {reason}; mend that, or leave the log out (--log none)"
        ) from error
