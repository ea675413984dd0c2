"""What the steps of an epoch report, added up where it was computed."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError


class Totals:
    """Sums of an epoch's numbers, on their device and in double precision.

    They are added one step after the other, so that an interrupted epoch sums to the same bits,
    and in place, so that a recorded step adds to the same ones.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.sums: Tensor | None = None

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """Add one step's 0-dimensional numbers; each step has the same ones."""
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

    def means(self, steps: int) -> dict[str, float]:
        """Of so many steps; waits for the device once."""
        sums = [] if self.sums is None else self.sums.tolist()
        return {name: total / steps for name, total in zip(self.names, sums, strict=True)}

    def reset(self) -> None:
        """Begin the next epoch."""
        if self.sums is not None:
            self.sums.zero_()

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.sums is None else dict(zip(self.names, self.sums, strict=True))

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        self.names, self.sums = tuple(state), None
        if state:
            self.sums = torch.stack(tuple(state.values())).to(device)
