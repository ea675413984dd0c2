"""The state of a fit, as a checkpoint holds it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, PlainValidator
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.files import validated


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError("input should be a number")
    return float(value) if isinstance(value, float) else value  # an epoch stays an integer


Count = Annotated[int, Field(ge=0)]
Tensors = dict[str, Tensor]


@dataclass
class FitState:
    """The state of a fit: with the same parts and rows, a fit resumes from it bit for bit.

    Attributes:
        epoch, batch, step: epochs completed, batches of the epoch under way, steps in all.
        seconds: time spent, resumed fits included.
        best_value, best_epoch: of the best validation.
        history: a row per epoch.
        engine: the engine in use; None before the first step.
        best: the weights of the best epoch.
        module, optimizer, sums, pseudo_labeler: of the parts of a fit; None: as they are.
        order: state of the batches' generator at the start of the epoch.
        rng: states of torch's generators, for each process.
    """

    __pydantic_config__: ClassVar = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    epoch: Count = 0
    batch: Count = 0
    step: Count = 0
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    best_value: float = -math.inf
    best_epoch: Count = 0
    history: list[dict[str, Annotated[float, PlainValidator(_number)]]] = field(
        default_factory=list
    )
    engine: str | None = None
    best: Tensors = field(default_factory=dict)
    module: Tensors | None = None
    optimizer: dict[str, Any] | None = None
    sums: Tensors | None = None
    pseudo_labeler: Tensors | None = None
    order: Tensor | None = None
    rng: list[Tensors] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values, by attribute."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: object) -> "FitState":
        """Read :meth:`to_dict`.

        Raises:
            GMMVAEError: content of another shape, with the name of the source.
        """
        missing = [f.name for f in fields(cls) if f.name not in content]
        if missing:  # a default would start the fit anew, and replace its weights
            raise GMMVAEError(f"{source} is damaged: it lacks {', '.join(missing)}")
        state = validated(content, cls, source)
        if max(state.epoch, state.batch) > state.step:  # skipping them would take very long
            raise GMMVAEError(
                f"{source} is damaged: {state.epoch} epochs and {state.batch} batches in "
                f"{state.step} steps"
            )
        return state


def by_themselves(tensors: Mapping[str, Tensor]) -> Tensors:
    """Tensors that are no part of a larger memory, which torch would write as a whole."""
    return {
        name: t.detach().clone() if t.untyped_storage().nbytes() > t.nbytes else t
        for name, t in tensors.items()
    }
