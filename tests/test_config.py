import json

import pytest

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.key_types import Schedule
from pyro_gmmvae.runs.keys import configure


def test_a_warm_up_rises_in_a_straight_line() -> None:
    schedule = Schedule.parse("0:2:100")
    assert [schedule(s) for s in (0, 25, 50, 100, 1000)] == [0.0, 0.5, 1.0, 2.0, 2.0]


def test_a_line_without_steps_takes_the_whole_fit() -> None:
    schedule = Schedule.parse("3:1")
    assert [schedule(7, part) for part in (0.0, 0.25, 1.0, 1.5)] == [3.0, 2.5, 1.0, 1.0]
    assert str(schedule) == "3:1"
    assert Schedule.parse(str(schedule)) == schedule


@pytest.mark.parametrize("text", ["0.5", 0.5, "0.5:0.5:0"])
def test_a_number_is_constant(text: str | float) -> None:
    assert {Schedule.parse(text)(s) for s in (0, 1, 10_000)} == {0.5}


@pytest.mark.parametrize("text", ["", "a", "0:", "0:x", "0:1:", "0:1:2:3", "0:1:x", "0:1:-5"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(GMMVAEError, match="schedule"):
        Schedule.parse(text)


@pytest.mark.parametrize("text", ["nan", "0:inf:5", "0:nan:5", "1e999", "1e39"])
def test_values_that_are_not_finite_are_refused(text: str) -> None:
    with pytest.raises(GMMVAEError, match="kl_z: a schedule's values must be finite"):
        configure({"kl_z": text})


@pytest.mark.parametrize("text", ["30", "0.5", "0:1:500", "1e-07", "12:0.1:2000", "0:1:0", "3:1"])
def test_a_schedule_is_written_as_it_is_read(text: str) -> None:
    config = configure({"alpha": text})
    assert config.model_dump()["alpha"] == json.loads(config.model_dump_json())["alpha"] == text
    assert configure(config.model_dump()) == config


def test_a_configuration_tells_given_keys_from_defaults() -> None:
    config = configure({"alpha": "30"})
    assert config.given == {"alpha"}
    assert config == configure()
    assert config.replace(kl_z=2).given == {"alpha", "kl_z"}
    assert config.with_defaults(guide="product").given == {"alpha"}
