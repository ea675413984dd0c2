"""Ranges of configuration keys that are worth tuning."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyro_gmmvae.errors import GMMVAEError


def label(option: Any) -> str:
    """One option of a choice as text."""
    if isinstance(option, tuple | list):
        return ("+" if any(isinstance(part, str) for part in option) else "x").join(
            map(label, option)
        )
    return str(option).lower() if isinstance(option, bool | None) else str(option)


def _check_range(low: float, high: float, log: bool) -> None:
    text = f"{low:g}:{high:g}"
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise GMMVAEError(f"a range goes up from a number to a larger one, not {text}")
    if log and low <= 0:
        raise GMMVAEError(f"a logarithmic range must begin above 0, not {text}")


@dataclass(frozen=True)
class Real:
    """A number from ``low`` to ``high``, both included; with ``log`` searched by its logarithm.

    Raises:
        GMMVAEError: a range that is empty or infinite, or a logarithm of what is not positive.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}" + (":log" if self.log else "")


@dataclass(frozen=True)
class Whole:
    """A whole number from ``low`` to ``high``, both included; ``log`` as for :class:`Real`.

    Raises:
        GMMVAEError: as for :class:`Real`.
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)

    def __str__(self) -> str:
        return f"{self.low}:{self.high}" + (":log" if self.log else "")


@dataclass(frozen=True)
class Choice:
    """One of several values of a key, without an order.

    Raises:
        GMMVAEError: fewer than two options, or one that is listed twice.
    """

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.options) < 2 or len(set(self.labels)) < len(self.options):
            raise GMMVAEError(f"a choice needs two different options or more, not {self}")

    @property
    def labels(self) -> tuple[str, ...]:
        """The options as text, as ``--search`` takes them: widths joined by x, names by +."""
        return tuple(label(option) for option in self.options)

    def __str__(self) -> str:
        return ",".join(self.labels)


Dimension = Real | Whole | Choice
SearchSpace = Mapping[str, Dimension]
