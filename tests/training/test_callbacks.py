"""Who hears of a fit: three methods, steps for those that want them, and what is refused."""

from dataclasses import replace

import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training import StepCallback
from tests.training.test_svi import SETTINGS, build

Heard = list[tuple[str, object]]


class Plain:
    def __init__(self) -> None:
        self.heard: Heard = []

    def on_start(self, about: str) -> None:
        self.heard.append(("start", about))

    def on_epoch(self, record: dict[str, float]) -> None:
        self.heard.append(("epoch", record["step"]))

    def on_end(self, outcome: str) -> None:
        self.heard.append(("end", outcome))


class Stepping(Plain):
    def on_step(self, progress: float) -> None:
        self.heard.append(("step", progress))


def test_three_methods_are_a_callback() -> None:
    plain = Plain()
    build(replace(SETTINGS, epochs=2), callbacks=[plain], about="fifty rows").run()
    assert not isinstance(plain, StepCallback)
    assert plain.heard == [
        ("start", "fifty rows"),
        ("start", "engine: svi"),
        ("epoch", 4),
        ("epoch", 8),
        ("end", "complete"),
    ]


def test_a_callback_with_on_step_hears_of_each_step() -> None:
    stepping = Stepping()
    build(replace(SETTINGS, epochs=2), callbacks=[Plain(), stepping]).run()
    heard = [what for what, _ in stepping.heard]
    assert heard == ["start", *["step"] * 4, "epoch", *["step"] * 4, "epoch", "end"]
    steps = [value for what, value in stepping.heard if what == "step"]
    assert steps == pytest.approx([n / 8 for n in range(1, 9)])


def test_what_a_callback_raises_ends_the_fit_before_its_end_is_told() -> None:
    class Breaks(Plain):
        def on_epoch(self, record: dict[str, float]) -> None:
            super().on_epoch(record)
            raise ZeroDivisionError

    broken = Breaks()
    with pytest.raises(ZeroDivisionError):
        build(replace(SETTINGS, epochs=2), callbacks=[broken]).run()
    assert [what for what, _ in broken.heard] == ["start", "epoch"]


class NoEnd:
    def on_start(self, about: str) -> None: ...

    def on_epoch(self, record: dict[str, float]) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (NoEnd(), "the callback NoEnd has no on_end; a callback has on_start, on_epoch, on_end"),
        (print, "has no on_start, on_epoch, on_end"),
        (Plain, "the callback Plain is a class; give an object of it"),
    ],
)
def test_what_is_no_callback_is_told_what_it_lacks(wrong: object, told: str) -> None:
    with pytest.raises(GMMVAEError, match=told):
        build(callbacks=[wrong])
