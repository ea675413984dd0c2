import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.training import Schedule


def test_a_warm_up_rises_in_a_straight_line() -> None:
    schedule = Schedule.parse("0:2:100")
    assert [schedule(s) for s in (0, 25, 50, 100, 1000)] == [0.0, 0.5, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("text", ["0.5", 0.5, "0.5:0.5:0"])
def test_a_number_is_constant(text: str | float) -> None:
    assert {Schedule.parse(text)(s) for s in (0, 1, 10_000)} == {0.5}


@pytest.mark.parametrize("text", ["", "a", "0:1", "0:1:2:3", "0:1:x", "0:1:-5"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(GMMVAEError, match="schedule"):
        Schedule.parse(text)
