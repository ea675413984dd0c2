"""Callbacks: the order of their calls, and objects that are not callbacks."""

from dataclasses import replace

import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training import Callback
from tests.training.test_loop import SETTINGS, build

Calls = list[tuple[str, object]]


class Plain(Callback):
    def __init__(self) -> None:
        self.calls: Calls = []

    def on_start(self, about: str) -> None:
        self.calls.append(("start", about))

    def on_epoch(self, record: dict[str, float]) -> None:
        self.calls.append(("epoch", record["step"]))

    def on_end(self, outcome: str) -> None:
        self.calls.append(("end", outcome))


class Stepping(Plain):
    def on_step(self, progress: float) -> None:
        self.calls.append(("step", progress))


def test_methods_are_called_in_order() -> None:
    plain = Plain()
    fit = build(replace(SETTINGS, epochs=2), callbacks=[plain])
    fit.log("fifty rows")
    fit.run()
    assert plain.calls == [
        ("start", "fifty rows"),
        ("start", "engine: svi"),
        ("epoch", 4),
        ("epoch", 8),
        ("end", "complete"),
    ]


def test_on_step_is_called_after_each_step() -> None:
    stepping = Stepping()
    build(replace(SETTINGS, epochs=2), callbacks=[Plain(), stepping]).run()
    calls = [what for what, _ in stepping.calls]
    assert calls == ["start", *["step"] * 4, "epoch", *["step"] * 4, "epoch", "end"]
    steps = [value for what, value in stepping.calls if what == "step"]
    assert steps == pytest.approx([n / 8 for n in range(1, 9)])


def test_an_error_of_a_callback_ends_the_fit_without_on_end() -> None:
    class Breaks(Plain):
        def on_epoch(self, record: dict[str, float]) -> None:
            super().on_epoch(record)
            raise ZeroDivisionError

    broken = Breaks()
    with pytest.raises(ZeroDivisionError):
        build(replace(SETTINGS, epochs=2), callbacks=[broken]).run()
    assert [what for what, _ in broken.calls] == ["start", "epoch"]


class Other:
    def on_epoch(self, record: dict[str, float]) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Other(), "make its class Other a subclass of pyro_gmmvae.training.Callback"),
        (print, "the callback <built-in function print> is not a Callback"),
        (Plain, r"the callback Plain is a class; give an object of it: Plain\(\)"),
    ],
)
def test_other_objects_are_not_callbacks(wrong: object, message: str) -> None:
    with pytest.raises(GMMVAEError, match=message):
        build(callbacks=[wrong])
