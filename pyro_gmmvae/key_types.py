"""Types of configuration keys, among them a number that changes during training."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field
from pydantic.functional_serializers import PlainSerializer
from pydantic.functional_validators import AfterValidator, BeforeValidator, WrapValidator
from pydantic_core import core_schema

from pyro_gmmvae.errors import GMMVAEError


def split_list(value: Any) -> Any:
    """ "256,256" -> ["256", "256"], so that --set hidden=256,256 works."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


LARGEST = 3e38  # about the largest number in single precision
MAX_SIZE = 100_000  # larger layers do not fit any memory
Widths = Annotated[
    tuple[Annotated[int, Field(ge=1, le=MAX_SIZE)], ...], BeforeValidator(split_list)
]
Labels = Annotated[
    Annotated[int, Field(ge=0)] | None, BeforeValidator(lambda v: None if v == "all" else v)
]


def check_folds(value: int | None) -> int | None:
    """Refuse a single fold, which leaves no rows to train on."""
    if value == 1:
        raise GMMVAEError("a cross-validation has 2 folds or more, not 1; give 0 for none")
    return value


Folds = Annotated[Annotated[int, Field(ge=0, le=100)] | None, AfterValidator(check_folds)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda v: () if v is None else v), BeforeValidator(split_list)
]


@dataclass(frozen=True)
class Schedule:
    """A straight line from ``start`` to ``end`` over the first ``steps`` steps, then constant.

    Written "0.5" (constant) or "start:end:steps", for example "0:1:500" for a warm-up. With
    "start:end" (``steps`` None) the line takes the whole fit.
    """

    start: float
    end: float
    steps: int | None = 0

    def __call__(self, step: int, fraction: float = 0.0) -> float:
        """The value at optimizer step ``step`` (the first is 0), and at this part of the fit."""
        if self.steps is not None:
            fraction = step / self.steps if step < self.steps else 1.0
        return self.end if fraction >= 1 else self.start + (self.end - self.start) * fraction

    def __str__(self) -> str:
        start, end = _plain(self.start), _plain(self.end)
        if self.steps is None:
            return f"{start}:{end}"
        return f"{start}:{end}:{self.steps}" if self.steps or self.start != self.end else end

    @classmethod
    def constant(cls, value: float) -> "Schedule":
        """The schedule that stays at ``value``."""
        return cls(float(value), float(value))

    @classmethod
    def parse(cls, value: "str | float | Schedule") -> "Schedule":
        """Read a number, "start:end:steps" or "start:end".

        Raises:
            GMMVAEError: if it is neither, or holds a number that is not finite.
        """
        if isinstance(value, Schedule):
            return value
        try:
            if isinstance(value, int | float):
                return cls.constant(value)
            start, *rest = value.split(":")
            end, *steps = rest or (start, "0")
            schedule = cls(float(start), float(end), *map(int, steps or ()))
            schedule = schedule if steps else replace(schedule, steps=None)
        except (ValueError, AttributeError, OverflowError, TypeError) as error:
            raise GMMVAEError(
                "a schedule is a number, start:end or start:end:steps, such as 0:1:500, not "
                f"{value!r}"
            ) from error
        if schedule.steps is not None and schedule.steps < 0:
            raise GMMVAEError(f"a schedule's steps can't be negative: {value!r}")
        if not all(abs(end) < LARGEST for end in (schedule.start, schedule.end)):
            raise GMMVAEError(f"a schedule's values must be finite, and below 3e38: {value!r}")
        return schedule

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


def _plain(number: float) -> str:
    """A number as text without a needless ".0"; it reads back as the same float."""
    return str(int(number)) if abs(number) < 1e15 and number == int(number) else repr(number)


def _number_or_schedule(value: Any, number: Any) -> Any:
    if isinstance(value, str) and ":" in value:
        value = Schedule.parse(value)
    if isinstance(value, Schedule):
        return value if value.steps != 0 else value.end
    checked = number(value)
    if not abs(checked) < LARGEST:
        raise GMMVAEError(f"the number must be finite, and below 3e38: {value!r}")
    return checked


# a number that a schedule may change, where the model has a buffer of its name
Number = Annotated[
    float,
    WrapValidator(_number_or_schedule),
    PlainSerializer(lambda value: str(value) if isinstance(value, Schedule) else value),
]


def _range(value: Any) -> Any:
    if value is None:
        return None
    try:
        low, high = (float(edge) for edge in split_list(value))
    except (TypeError, ValueError):
        low = high = 0.0
    if not (low < high and max(-low, high) < LARGEST):
        raise GMMVAEError(f"give the lowest and the highest of all values, as 0,255, not {value!r}")
    return low, high


Range = Annotated[tuple[float, float] | None, BeforeValidator(_range)]
