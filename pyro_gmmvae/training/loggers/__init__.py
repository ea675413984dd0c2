"""Logs of a fit beside its ``history.csv``: each a callback of three methods that can be closed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pyro_gmmvae.errors import unknown_name
from pyro_gmmvae.training.loggers.base import Logger, tagged
from pyro_gmmvae.training.loggers.mlflow import MLflowLogger
from pyro_gmmvae.training.loggers.tensorboard import TensorBoardLogger

LOGGERS: dict[str, type[Logger]] = {"tensorboard": TensorBoardLogger, "mlflow": MLflowLogger}

__all__ = ["LOGGERS", "Logger", "build_loggers", "closing", "tagged"]


def build_loggers(names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> list[Logger]:
    """A logger for each name, which has written nothing yet.

    Args:
        names: keys of :data:`LOGGERS`.
        folder: of the run.
        config: keys and plain values that the run was made from.

    Raises:
        GMMVAEError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise unknown_name("log", name, list(LOGGERS))
    return [LOGGERS[name](folder, config) for name in dict.fromkeys(names)]


@contextmanager
def closing(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close the loggers at the end of the block, whatever ends it."""
    with ExitStack() as stack:
        for logger in loggers:
            stack.callback(logger.close)
        yield
