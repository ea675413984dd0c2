"""Scalars that move while training: KL weights, temperatures, alpha."""

from dataclasses import dataclass

from pyro_gmmvae.errors import GMMVAEError


@dataclass(frozen=True)
class Schedule:
    """A straight line from ``start`` to ``end`` over the first ``steps`` steps, then constant.

    Written "0.5" (constant) or "start:end:steps", for example "0:1:500" for a warm-up.
    """

    start: float
    end: float
    steps: int = 0

    def __call__(self, step: int) -> float:
        """The value at optimiser step ``step`` (the first is 0)."""
        if step >= self.steps:
            return self.end
        return self.start + (self.end - self.start) * step / self.steps

    @classmethod
    def parse(cls, text: str | float) -> "Schedule":
        """Read a number or "start:end:steps".

        Raises:
            GMMVAEError: if it is neither.
        """
        try:
            if isinstance(text, int | float):
                return cls(float(text), float(text))
            parts = text.split(":")
            if len(parts) == 1:
                return cls(float(text), float(text))
            start, end, steps = parts
            schedule = cls(float(start), float(end), int(steps))
        except (ValueError, AttributeError) as error:
            raise GMMVAEError(
                f"a schedule is a number or start:end:steps, such as 0:1:500, not {text!r}"
            ) from error
        if schedule.steps < 0:
            raise GMMVAEError(f"a schedule's steps can't be negative: {text!r}")
        return schedule
