"""The last part of a step: gradients are looked at, clipped, and followed."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pyro_gmmvae.training.nonfinite import NonFiniteError, non_finite


class Descent:
    """A step of one fused Adam, unless the loss or a gradient is NaN or infinite.

    With ``deferred`` the host never waits for the device, so that steps queue up there and can be
    recorded: a step that is no number, and all steps after it, then leave the weights as they
    are, until :meth:`check` asks. Without it such a step raises at once.

    Args:
        module: owns the parameters.
        learning_rate: Adam's, to begin with.
        clip_norm: largest gradient norm; 0 leaves gradients alone.
        where: names the step that was so many steps ago, for :class:`NonFiniteError`.
        deferred: see above; None: on CUDA.
        weight_decay: of AdamW (Loshchilov, Hutter 2019, arXiv:1711.05101).
    """

    def __init__(
        self,
        module: nn.Module,
        learning_rate: float,
        clip_norm: float,
        where: Callable[[int], str],
        deferred: bool | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.clip_norm, self.where = clip_norm, where
        parameters = list(self.parameters.values())
        device = parameters[0].device
        self.deferred = device.type == "cuda" if deferred is None else deferred
        # whether to skip (1.0; the form is fused Adam's), and how many steps were
        self.skip, self.skipped = torch.zeros(2, dtype=torch.float32, device=device).unbind()
        # single precision whatever the default is: fused kernels read it so
        rate = torch.tensor(learning_rate, dtype=torch.float32, device=device)
        self.rate = rate if self.deferred else None
        # the same but for the decay, which Adam would put into the gradient
        family = torch.optim.AdamW if weight_decay > 0 else torch.optim.Adam
        self.optimizer = family(
            parameters,
            lr=learning_rate if self.rate is None else self.rate,
            fused=device.type in ("cpu", "cuda", "mps"),
            capturable=device.type == "cuda",
            weight_decay=weight_decay,
        )
        if self.deferred:
            self.optimizer.found_inf = self.skip  # type: ignore[attr-defined]
        # it warns of steps that are taken outside of a graph, as the first ones have to be
        self.optimizer._warned_capturable_if_run_uncaptured = True
        self._parts: tuple[str, ...] = ()
        self._gradients: tuple[str, ...] = ()
        self._reported: Tensor | None = None

    def set_learning_rate(self, rate: float) -> None:
        """Adam's rate from now on."""
        if self.rate is not None:
            self.rate.fill_(rate)
            return
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self, parts: Mapping[str, Tensor]) -> None:
        """Follow the gradients that an evaluation left.

        Args:
            parts: its terms, "loss" among them.

        Raises:
            NonFiniteError: unless deferred.
        """
        known = {
            name: p.grad
            for name, p in self.parameters.items()
            if p.requires_grad and p.grad is not None
        }
        norms = torch.stack(torch._foreach_norm(list(known.values())))
        norm = torch.linalg.vector_norm(norms)
        self._parts, self._gradients = tuple(parts), tuple(known)
        too_long = self.clip_norm > 0
        if self.deferred:
            self._note((parts["loss"] + norm).isfinite(), parts, norms)
        else:
            length = norm.item()
            if not math.isfinite(parts["loss"].item() + length):
                raise self._error(0, _reported(parts, norms))
            too_long = too_long and length > self.clip_norm  # few are
        if too_long:
            nn.utils.clip_grads_with_norm_(self.parameters.values(), self.clip_norm, norm)
        self.optimizer.step()

    def _note(self, finite: Tensor, parts: Mapping[str, Tensor], norms: Tensor) -> None:
        """Keep what the first bad step reported."""
        reported = _reported(parts, norms)
        if self._reported is None or len(self._reported) != len(reported):  # one was frozen
            self._reported = torch.zeros_like(reported)
        self._reported.copy_(torch.where(self.skip > 0, self._reported, reported))
        self.skip.copy_(self.skip.maximum((~finite).to(self.skip)))
        self.skipped.add_(self.skip)

    def check(self) -> None:
        """Wait for the steps so far.

        Raises:
            NonFiniteError: if one of them was no number.
        """
        if self.deferred and self._reported is not None and bool(self.skip):
            raise self._error(int(self.skipped), self._reported)

    def _error(self, ago: int, reported: Tensor) -> NonFiniteError:
        numbers = reported.tolist()
        parts = dict(zip(self._parts, numbers, strict=False))
        norms = dict(zip(self._gradients, numbers[len(parts) :], strict=True))
        return non_finite(self.where(ago), parts, norms)

    def tensors(self) -> dict[str, list[Tensor]]:
        """What a step changes in place, in groups by name."""
        found: dict[str, list[Tensor]] = {"parameters": list(self.parameters.values())}
        for state in self.optimizer.state.values():
            for name, tensor in state.items():
                found.setdefault(f"Adam's {name}", []).append(tensor)
        reported = [] if self._reported is None else [self._reported]
        return found | {"the watch over numbers": [self.skip, self.skipped, *reported]}

    def state_dict(self) -> dict[str, object]:
        """Adam's."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on from :meth:`state_dict`, which may come from another kind of device."""
        own = [(group["lr"], group["capturable"]) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, (rate, capturable) in zip(self.optimizer.param_groups, own, strict=True):
            group["lr"], group["capturable"] = rate, capturable
        self._reported = None
        for watched in (self.skip, self.skipped):
            watched.zero_()


def _reported(parts: Mapping[str, Tensor], norms: Tensor) -> Tensor:
    return torch.cat([torch.stack(tuple(parts.values())), norms])
