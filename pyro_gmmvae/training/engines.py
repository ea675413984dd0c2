"""Engines: ways to compute a step's loss and gradients, and the choice for a budget."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from pyro_gmmvae.errors import unknown_name
from pyro_gmmvae.training.capture import CapturedStep, CaptureError, CompileError

ENGINES = ("auto", "svi", "captured", "compiled", "batched")

STEPS_TO_CAPTURE = 400
"""From here on the capture, about a second, pays off: it saves some milliseconds a step."""

STEPS_TO_COMPILE = 20_000
"""From here on a compilation pays off: half a minute the first time."""

MINUTES_TO_COMPILE = 5.0

Example = tuple[Tensor, ...]


@dataclass(frozen=True)
class SharedGraphs:
    """Graphs of several fits of one program: the first fit captures them for all.

    Attributes:
        fits: how many there are.
        graphs: of a step, by the tensors of the fits.
    """

    fits: int
    graphs: dict[Any, Any] = field(default_factory=dict)


_SHARED: ContextVar[SharedGraphs | None] = ContextVar("shared", default=None)


@contextmanager
def shared_graphs(fits: int) -> Iterator[None]:
    """Within the block, fits of the same program, data and configuration share their graphs.

    They may differ in their seeds.

    Args:
        fits: how many there will be; the choice of an engine counts the steps of all.
    """
    token = _SHARED.set(SharedGraphs(fits))
    try:
        yield
    finally:
        _SHARED.reset(token)


class Engine(Protocol):
    """Evaluates the objective on a batch and leaves the gradients in ``grad``."""

    def __call__(self, *batch: Tensor) -> Any: ...

    def refresh(self) -> None:
        """Called at each epoch's start: a buffer may have been replaced."""


class EagerStep:
    """Runs model and guide under Pyro's handlers, then backward, as ``pyro.infer.SVI`` does."""

    def __init__(self, objective: Callable[..., Any], module: nn.Module) -> None:
        self.objective, self.module = objective, module
        self.refresh()

    def refresh(self) -> None:
        own = self.objective.parameters() if isinstance(self.objective, nn.Module) else ()
        self._parameters = [*self.module.parameters(), *own]

    def __call__(self, *batch: Tensor) -> Any:
        terms = self.objective(*batch)
        for parameter in self._parameters:
            parameter.grad = None
        terms.loss.backward()
        return terms


def choose(steps: int | None, minutes: float | None) -> tuple[str, str]:
    """The engine that pays off for a budget, and the reason in words.

    The rule depends on the budget and not on the clock, so that a fit that is stopped and
    resumed computes the same bits as one that is not.
    """
    if minutes is not None and (steps is None or steps >= STEPS_TO_COMPILE):
        name = "compiled" if minutes >= MINUTES_TO_COMPILE else "captured"
        return name, f"for {minutes:g} minutes"
    steps = steps or 0
    if steps < STEPS_TO_CAPTURE:
        return "svi", f"{steps} steps are too few for a capture to pay off"
    if steps < STEPS_TO_COMPILE:
        return "captured", f"{steps} steps are too few for compilation to pay off"
    return "compiled", f"for {steps} steps"


def build_engine(
    name: str,
    objective: Callable[..., Any],
    module: nn.Module,
    examples: Sequence[Example],
    *,
    steps: int | None,
    minutes: float | None,
    verify: bool,
    compiled_tolerance: float | None = None,
    fall_back: bool,
    log: Callable[[str], None] = lambda line: None,  # noqa: ARG005
) -> tuple[Engine, str, str]:
    """Build an engine that is ready for batches of the examples' shapes.

    Args:
        name: one of ``ENGINES``; "auto" takes the one that pays off for the budget, and "batched",
            which is for several fits, the captured one.
        objective, module, verify, compiled_tolerance: see :class:`CapturedStep`.
        examples: a batch of each shape of the fit, the usual one first.
        steps, minutes: the fit's budget.
        log: called with a line before a compilation begins.
        fall_back: take a simpler engine if the program or the machine does not support this one.

    Returns:
        The engine, its name, and the reason of the choice or of the fallback in words.

    Raises:
        GMMVAEError: an unknown name, or (without ``fall_back``) a program that this
            engine can't evaluate.
    """
    if name not in ENGINES:
        raise unknown_name("engine", name, list(ENGINES))
    reason, shared = "", _SHARED.get()
    if name == "auto":
        fits = 1 if shared is None else shared.fits
        name, reason = choose(None if steps is None else fits * steps, minutes)
    if name == "batched":  # a fit by itself, perhaps one that is resumed
        name, fall_back, reason = "captured", True, "it runs by itself"
    while name != "svi":
        if name == "compiled":
            log("compiling the step: up to a minute the first time, seconds after that")
        engine = CapturedStep(
            objective,
            module,
            compiled_shape=examples[0][0].shape if name == "compiled" else None,
            verify=verify,
            compiled_tolerance=compiled_tolerance,
            shared=None if shared is None else shared.graphs,
        )
        try:
            for batch in examples:
                engine.prepare(*batch)
        except CaptureError as error:
            if not fall_back:
                raise
            name = "captured" if isinstance(error, CompileError) else "svi"
            reason = str(error).partition(";")[0]  # the rest advises what is done here
        else:
            return engine, name, reason
    return EagerStep(objective, module), name, reason
