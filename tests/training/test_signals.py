"""Handlers of SIGINT and SIGTERM, each for the length of a block."""

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from pyro_gmmvae.training.signals import (
    ignore_sigint,
    note_sigint,
    raise_on_sigint,
    raise_signal,
    sigterm_as_interrupt,
    stop_on_signal,
)


@pytest.fixture(autouse=True)
def _python_handles_sigint() -> Iterator[None]:
    """A shell that starts a job in the background lets it ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


BLOCKS = {
    "stop": stop_on_signal,
    "note": note_sigint,
    "ignore": ignore_sigint,
    "raise": raise_on_sigint,
    "terminate": lambda: sigterm_as_interrupt(lambda: None),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_handlers_are_put_back(block: str) -> None:
    before = handlers()
    with BLOCKS[block]():
        assert block == "raise" or handlers() != before
    assert handlers() == before


@pytest.mark.parametrize("block", BLOCKS)
def test_other_threads_change_no_handler(block: str) -> None:
    before, within = handlers(), []

    def enter(manager: AbstractContextManager[Any]) -> None:
        with manager:
            within.append(handlers())

    thread = threading.Thread(target=enter, args=(BLOCKS[block](),))
    thread.start()
    thread.join()
    assert within == [before]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_becomes_a_request(number: signal.Signals) -> None:
    with stop_on_signal() as request:
        assert not request
        signal.raise_signal(number)
        assert request
        assert request.signal is number


def test_a_second_sigint_raises_but_while_saving() -> None:
    with stop_on_signal() as request:
        signal.raise_signal(signal.SIGINT)
        with request.held_back():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_sigints_are_noted() -> None:
    with note_sigint() as request:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert request


def test_sigint_is_ignored_or_raises() -> None:
    with ignore_sigint():
        signal.raise_signal(signal.SIGINT)
        with raise_on_sigint(), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_sigterm_interrupts_after_a_call() -> None:
    calls: list[str] = []
    with sigterm_as_interrupt(lambda: calls.append("before")), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert calls == ["before"]


def test_a_signal_is_raised_by_its_name() -> None:
    with note_sigint() as request:
        raise_signal("SIGINT")
        assert request
