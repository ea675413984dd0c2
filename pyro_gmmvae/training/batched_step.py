"""The batched step: loss and gradients of several fits of one program, as one program.

The graph of one fit's step is that of :mod:`pyro_gmmvae.training.capture`. Its random draws become
inputs, so that each fit draws from a stream of its own, and ``torch.vmap`` adds a dimension to
every operation: S small matrix products become one batched product.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.utils._pytree import tree_map

from pyro_gmmvae.training.capture import (
    GRADIENT,
    CaptureError,
    StepGraph,
    StepTerms,
    capture,
    compare_results,
    first_line,
    tensors_by_name,
)
from pyro_gmmvae.training.devices import rng_state

Draw = Callable[[], Tensor]
"""Makes the result of one random operation with the default generator."""

Streams = Callable[[int | None], AbstractContextManager[Any]]
"""A block in which the default generators are those of a fit, by its number; None: a copy."""

aten: Any = torch.ops.aten
IN_PLACE = (
    *(aten.normal_.default, aten.uniform_.default, aten.exponential_.default),
    *(aten.bernoulli_.float, aten.log_normal_.default, aten.cauchy_.default),
)
SHAPES_ONLY = (
    *(aten.rand.default, aten.randn.default, aten.randint.default, aten.randint.low),
    *(aten.rand_like.default, aten.randn_like.default, aten.randperm.default),
    *(aten.bernoulli.p, aten.native_dropout.default, *IN_PLACE),
)
"""Random operations whose draws depend on the shapes of tensors, and not on their values."""


@dataclass(frozen=True)
class _Program:
    """The step of all fits, with their draws as inputs.

    Attributes:
        run: (*tensors, *batch, *draws) -> as of :class:`StepGraph`, all with a first dimension S.
        draws: of one fit, in the order in which it draws alone.
        graph: of one fit, for the names and the gradients that exist.
    """

    run: GraphModule
    draws: tuple[Draw, ...]
    graph: StepGraph


class BatchedStep:
    """Evaluates S equal programs on a batch of each, and leaves each fit's gradients in ``grad``.

    The tensors of the programs (parameters, buffers) become views of stacked ones, so that a change
    of a fit's tensor, in place, takes effect, and only that fit's results depend on it.

    Args:
        evaluations: modules of a batch's tensors that give terms; of one program, with their own
            tensors.
        streams: the random streams of the fits.
        one_program: the programs are known to be equal; else each is captured, and compared.
        verify: compare the first evaluation of the first and of the last fit with eager ones.
        tolerance: of that comparison; None: by the type of the parameters.

    Raises:
        CaptureError: programs whose tensors or operations differ, or a program that can't be
            captured or batched.
    """

    def __init__(
        self,
        evaluations: Sequence[nn.Module],
        streams: Streams,
        *,
        one_program: bool = False,
        verify: bool = True,
        tolerance: float | None = None,
    ) -> None:
        self.evaluations, self.streams, self.verify = list(evaluations), streams, verify
        self.tolerance = tolerance
        self.captured = self.evaluations[:1] if one_program else self.evaluations
        self.programs: dict[Any, _Program] = {}
        named = [tensors_by_name(one) for one in self.evaluations]
        _check_equal(
            [[(k, t.shape, t.dtype, t.requires_grad) for k, t in o.items()] for o in named]
        )
        first = {id(t): name for name, t in reversed(named[0].items())}  # tied ones once
        self.names = list(reversed(first.values()))
        self.tensors = [[one[name] for name in self.names] for one in named]
        self.stacked = [
            torch.stack([t.data for t in same]) for same in zip(*self.tensors, strict=True)
        ]
        for number, own in enumerate(self.tensors):
            for tensor, stack in zip(own, self.stacked, strict=True):
                tensor.data = stack[number]
        fitted = [t.requires_grad for t in self.tensors[0]]
        self.order = [i for i, yes in enumerate(fitted) if yes] + [
            i for i, yes in enumerate(fitted) if not yes
        ]
        self.parameters = [[own[i] for i in self.order if fitted[i]] for own in self.tensors]

    def __call__(self, *batches: Tensor, kind: Any = None) -> list[StepTerms]:
        """Compute the terms of each fit.

        Args:
            batches: (S, B, ...) tensors of a batch.
            kind: distinguishes programs with equal shapes.
        """
        program = self.prepare(*batches, kind=kind)
        draws = self._draws(program)
        with torch.no_grad():
            results = program.run(*self._inputs(), *batches, *draws)
        return self._leave(program, results)

    def prepare(self, *batches: Tensor, kind: Any = None) -> _Program:
        """The program for batches of these shapes; every state is left as it was."""
        key = (tuple(batch.shape for batch in batches), kind)
        if (known := self.programs.get(key)) is not None:
            return known
        graphs = []
        for number, one in enumerate(self.captured):
            own = [self.tensors[number][i] for i in self.order]
            graphs.append(capture(one, tensors_by_name(one), own, [b[number] for b in batches]))
        runs: list[Any] = [graph.run for graph in graphs]
        _check_equal([[run.code, *graph.parts] for run, graph in zip(runs, graphs, strict=True)])
        _check_equal_constants([_constants(run) for run in runs])
        alone: GraphModule = runs[0]
        draws = _with_draws_as_inputs(alone)
        with self.streams(None):
            samples = [torch.stack([draw()] * len(self.evaluations)) for draw in draws]
        run = _batched(alone, [*self._inputs(), *batches, *samples])
        program = _Program(run, tuple(draws), graphs[0])
        if self.verify:
            self._verify(program, batches)
        self.programs[key] = program
        return program

    def release(self, number: int) -> None:
        """Give a fit that has ended memory of its own, so that this step's can be freed."""
        for tensor in self.tensors[number]:
            tensor.data = tensor.data.clone()

    def _inputs(self) -> list[Tensor]:
        return [self.stacked[i] for i in self.order]

    def _restore(self, values: Sequence[Tensor]) -> None:
        for stack, value in zip(self.stacked, values, strict=True):
            stack.copy_(value)

    def _draws(self, program: _Program) -> list[Tensor]:
        """The draws of all fits, stacked: each fit's are those that it draws alone."""
        drawn = []
        for number in range(len(self.evaluations)):
            with self.streams(number):
                drawn.append([draw() for draw in program.draws])
        return [torch.stack(same) for same in zip(*drawn, strict=True)]

    def _leave(self, program: _Program, results: Sequence[Tensor]) -> list[StepTerms]:
        """Terms of each fit, and gradients in its parameters."""
        parts = program.graph.parts
        terms = []
        for number, parameters in enumerate(self.parameters):
            own = [result[number] for result in results]
            gradients = iter(own[1 + len(parts) :])
            for parameter, exists in zip(parameters, program.graph.has_gradient, strict=True):
                parameter.grad = next(gradients) if exists else None
            terms.append(StepTerms(own[0], dict(zip(parts, own[1:], strict=False))))
        return terms

    def _verify(self, program: _Program, batches: Sequence[Tensor]) -> None:
        """Compare the evaluation of all fits with eager ones of the first and of the last fit."""
        before, device = [stack.clone() for stack in self.stacked], batches[0].device
        with self.streams(None):
            draws = [draw() for draw in program.draws]
            drawn = rng_state(device)
        stacked = [torch.stack([one] * len(self.evaluations)) for one in draws]
        graph = program.graph
        has = iter(graph.has_gradient)
        fitted = [self.names[i] for i in self.order[: len(graph.has_gradient)]]
        names = ["the loss", *graph.parts, *(GRADIENT + name for name in fitted if next(has))]
        with torch.no_grad():
            results = program.run(*self._inputs(), *batches, *stacked)
            self._restore(before)
        for number in {0, len(self.evaluations) - 1}:
            with self.streams(None):
                expected = self._eager(number, fitted, batches)
                if any(not torch.equal(drawn[k], v) for k, v in rng_state(device).items()):
                    raise CaptureError(
                        "the batched step draws other random numbers than a fit alone"
                    )
            actual = dict(zip(names, (result[number] for result in results), strict=True))
            compare_results(expected, actual, graph.parts, self.tolerance, step="the batched step")
            with torch.no_grad():
                self._restore(before)

    def _eager(
        self, number: int, fitted: Sequence[str], batches: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Loss, parts and gradients of a fit's own evaluation."""
        terms = self.evaluations[number](*(batch[number] for batch in batches))
        for parameter in self.parameters[number]:
            parameter.grad = None
        terms.loss.backward()
        results = {"the loss": terms.loss.detach()} | terms.parts
        for name, parameter in zip(fitted, self.parameters[number], strict=True):
            if parameter.grad is not None:
                results[GRADIENT + name] = parameter.grad
            parameter.grad = None
        return results


def _constants(run: GraphModule) -> list[Tensor]:
    """Tensors that a graph holds, such as the units of rows."""
    return [getattr(run, str(node.target)) for node in run.graph.nodes if node.op == "get_attr"]


def _check_equal_constants(constants: Sequence[Sequence[Tensor]]) -> None:
    for other in constants[1:]:
        if not all(torch.equal(a, b) for a, b in zip(constants[0], other, strict=True)):
            raise CaptureError("the fits differ in constants, and can't be one program")


def _check_equal(properties: Sequence[Sequence[Any]]) -> None:
    """Check that all fits have the first one's properties."""
    for other in properties[1:]:
        if len(other) != len(properties[0]):
            raise CaptureError("the fits have different tensors, and can't be one program")
        for mine, theirs in zip(properties[0], other, strict=True):
            if mine != theirs:
                name = mine[0] if isinstance(mine, tuple) else "a number or an operation"
                raise CaptureError(f"the fits differ in {name}, and can't be one program")


def _with_draws_as_inputs(graph: GraphModule) -> list[Draw]:
    """Make the random operations of a graph its last inputs; returns what draws them."""
    draws: list[Draw] = []
    last = [node for node in graph.graph.nodes if node.op == "placeholder"][-1]
    for node in list(graph.graph.nodes):
        tags = getattr(node.target, "tags", ())
        if node.op != "call_function" or torch.Tag.nondeterministic_seeded not in tags:
            continue
        draws.append(_draw(node))
        with graph.graph.inserting_after(last):
            last = graph.graph.placeholder(f"draw_{len(draws)}")
        if node.target is aten.native_dropout.default:
            _drop(graph, node, last)
        else:
            node.replace_all_uses_with(last)
            if node.target in IN_PLACE:  # what it filled is read by its own name, too
                node.args[0].replace_all_uses_with(last, lambda user, own=node: user > own)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    return draws


def _drop(graph: GraphModule, node: Node, kept: Node) -> None:
    """Put a product with drawn zeros and scales in the place of a dropout, which draws its own."""
    for user in list(node.users):
        with graph.graph.inserting_before(user):
            if user.args[1] == 0:
                new = graph.graph.call_function(aten.mul.Tensor, (node.args[0], kept))
            else:
                new = graph.graph.call_function(aten.ne.Scalar, (kept, 0))
        user.replace_all_uses_with(new)
        graph.graph.erase_node(user)


def _draw(node: Node) -> Draw:
    """A function that draws what a random operation gives, with torch's default generator.

    Raises:
        CaptureError: an operation whose draws depend on the values of a tensor.
    """
    target: Any = node.target
    if target not in SHAPES_ONLY:
        raise CaptureError(f"draws of {target} depend on values; such fits run one by one")

    fakes = map_arg((node.args, node.kwargs), lambda argument: argument.meta["val"])

    def draw() -> Tensor:
        args, kwargs = tree_map(_ones, fakes)
        result = target(*args, **kwargs)
        return result[0] if isinstance(result, tuple) else result

    return draw


def _ones(value: Any) -> Any:
    """A tensor in the place of a fake, whose values do not matter; a dropout of 1 is its scale."""
    if not isinstance(value, Tensor):
        return value
    return torch.ones(value.shape, dtype=value.dtype, device=value.device)


@contextmanager
def _without_fallback_warnings() -> Iterator[None]:
    """Do not warn of operations that are done fit by fit: affine grids, and moving averages."""
    functorch: Any = torch._C._functorch
    functorch._set_vmap_fallback_warning_enabled(False)
    try:
        yield
    finally:
        functorch._set_vmap_fallback_warning_enabled(True)


def _batched(alone: GraphModule, inputs: Sequence[Tensor]) -> GraphModule:
    """The program of all fits; every input has a first dimension of S."""

    def evaluate(*one: Tensor) -> tuple[Tensor, ...]:
        return tuple(alone(*one))

    try:
        with torch.no_grad(), _without_fallback_warnings():
            graph = make_fx(torch.vmap(evaluate), tracing_mode="fake")(*inputs)
    except Exception as error:
        # whatever breaks the transformation means one thing to the caller
        raise CaptureError(f"the step can't be batched: {first_line(error)}") from error
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph
