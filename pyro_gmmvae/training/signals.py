"""Handlers of SIGINT (Ctrl-C) and SIGTERM, each for the length of a block.

SIGHUP, of a terminal that is closed, is handled as SIGTERM, unless it is ignored (``nohup``).
Python handles signals in the main thread only: in another thread a block runs without a handler.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

SIGHUP = getattr(signal, "SIGHUP", None)  # not on Windows


class StopRequest:
    """False until a stop signal arrives.

    Attributes:
        signal: the signal, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.saving = False

    def __bool__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Within the block, a second SIGINT is recorded instead of raising KeyboardInterrupt."""
        self.saving = True
        try:
            yield
        finally:
            self.saving = False


@contextmanager
def stop_on_signal(*numbers: signal.Signals) -> Iterator[StopRequest]:
    """Turn signals (default: SIGINT and SIGTERM) into a request that the block looks at.

    A second SIGINT raises KeyboardInterrupt.
    """
    request = StopRequest()

    def note(number: int, _: Any) -> None:
        # a SIGINT after another signal is that of a parent process, which got the same signal
        if request.signal == number == signal.SIGINT and not request.saving:
            raise KeyboardInterrupt
        request.signal = signal.SIGTERM if number == SIGHUP else signal.Signals(number)

    with _handler(note, *(numbers or (signal.SIGINT, signal.SIGTERM))):
        yield request


@contextmanager
def note_sigint() -> Iterator[StopRequest]:
    """Turn every SIGINT into a request; none raises KeyboardInterrupt."""
    with stop_on_signal(signal.SIGINT) as request, request.held_back():
        yield request


@contextmanager
def ignore_sigint() -> Iterator[None]:
    """Ignore SIGINT; processes started in the block ignore it too, until they handle it."""
    with _handler(signal.SIG_IGN, signal.SIGINT):
        yield


@contextmanager
def raise_on_sigint() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT, also in a process that was started ignoring it."""
    with _handler(signal.default_int_handler, signal.SIGINT):
        yield


@contextmanager
def sigterm_as_interrupt(before: Callable[[], None]) -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, after a call of ``before``."""

    def interrupt(*_: Any) -> None:
        before()
        raise KeyboardInterrupt

    with _handler(interrupt, signal.SIGTERM):
        yield


@contextmanager
def _handler(handler: Any, *numbers: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.SIGTERM in numbers and SIGHUP and signal.getsignal(SIGHUP) != signal.SIG_IGN:
        numbers = (*numbers, SIGHUP)
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def raise_signal(name: str) -> None:
    """Send this process a signal by its name, for the handlers that are set now."""
    signal.raise_signal(signal.Signals[name])


def interrupt_processes(numbers: Iterable[int | None]) -> None:
    """Send SIGINT to processes of these ids."""
    for number in numbers:
        if number is not None:
            os.kill(number, signal.SIGINT)


def terminate_this_process() -> None:
    """Send SIGTERM to this process."""
    os.kill(os.getpid(), signal.SIGTERM)


def on_stop(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Call a function of an event loop on SIGINT or SIGTERM.

    Windows has no such handlers and raises KeyboardInterrupt.
    """
    with contextlib.suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, callback)
        if SIGHUP and signal.getsignal(SIGHUP) != signal.SIG_IGN:
            loop.add_signal_handler(SIGHUP, callback)
