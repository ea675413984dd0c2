"""The captured step: loss and gradients of a Pyro program as one graph of tensor operations.

Pyro's handlers and autograd's bookkeeping cost as much as the arithmetic of a small batch, and
Dynamo can't trace the handlers. ``make_fx`` sees through them: it records the tensor operations
of one evaluation, forward and backward. The graph is replayed in their place, by torch's eager
kernels or compiled by Inductor, with the same random numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pyro_gmmvae.training.devices import rng_state, set_rng_state
from pyro_gmmvae.training.graph import (
    CaptureError,
    CompileError,
    StepGraph,
    capture,
    first_line,
    own_name,
)
from pyro_gmmvae.training.native import compiled
from pyro_gmmvae.training.out_of_memory import is_of_memory

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest difference from eager evaluation, relative to the largest entry of each tensor."""

BF16_TOLERANCE = 0.1
"""The same where matmuls round to bfloat16 (8 bits): its own rounding is that large."""

GRADIENT = "the gradient of "


@dataclass
class StepTerms:
    """What one replay gives, detached; see :class:`pyro_gmmvae.training.settings.LossTerms`."""

    loss: Tensor
    parts: dict[str, Tensor]


class _Evaluation(nn.Module):
    """Objective and module under one roof, so that all their tensors can be swapped by name."""

    def __init__(self, objective: Callable[..., Any], module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.objective = objective

    def forward(self, *batch: Tensor) -> Any:
        return self.objective(*batch)


class CapturedStep:
    """Evaluates an objective by replaying its graph, one graph for each shape of batch.

    Parameters, buffers (temperatures, weights of terms, running means) and rows are inputs of
    the graph, so that whatever changes them is seen. A shape met for the first time is
    captured then, in well under a second.

    Args:
        objective: called with a batch, (x, y) or more tensors, gives terms with ``loss`` and
            ``parts``.
        module: owns the parameters.
        compiled_shape: shape of x whose graph Inductor compiles; the others are replayed by
            eager kernels (a last, smaller batch is met once an epoch and would not earn a
            compilation back). None compiles none.
        verify: compare one replay of each graph with eager evaluation on the same seed.
        compiled_tolerance: of that comparison, for a compiled graph; None: by the type of the
            parameters, as for the others.

    Raises:
        CaptureError: as soon as a graph can't be made, or is not what eager evaluation computes.
        CompileError: where the compiled one is at fault.
    """

    def __init__(
        self,
        objective: Callable[..., Any],
        module: nn.Module,
        *,
        compiled_shape: torch.Size | None = None,
        verify: bool = True,
        compiled_tolerance: float | None = None,
    ) -> None:
        self.evaluation = _Evaluation(objective, module)
        self.compiled_shape, self.verify = compiled_shape, verify
        self.compiled_tolerance = compiled_tolerance
        self.graphs: dict[Any, StepGraph] = {}
        self._kinds: list[Any] = []
        self.refresh()

    def refresh(self) -> None:
        """List the tensors again, after something may have replaced or frozen one.

        Graphs are dropped where they would no longer fit.
        """
        self._places = _places(self.evaluation)
        kinds = [(k, t.shape, t.dtype, t.requires_grad) for k, t in self._places.items()]
        if kinds != self._kinds:
            self.graphs.clear()
            self._kinds = kinds
        own = {id(t): name for name, t in reversed(self._places.items())}  # tied ones once
        tensors = {name: self._places[name] for name in reversed(own.values())}
        self._parameters = {k: t for k, t in tensors.items() if t.requires_grad}
        self._constants = {k: t for k, t in tensors.items() if not t.requires_grad}
        self._leaves = [t for t in tensors.values() if isinstance(t, nn.Parameter)]

    def __call__(self, *batch: Tensor) -> StepTerms:
        """Loss and parts of a batch; leaves the gradients in each parameter's ``grad``."""
        graph = self.graphs.get(self._key(batch)) or self.prepare(*batch)
        for leaf in self._leaves:  # those that were frozen since, too
            leaf.grad = None  # its memory, still in the cache, is there for the next one
        with torch.no_grad():
            loss, *rest = graph.run(*self._inputs(batch))
        parts = dict(zip(graph.parts, rest, strict=False))
        gradients = iter(rest[len(parts) :])
        for parameter, known in zip(self._parameters.values(), graph.has_gradient, strict=True):
            parameter.grad = next(gradients) if known else None
        return StepTerms(loss, parts)

    def prepare(self, *batch: Tensor) -> StepGraph:
        """Make and verify the graph for batches of this shape; leaves every state as it was."""
        tensors = [*self._parameters.values(), *self._constants.values()]
        graph = capture(self.evaluation, self._places, tensors, batch)
        compiling = batch[0].shape == self.compiled_shape
        if compiling:
            graph = compiled(graph, self._inputs(batch))
        self.graphs[self._key(batch)] = graph
        try:
            if self.verify:
                self._verify(batch, self.compiled_tolerance if compiling else None)
        except Exception as error:
            del self.graphs[self._key(batch)]
            # also where the native code fails when it is first run
            if compiling and not is_of_memory(error):
                raise CompileError(f"the compiled step is at fault: {first_line(error)}") from error
            raise
        return graph

    def _key(self, batch: Sequence[Tensor]) -> Any:
        return batch[0].shape, len(batch), self.evaluation.module.training

    def _inputs(self, batch: Sequence[Tensor]) -> list[Tensor]:
        tensors = (*self._parameters.values(), *self._constants.values())
        return [*(t.data for t in tensors), *batch]

    def _verify(self, batch: Sequence[Tensor], tolerance: float | None) -> None:
        """Compare a replay with an eager evaluation from the same state."""
        eager, drawn = self._observed(self._eager, batch)
        replayed, redrawn = self._observed(self, batch)
        for p in self._parameters.values():
            p.grad = None
        _compare(eager, replayed, self.graphs[self._key(batch)].parts, tolerance)
        if any(not torch.equal(state, redrawn[kind]) for kind, state in drawn.items()):
            raise CaptureError(
                "the captured step draws other random numbers than eager evaluation; fit with "
                "--engine svi"
            )

    def _eager(self, *batch: Tensor) -> Any:
        for p in self._parameters.values():
            p.grad = None
        terms = self.evaluation(*batch)
        terms.loss.backward()
        return terms

    def _observed(
        self, evaluate: Callable[..., Any], batch: Sequence[Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Every tensor an evaluation leaves behind, and the generators' states; all put back."""
        device = batch[0].device
        start, before = rng_state(device), {k: t.clone() for k, t in self._constants.items()}
        try:
            terms = evaluate(*batch)
            left = {"the loss": terms.loss.detach()} | terms.parts
            for name, p in self._parameters.items():
                if p.grad is not None:
                    left[GRADIENT + name] = p.grad
            left |= {k: t.clone() for k, t in self._constants.items()}
            return left, rng_state(device)
        finally:
            for name, tensor in self._constants.items():
                tensor.copy_(before[name])
            set_rng_state(device, start)


def _compare(
    expected: dict[str, Tensor],
    found: dict[str, Tensor],
    parts: Sequence[str],
    tolerance: float | None,
) -> None:
    """Refuse what an evaluation left if it is not what another one left.

    A number that is not finite is the fit's to report.
    """
    if missing := sorted(expected.keys() ^ found.keys()):
        raise CaptureError(f"the captured step disagrees on whether {missing[0]} exists")
    sizes = {name: _largest(tensor) for name, tensor in expected.items()}
    # rounding is that of the sums a number came from: a KL near 0 is a difference of large terms,
    # and a bias below a batch norm has a gradient of 0
    steepest = max((v for k, v in sizes.items() if k.startswith(GRADIENT)), default=0.0)
    floors = {name: 0.01 * steepest for name in expected if name.startswith(GRADIENT)}
    floors |= dict.fromkeys(parts, 0.01 * sizes["the loss"])
    for name, wanted in expected.items():
        if torch.equal(found[name], wanted) or not bool(wanted.isfinite().all()):
            continue
        limit = tolerance or TOLERANCES.get(wanted.dtype, 0.0)
        error = (found[name] - wanted).abs().max().item()
        if not error <= limit * (sizes[name] + floors.get(name, 0.0)):
            raise CaptureError(
                "the captured step computes something else than eager evaluation: "
                f"{own_name(name)} differs by {error:.2g} where its size is {sizes[name]:.2g}; "
                "fit with --engine svi (--no-verify goes on regardless)"
            )


def _largest(tensor: Tensor) -> float:
    """The largest finite magnitude."""
    finite = tensor[tensor.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0


def _places(root: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by each of its names; a module met twice counts once."""
    found: dict[str, Tensor] = {}
    for prefix, module in root.named_modules():
        for named in (module.named_parameters, module.named_buffers):
            found |= dict(named(prefix, recurse=False, remove_duplicate=False))
    return found
