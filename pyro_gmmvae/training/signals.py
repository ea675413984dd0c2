"""Ctrl-C and SIGTERM as a request to stop, not as an exception in the middle of a step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """False until a signal asked the loop to stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.saving = False

    def __bool__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """While saving, further signals are noted and wait."""
        self.saving = True
        try:
            yield
        finally:
            self.saving = False


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM within the block; a second SIGINT interrupts as usual.

    Outside the main thread signals can't be caught, and the request stays false.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if request and number == signal.SIGINT and not request.saving:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
