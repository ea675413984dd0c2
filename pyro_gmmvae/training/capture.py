"""The captured step: loss and gradients of a Pyro program as one graph of tensor operations.

Pyro's handlers and autograd's bookkeeping cost as much as the arithmetic of a small batch, and
Dynamo can't trace the handlers. ``make_fx`` passes through them: it records the tensor operations
of one evaluation, forward and backward. The graph is run in their place, by torch's eager kernels
or compiled by Inductor, with the same random numbers. See the README.md beside this file.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from pyro_gmmvae.training.devices import rng_state, set_rng_state
from pyro_gmmvae.training.out_of_memory import is_out_of_memory
from pyro_gmmvae.training.precision import inductor_probe_in_process

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
    """The result of one step, detached; see :class:`pyro_gmmvae.training.settings.LossTerms`."""

    loss: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True)
class StepGraph:
    """A recorded evaluation.

    Attributes:
        run: (*parameters, *constants, *batch) -> loss, the parts, the gradients that exist.
        parts: names of the parts.
        has_gradient: per parameter, whether the loss depends on it.
    """

    run: Callable[..., Any]
    parts: tuple[str, ...]
    has_gradient: tuple[bool, ...]


class _Evaluation(nn.Module):
    """Objective and module in one module, so that all their tensors can be replaced by name."""

    def __init__(self, objective: Callable[..., Any], module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.objective = objective

    def forward(self, *batch: Tensor) -> Any:
        return self.objective(*batch)


class CapturedStep:
    """Evaluates an objective by running its graph, one graph for each shape of batch.

    Parameters, buffers (temperatures, weights of terms, running means) and rows are inputs of
    the graph, so that every change of them takes effect. The first batch of a new shape is
    captured, which takes well under a second.

    Args:
        objective: called with a batch, (x, y) or more tensors; gives terms with ``loss`` and
            ``parts``.
        module: owns the parameters.
        compiled_shape: shape of x whose graph Inductor compiles; the others are run by eager
            kernels (a last, smaller batch comes once an epoch, which does not pay off a
            compilation). None compiles none.
        verify: compare one run of each graph with eager evaluation on the same seed.
        compiled_tolerance: of that comparison, for a compiled graph; None: by the type of the
            parameters, as for the others.
        shared: graphs of other fits of the same program, which this one adds to.

    Raises:
        CaptureError: as soon as a graph can't be made, or computes something else than eager
            evaluation.
        CompileError: the same for a compiled graph.
    """

    def __init__(
        self,
        objective: Callable[..., Any],
        module: nn.Module,
        *,
        compiled_shape: torch.Size | None = None,
        verify: bool = True,
        compiled_tolerance: float | None = None,
        shared: "dict[Any, dict[Any, StepGraph]] | None" = None,
    ) -> None:
        self.evaluation = _Evaluation(objective, module)
        self.compiled_shape, self.verify = compiled_shape, verify
        self.compiled_tolerance = compiled_tolerance
        self.graphs: dict[Any, StepGraph] = {}
        self._properties: tuple[Any, ...] = ()
        self.refresh()
        if shared is not None:
            self.graphs = shared.setdefault((self._properties, compiled_shape), self.graphs)

    def refresh(self) -> None:
        """List the tensors again, after one may have been replaced or frozen.

        Drops the graphs if the tensors have other names, shapes or types.
        """
        self._tensors = tensors_by_name(self.evaluation)
        properties = tuple((k, t.shape, t.dtype, t.requires_grad) for k, t in self._tensors.items())
        if properties != self._properties:
            self.graphs, self._properties = {}, properties
        names = {id(t): name for name, t in reversed(self._tensors.items())}  # tied ones once
        tensors = {name: self._tensors[name] for name in reversed(names.values())}
        self._parameters = {k: t for k, t in tensors.items() if t.requires_grad}
        self._constants = {k: t for k, t in tensors.items() if not t.requires_grad}
        self._leaves = [t for t in tensors.values() if isinstance(t, nn.Parameter)]

    def __call__(self, *batch: Tensor) -> StepTerms:
        """Compute loss and parts of a batch; leave the gradients in each parameter's ``grad``."""
        graph = self.prepare(*batch)
        for leaf in self._leaves:  # also those that were frozen since
            leaf.grad = None  # its memory, still in the cache, is reused
        with torch.no_grad():
            loss, *rest = graph.run(*self._inputs(batch))
        parts = dict(zip(graph.parts, rest, strict=False))
        gradients = iter(rest[len(parts) :])
        for parameter, exists in zip(self._parameters.values(), graph.has_gradient, strict=True):
            parameter.grad = next(gradients) if exists else None
        return StepTerms(loss, parts)

    def prepare(self, *batch: Tensor) -> StepGraph:
        """The graph for batches of this shape, made and verified where there is none.

        Every state is left as it was.
        """
        if (known := self.graphs.get(self._key(batch))) is not None:
            return known
        tensors = [*self._parameters.values(), *self._constants.values()]
        graph = capture(self.evaluation, self._tensors, tensors, batch)
        compiling = batch[0].shape == self.compiled_shape
        if compiling:
            graph = compile_graph(graph, self._inputs(batch))
        self.graphs[self._key(batch)] = graph
        try:
            if self.verify:
                self._verify(batch, self.compiled_tolerance if compiling else None)
        except Exception as error:
            del self.graphs[self._key(batch)]
            # also where the native code fails in its first run
            if compiling and not is_out_of_memory(error):
                raise CompileError(f"the compiled step fails: {first_line(error)}") from error
            raise
        return graph

    def _key(self, batch: Sequence[Tensor]) -> Any:
        return batch[0].shape, len(batch), self.evaluation.module.training

    def _inputs(self, batch: Sequence[Tensor]) -> list[Tensor]:
        tensors = (*self._parameters.values(), *self._constants.values())
        return [*(t.data for t in tensors), *batch]

    def _verify(self, batch: Sequence[Tensor], tolerance: float | None) -> None:
        """Compare a run of the graph with an eager evaluation from the same state."""
        eager, eager_rng = self._results(self._eager, batch)
        captured, captured_rng = self._results(self, batch)
        for p in self._parameters.values():
            p.grad = None
        compare_results(eager, captured, self.graphs[self._key(batch)].parts, tolerance)
        if any(not torch.equal(state, captured_rng[kind]) for kind, state in eager_rng.items()):
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

    def _results(
        self, evaluate: Callable[..., Any], batch: Sequence[Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """All tensors that an evaluation computes, and the generators' states; all restored."""
        device = batch[0].device
        start, before = rng_state(device), {k: t.clone() for k, t in self._constants.items()}
        try:
            terms = evaluate(*batch)
            results = {"the loss": terms.loss.detach()} | terms.parts
            for name, p in self._parameters.items():
                if p.grad is not None:
                    results[GRADIENT + name] = p.grad
            results |= {k: t.clone() for k, t in self._constants.items()}
            return results, rng_state(device)
        finally:
            for name, tensor in self._constants.items():
                tensor.copy_(before[name])
            set_rng_state(device, start)


def compare_results(
    expected: dict[str, Tensor],
    actual: dict[str, Tensor],
    parts: Sequence[str],
    tolerance: float | None = None,
    step: str = "the captured step",
) -> None:
    """Check that a step gives the tensors that are expected.

    Non-finite values are reported by the training loop.

    Raises:
        CaptureError: with the name of the step and of the tensor.
    """
    if missing := sorted(expected.keys() ^ actual.keys()):
        raise CaptureError(f"{step} disagrees on whether {missing[0]} exists")
    sizes = {name: _largest(tensor) for name, tensor in expected.items()}
    # rounding is that of the sums a number comes from: a KL near 0 is a difference of large terms,
    # and a bias below a batch norm has a gradient of 0
    steepest = max((v for k, v in sizes.items() if k.startswith(GRADIENT)), default=0.0)
    floors = {name: 0.01 * steepest for name in expected if name.startswith(GRADIENT)}
    floors |= dict.fromkeys(parts, 0.01 * sizes["the loss"])
    for name, value in expected.items():
        if torch.equal(actual[name], value) or not bool(value.isfinite().all()):
            continue
        limit = tolerance or TOLERANCES.get(value.dtype, 0.0)
        error = (actual[name] - value).abs().max().item()
        if not error <= limit * (sizes[name] + floors.get(name, 0.0)):
            raise CaptureError(
                f"{step} computes something else than eager evaluation: "
                f"{_own_name(name)} differs by {error:.2g} where its size is {sizes[name]:.2g}; "
                "fit with --engine svi (--no-verify skips this check)"
            )


def _largest(tensor: Tensor) -> float:
    """The largest finite magnitude."""
    finite = tensor[tensor.isfinite()]
    return finite.abs().max().item() if finite.numel() else 0.0


def tensors_by_name(root: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by each of its names; a module met twice counts once."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in root.named_modules():
        for named in (module.named_parameters, module.named_buffers):
            tensors |= dict(named(prefix, recurse=False, remove_duplicate=False))
    return tensors


class _RequireReparameterized(Messenger):
    """Refuses a latent site whose draw carries no gradient: its score term needs the trace."""

    def _pyro_sample(self, msg: Any) -> None:
        drawn_here = not (msg["done"] or msg["is_observed"] or site_is_subsample(msg))
        if drawn_here and not msg["fn"].has_rsample:
            raise CaptureError(
                f"site {msg['name']!r} is a {type(msg['fn']).__name__}, which is not "
                "reparameterized; such models are fitted with --engine svi"
            )


def capture(
    evaluation: nn.Module,
    names: Mapping[str, Tensor],
    tensors: Sequence[Tensor],
    batch: Sequence[Tensor],
) -> StepGraph:
    """Record loss, parts and gradients of ``evaluation(*batch)`` for batches of this shape.

    Nothing is computed (the tensors are fakes) and no random number is drawn.

    Args:
        evaluation: module of a batch's tensors that gives terms.
        names: its parameters and buffers by name; tied ones have several.
        tensors: the same, each once: in this order they are inputs of the graph, and those that
            require a gradient get one.
        batch: rows, labels, and further arguments of the evaluation.

    Raises:
        CaptureError: a site that is not reparameterized, control flow that depends on data, or
            an operation that can't be traced.
    """
    order = {id(tensor): i for i, tensor in enumerate(tensors)}
    position = {name: order[id(tensor)] for name, tensor in names.items()}
    parts: list[str] = []
    has_gradient: list[bool] = []
    last = len(tensors)

    def evaluate(*inputs: Tensor) -> list[Tensor]:
        state = {name: inputs[i] for name, i in position.items()}
        # Pyro's checks read values, which a fake does not have
        with _RequireReparameterized(), pyro.validation_enabled(False):
            terms = torch.func.functional_call(evaluation, state, inputs[last:], tie_weights=False)
        replaced = [name for name, i in position.items() if state[name] is not inputs[i]]
        if replaced:
            raise CaptureError(
                f"{_own_name(replaced[0])} is replaced in each step instead of changed in place; "
                "such models are fitted with --engine svi"
            )
        parameters = [tensor for tensor in inputs[:last] if tensor.requires_grad]
        gradients = torch.autograd.grad(terms.loss, parameters, allow_unused=True)
        parts.extend(terms.parts)
        has_gradient.extend(g is not None for g in gradients)
        values = [terms.loss.detach(), *(v.detach() for v in terms.parts.values())]
        return [*values, *_as_accumulated(gradients, parameters, inputs)]

    try:
        graph = make_fx(evaluate, tracing_mode="fake")(*tensors, *batch)
    except CaptureError:
        raise
    except Exception as error:
        # whatever breaks the tracer means one thing to the caller
        raise CaptureError(f"the step can't be captured: {first_line(error)}") from error
    return StepGraph(_without_detach(graph), tuple(parts), tuple(has_gradient))


def _as_accumulated(
    gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], inputs: Sequence[Tensor]
) -> list[Tensor]:
    """Gradients as ``backward`` leaves them: in the parameter's layout, each in its own memory.

    They are clipped and averaged in place.
    """
    accumulated, taken = [], {StorageWeakRef(t.untyped_storage()) for t in inputs}
    for gradient, parameter in zip(gradients, parameters, strict=True):
        if gradient is None:
            continue
        storage = StorageWeakRef(gradient.untyped_storage())
        if gradient.stride() != parameter.stride() or storage in taken:
            gradient = torch.empty_like(parameter).copy_(gradient)
            storage = StorageWeakRef(gradient.untyped_storage())
        taken.add(storage)
        accumulated.append(gradient)
    return accumulated


def _without_detach(graph: GraphModule) -> GraphModule:
    """Remove autograd's detach operations: no tensor of a graph has a history."""
    for node in list(graph.graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def compile_graph(graph: StepGraph, inputs: list[Tensor]) -> StepGraph:
    """Compile a graph with Inductor, which keeps it on disk for later processes.

    Random numbers stay those of eager kernels.

    Raises:
        CompileError: the machine has no compiler, or the compiler fails.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Inductor imports what torch has deprecated
            import torch._inductor as inductor

            # without symbols for shapes Inductor does not look into its cache on disk
            fakes = FakeTensorMode(shape_env=ShapeEnv())
            with tracing(TracingContext(fakes)), inductor_probe_in_process():
                run = inductor.compile(graph.run, inputs, options={"fallback_random": True})  # type: ignore[arg-type]
    except Exception as error:
        # compilers fail in many ways, with one remedy
        raise CompileError(
            f"the captured step can't be compiled on this machine: {first_line(error)}; "
            "--engine captured needs no compiler"
        ) from error
    return replace(graph, run=run)


def first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _own_name(name: str) -> str:
    """A tensor's name without the prefixes of :class:`_Evaluation`."""
    return name.replace("module.", "", 1).replace("objective.", "", 1)
