"""The captured step: loss and gradients of a Pyro program as one graph of tensor operations.

Pyro's handlers and autograd's bookkeeping cost as much as the arithmetic of a small batch, and
Dynamo can't trace the handlers. ``make_fx`` sees through them: it records the tensor operations
of one evaluation, forward and backward. The graph is replayed in their place, by torch's eager
kernels or compiled by Inductor, with the same random numbers.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.multiprocessing.reductions import StorageWeakRef

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.inference.devices import rng_state, set_rng_state

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest difference from eager evaluation, relative to the largest entry of each tensor."""

BF16_TOLERANCE = 0.1
"""The same where matmuls round to bfloat16 (8 bits): its own rounding is that large."""


GRADIENT = "the gradient of "


class CaptureError(GMMVAEError):
    """A program that can't be captured, or whose graph computes something else."""


class CompileError(CaptureError):
    """A captured program that this machine can't compile."""


@dataclass
class StepTerms:
    """What one replay gives, detached; see :class:`pyro_gmmvae.inference.settings.LossTerms`."""

    loss: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True)
class StepGraph:
    """A recorded evaluation.

    Attributes:
        run: (*parameters, *constants, x, y) -> loss, the parts, the gradients that exist.
        parts: names of the parts.
        has_gradient: per parameter, whether the loss depends on it.
    """

    run: Callable[..., Any]
    parts: tuple[str, ...]
    has_gradient: tuple[bool, ...]


class _Evaluation(nn.Module):
    """Objective and module under one roof, so that all their tensors can be swapped by name."""

    def __init__(self, objective: Callable[..., Any], module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.objective = objective

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.objective(x, y)


class CapturedStep:
    """Evaluates an objective by replaying its graph, one graph for each shape of batch.

    Parameters, buffers (temperatures, weights of terms, running means) and rows are inputs of
    the graph, so that whatever changes them is seen. A shape met for the first time is
    captured then, in well under a second.

    Args:
        objective: called with a batch (x, y), gives terms with ``loss`` and ``parts``.
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
        objective: Callable[[Tensor, Tensor], Any],
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

    def __call__(self, x: Tensor, y: Tensor) -> StepTerms:
        """Loss and parts of a batch; leaves the gradients in each parameter's ``grad``."""
        graph = self.graphs.get(self._key(x)) or self.prepare(x, y)
        for parameter in self._parameters.values():
            parameter.grad = None  # its memory, still in the cache, is there for the next one
        with torch.no_grad():
            loss, *rest = graph.run(*self._inputs(x, y))
        parts = dict(zip(graph.parts, rest, strict=False))
        gradients = iter(rest[len(parts) :])
        for parameter, known in zip(self._parameters.values(), graph.has_gradient, strict=True):
            parameter.grad = next(gradients) if known else None
        return StepTerms(loss, parts)

    def prepare(self, x: Tensor, y: Tensor) -> StepGraph:
        """Make and verify the graph for batches of this shape; leaves every state as it was."""
        tensors = [*self._parameters.values(), *self._constants.values()]
        graph = capture(self.evaluation, self._places, tensors, x, y)
        compiling = x.shape == self.compiled_shape
        if compiling:
            graph = compiled(graph, self._inputs(x, y))
        self.graphs[self._key(x)] = graph
        try:
            if self.verify:
                self._verify(x, y, self.compiled_tolerance if compiling else None)
        except Exception as error:
            del self.graphs[self._key(x)]
            if compiling:  # also where the native code fails when it is first run
                raise CompileError(
                    f"the compiled step is at fault: {_first_line(error)}"
                ) from error
            raise
        return graph

    def _key(self, x: Tensor) -> Any:
        return x.shape, self.evaluation.module.training

    def _inputs(self, x: Tensor, y: Tensor) -> list[Tensor]:
        tensors = (*self._parameters.values(), *self._constants.values())
        return [*(t.data for t in tensors), x, y]

    def _verify(self, x: Tensor, y: Tensor, tolerance: float | None) -> None:
        """Compare a replay with an eager evaluation from the same state."""
        eager, drawn = self._observed(self._eager, x, y)
        replayed, redrawn = self._observed(self, x, y)
        for p in self._parameters.values():
            p.grad = None
        _compare(eager, replayed, self.graphs[self._key(x)].parts, tolerance)
        if any(not torch.equal(state, redrawn[kind]) for kind, state in drawn.items()):
            raise CaptureError(
                "the captured step draws other random numbers than eager evaluation; fit with "
                "--engine svi"
            )

    def _eager(self, x: Tensor, y: Tensor) -> Any:
        for p in self._parameters.values():
            p.grad = None
        terms = self.evaluation(x, y)
        terms.loss.backward()
        return terms

    def _observed(
        self, evaluate: Callable[[Tensor, Tensor], Any], x: Tensor, y: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Every tensor an evaluation leaves behind, and the generators' states; all put back."""
        start, before = rng_state(x.device), {k: t.clone() for k, t in self._constants.items()}
        try:
            terms = evaluate(x, y)
            left = {"the loss": terms.loss.detach()} | terms.parts
            for name, p in self._parameters.items():
                if p.grad is not None:
                    left[GRADIENT + name] = p.grad
            left |= {k: t.clone() for k, t in self._constants.items()}
            return left, rng_state(x.device)
        finally:
            for name, tensor in self._constants.items():
                tensor.copy_(before[name])
            set_rng_state(x.device, start)


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
                f"the captured step computes something else than eager evaluation: {_own(name)} "
                f"differs by {error:.2g} where its size is {sizes[name]:.2g}; fit with --engine "
                "svi (--no-verify goes on regardless)"
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


def _own(name: str) -> str:
    """A tensor's name without what :class:`_Evaluation` adds to it."""
    return name.replace("module.", "", 1).replace("objective.", "", 1)


class _Reparameterised(Messenger):
    """Refuses a latent site whose draw carries no gradient: its score term needs the trace."""

    def _pyro_sample(self, msg: Any) -> None:
        drawn_here = not (msg["done"] or msg["is_observed"] or site_is_subsample(msg))
        if drawn_here and not msg["fn"].has_rsample:
            raise CaptureError(
                f"site {msg['name']!r} is a {type(msg['fn']).__name__}, which is not "
                "reparameterised; such models are fitted with --engine svi"
            )


def capture(
    evaluation: nn.Module,
    places: Mapping[str, Tensor],
    tensors: Sequence[Tensor],
    x: Tensor,
    y: Tensor,
) -> StepGraph:
    """Record loss, parts and gradients of ``evaluation(x, y)`` for batches of this shape.

    Nothing is computed (the tensors are fakes) and no random number is drawn.

    Args:
        evaluation: module of (x, y) that gives terms.
        places: its parameters and buffers by name; tied ones have several.
        tensors: the same, each once: in this order they are inputs of the graph, and those that
            require a gradient get one.
        x, y: a batch.

    Raises:
        CaptureError: a site that is not reparameterised, control flow that depends on data, or
            an operation that can't be traced.
    """
    order = {id(tensor): i for i, tensor in enumerate(tensors)}
    position = {name: order[id(tensor)] for name, tensor in places.items()}
    parts: list[str] = []
    has_gradient: list[bool] = []

    def evaluate(*inputs: Tensor) -> list[Tensor]:
        state = {name: inputs[i] for name, i in position.items()}
        # Pyro's checks look at values, which a fake has none of
        with _Reparameterised(), pyro.validation_enabled(False):
            terms = torch.func.functional_call(evaluation, state, inputs[-2:], tie_weights=False)
        replaced = [name for name, i in position.items() if state[name] is not inputs[i]]
        if replaced:
            raise CaptureError(
                f"{_own(replaced[0])} is replaced in each step instead of changed in place; such "
                "models are fitted with --engine svi"
            )
        wanted = [tensor for tensor in inputs[:-2] if tensor.requires_grad]
        gradients = torch.autograd.grad(terms.loss, wanted, allow_unused=True)
        parts.extend(terms.parts)
        has_gradient.extend(g is not None for g in gradients)
        values = [terms.loss.detach(), *(v.detach() for v in terms.parts.values())]
        return [*values, *_as_accumulated(gradients, wanted, inputs)]

    try:
        graph = make_fx(evaluate, tracing_mode="fake")(*tensors, x, y)
    except CaptureError:
        raise
    except Exception as error:
        # whatever breaks the tracer means one thing to whoever asked for it
        raise CaptureError(f"the step can't be captured: {_first_line(error)}") from error
    return StepGraph(_simplified(graph), tuple(parts), tuple(has_gradient))


def _as_accumulated(
    gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], inputs: Sequence[Tensor]
) -> list[Tensor]:
    """Gradients as ``backward`` leaves them: in the parameter's layout, each in a place of its own.

    What comes out is clipped and averaged in place.
    """
    found, taken = [], {StorageWeakRef(t.untyped_storage()) for t in inputs}
    for gradient, parameter in zip(gradients, parameters, strict=True):
        if gradient is None:
            continue
        place = StorageWeakRef(gradient.untyped_storage())
        if gradient.stride() != parameter.stride() or place in taken:
            gradient = torch.empty_like(parameter).copy_(gradient)
            place = StorageWeakRef(gradient.untyped_storage())
        taken.add(place)
        found.append(gradient)
    return found


def _simplified(graph: GraphModule) -> GraphModule:
    """Without what autograd left behind: nothing here has a history to detach from."""
    for node in list(graph.graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def compiled(graph: StepGraph, inputs: list[Tensor]) -> StepGraph:
    """The graph as native code. Inductor keeps it on disk and finds it again in later processes.

    Random numbers stay those of eager kernels.

    Raises:
        CompileError: no compiler on this machine, or one that fails.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Inductor's imports use what torch has deprecated
            run = _by_inductor(graph.run, inputs)
    except Exception as error:
        # compilers fail in many ways, and each has the same way out
        raise CompileError(
            f"the captured step can't be compiled on this machine: {_first_line(error)}; "
            "--engine captured needs no compiler"
        ) from error
    return StepGraph(run, graph.parts, graph.has_gradient)


def _by_inductor(run: Callable[..., Any], inputs: list[Tensor]) -> Callable[..., Any]:
    import torch._inductor as inductor
    from torch._inductor import config, cpu_vec_isa

    def compile_with(**more: bool) -> Any:
        options = {"fallback_random": True} | more
        # without symbols for shapes Inductor does not look into its cache on disk
        with tracing(TracingContext(FakeTensorMode(shape_env=ShapeEnv()))):
            return inductor.compile(run, inputs, options=options)  # type: ignore[arg-type]

    if config.cpp.vec_isa_ok is not None:
        return compile_with()
    try:
        # each process would try each instruction set in a process of its own, which takes longer
        # than all the rest of a warm start; what the processor says of itself will do
        return compile_with(**{"cpp.vec_isa_ok": True})
    except Exception:  # unless the compiler is too old for that
        cpu_vec_isa.valid_vec_isa_list.cache_clear()
        return compile_with()


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
