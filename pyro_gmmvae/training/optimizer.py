"""The last part of a step: gradients are checked, clipped and applied, and numbers are summed."""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from pyro_gmmvae.errors import GMMVAEError


class NonFiniteError(GMMVAEError):
    """The loss or a gradient became NaN or infinite; names the step and the site."""


BETAS_OF_DISCRIMINATORS = (0.5, 0.9)


class Optimizer:
    """One fused Adam with clipped gradients, which never applies a NaN or infinite gradient.

    Discriminators have an Adam of their own: another rate, less momentum, and no clipping.

    With ``deferred`` the host never waits for the device, so that steps queue up there and can be
    recorded: a non-finite step, and all steps after it, then leave the weights as they are, until
    :meth:`check` raises. Without it such a step raises at once.

    Args:
        module: owns the parameters.
        learning_rate: Adam's, to begin with.
        clip_norm: largest gradient norm; 0 leaves gradients alone.
        step_name: names the step that was so many steps ago, for :class:`NonFiniteError`.
        deferred: see above; None: on CUDA.
        weight_decay: of AdamW (Loshchilov, Hutter 2019, arXiv:1711.05101).
        discriminators: their parameters by name, which the objective owns.
        discriminator_rate: their learning rate, as a multiple of ``learning_rate``.
    """

    def __init__(
        self,
        module: nn.Module,
        learning_rate: float,
        clip_norm: float,
        step_name: Callable[[int], str],
        deferred: bool | None = None,
        weight_decay: float = 0.0,
        discriminators: Mapping[str, Tensor] | None = None,
        discriminator_rate: float = 1.0,
    ) -> None:
        self.parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.discriminators = dict(discriminators or {})
        self.clip_norm, self.step_name = clip_norm, step_name
        parameters = list(self.parameters.values())
        device = parameters[0].device
        self.deferred = device.type == "cuda" if deferred is None else deferred
        # whether to skip a step (1.0: fused Adam's form), and how many steps were skipped
        self.skip, self.skipped = torch.zeros(2, dtype=torch.float32, device=device).unbind()
        # single precision whatever the default type is: fused kernels read it so
        self.multiples = (1.0, discriminator_rate)[: 2 if self.discriminators else 1]
        rates: list[Any] = [learning_rate * multiple for multiple in self.multiples]
        if self.deferred:
            rates = [torch.tensor(rate, dtype=torch.float32, device=device) for rate in rates]
        groups: list[dict[str, Any]] = [{"params": parameters, "lr": rates[0]}]
        if self.discriminators:
            others: dict[str, Any] = {"weight_decay": 0.0, "betas": BETAS_OF_DISCRIMINATORS}
            groups += [{"params": [*self.discriminators.values()], "lr": rates[1], **others}]
        # the same but for the decay, which Adam would add to the gradient
        kind = torch.optim.AdamW if weight_decay > 0 else torch.optim.Adam
        self.adam = kind(
            groups,
            fused=device.type in ("cpu", "cuda", "mps"),
            capturable=device.type == "cuda",
            weight_decay=weight_decay,
        )
        if self.deferred:
            self.adam.found_inf = self.skip  # type: ignore[attr-defined]
        # it warns of steps outside of a graph, as the first ones have to be
        self.adam._warned_capturable_if_run_uncaptured = True
        self._parts: tuple[str, ...] = ()
        self._gradients: tuple[str, ...] = ()
        self._reported: Tensor | None = None

    def set_learning_rate(self, rate: float) -> None:
        """Set Adam's learning rate, and that of discriminators in proportion."""
        for group, multiple in zip(self.adam.param_groups, self.multiples, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * multiple)
            else:
                group["lr"] = rate * multiple

    def step(self, parts: Mapping[str, Tensor]) -> None:
        """Apply the gradients that an evaluation left in ``grad``.

        Args:
            parts: the terms of the loss, "loss" among them, 0-dimensional.

        Raises:
            NonFiniteError: unless deferred.
        """
        gradients = {
            name: p.grad
            for some in (self.parameters, self.discriminators)
            for name, p in some.items()
            if p.requires_grad and p.grad is not None
        }
        norms = torch.stack(torch._foreach_norm(list(gradients.values())))
        clipped = len([name for name in gradients if name in self.parameters])
        norm = torch.linalg.vector_norm(norms[:clipped])
        total = parts["loss"] + (norm if clipped == len(norms) else norms.sum())
        self._parts, self._gradients = tuple(parts), tuple(gradients)
        clip = self.clip_norm > 0
        if self.deferred:
            self._note(total.isfinite(), parts, norms)
        else:
            if not math.isfinite(total.item()):
                raise self._error(0, _joined(parts, norms))
            clip = clip and norm.item() > self.clip_norm  # few are
        if clip:
            nn.utils.clip_grads_with_norm_(self.parameters.values(), self.clip_norm, norm)
        self.adam.step()

    def _note(self, finite: Tensor, parts: Mapping[str, Tensor], norms: Tensor) -> None:
        """Keep the numbers of the first non-finite step."""
        reported = _joined(parts, norms)
        if self._reported is None or len(self._reported) != len(reported):  # one was frozen
            self._reported = torch.zeros_like(reported)
        self._reported.copy_(torch.where(self.skip > 0, self._reported, reported))
        self.skip.copy_(self.skip.maximum((~finite).to(self.skip)))
        self.skipped.add_(self.skip)

    def check(self) -> None:
        """Wait for the steps so far.

        Raises:
            NonFiniteError: if the loss or a gradient of one of them was not finite.
        """
        if self.deferred and self._reported is not None and bool(self.skip):
            raise self._error(int(self.skipped), self._reported)

    def _error(self, ago: int, reported: Tensor) -> NonFiniteError:
        numbers = reported.tolist()
        parts = dict(zip(self._parts, numbers, strict=False))
        norms = dict(zip(self._gradients, numbers[len(parts) :], strict=True))
        return _non_finite(self.step_name(ago), parts, norms)

    def tensors(self) -> dict[str, list[Tensor]]:
        """The tensors that a step changes in place, in groups by name."""
        parameters = [*self.parameters.values(), *self.discriminators.values()]
        groups: dict[str, list[Tensor]] = {"parameters": parameters}
        for state in self.adam.state.values():
            for name, tensor in state.items():
                groups.setdefault(f"Adam's {name}", []).append(tensor)
        reported = [] if self._reported is None else [self._reported]
        return groups | {"the NaN check": [self.skip, self.skipped, *reported]}

    def state_dict(self) -> dict[str, object]:
        """Adam's state, with the weights of discriminators, which no module of the fit has."""
        weights = {name: p.detach() for name, p in self.discriminators.items()}
        return self.adam.state_dict() | ({"discriminators": weights} if weights else {})

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Load :meth:`state_dict`, perhaps of another kind of device."""
        weights = cast("Mapping[str, Tensor]", state.get("discriminators", {}))
        if weights.keys() != self.discriminators.keys():
            raise KeyError("discriminators")
        with torch.no_grad():
            for name, parameter in self.discriminators.items():
                parameter.copy_(weights[name])
        own = [(group["lr"], group["capturable"]) for group in self.adam.param_groups]
        self.adam.load_state_dict({k: v for k, v in state.items() if k != "discriminators"})
        for group, (rate, capturable) in zip(self.adam.param_groups, own, strict=True):
            group["lr"], group["capturable"] = rate, capturable
        self._reported = None
        self.skip.zero_()
        self.skipped.zero_()


def _joined(parts: Mapping[str, Tensor], norms: Tensor) -> Tensor:
    return torch.cat([torch.stack(tuple(parts.values())), norms])


def _non_finite(
    step: str, parts: Mapping[str, float], norms: Mapping[str, float]
) -> NonFiniteError:
    """The error of a step whose loss or gradients are not finite.

    Args:
        step: its name.
        parts: the terms of the loss.
        norms: of the gradients, by parameter.
    """
    # the guide's sites come first: log p(x|.) inherits their NaN
    for name in sorted(parts, key=lambda part: part == "log_px"):
        if name not in ("elbo", "loss") and not math.isfinite(parts[name]):
            return NonFiniteError(
                f"the loss became non-finite at {step}: {_describe_part(name)} is {parts[name]}; "
                "try a smaller learning_rate or clip_norm, or look at the data's range"
            )
    names = [name for name, norm in norms.items() if not math.isfinite(norm)]
    return NonFiniteError(
        f"a gradient became non-finite at {step}: that of {names[0] if names else 'the loss'}; "
        "try a smaller learning_rate"
    )


def _describe_part(name: str) -> str:
    """A reported term in words, for messages: "kl_z" is the KL term of site 'z'."""
    if name.startswith("kl_"):
        return f"the KL term of site {name[3:]!r}"
    return {
        "log_px": "log p of the observed site 'x'",
        "classification": "the classification term of the labelled rows",
    }.get(name, name)


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
