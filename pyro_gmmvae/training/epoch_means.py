"""Means of an epoch's numbers, such as the terms of the loss."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError


class EpochMeans:
    """Means of an epoch's numbers, summed on their device in double precision.

    Sums are taken one step after the other, so that an interrupted epoch sums to the same bits,
    and in place, so that a recorded step adds to the same tensors.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.sums: Tensor | None = None

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """Add one step's 0-dimensional numbers, which have the same names at each step."""
        values = torch.stack(tuple(parts.values()))
        wide = values if values.device.type == "mps" else values.double()
        if self.sums is None:
            self.names, self.sums = tuple(parts), torch.zeros_like(wide)
        if tuple(parts) != self.names:
            raise GMMVAEError(
                f"an objective reports the same terms at each step: {', '.join(self.names)}; "
                f"now {', '.join(parts)}"
            )
        self.sums.add_(wide)

    def take(self, steps: int) -> dict[str, float]:
        """The means over so many steps; begins the next epoch. Waits for the device once."""
        if self.sums is None:
            return {}
        sums = self.sums.tolist()
        self.sums.zero_()
        return {name: total / steps for name, total in zip(self.names, sums, strict=True)}

    def tensors(self) -> list[Tensor]:
        """The tensors that a step changes."""
        return [] if self.sums is None else [self.sums]

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.sums is None else dict(zip(self.names, self.sums, strict=True))

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        self.names, self.sums = tuple(state), None
        if state:
            self.sums = torch.stack(tuple(state.values())).to(device)
