"""A training step's loss and gradients as a graph of tensor operations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.multiprocessing.reductions import StorageWeakRef

from pyro_gmmvae.errors import GMMVAEError


class CaptureError(GMMVAEError):
    """A program that can't be captured, or whose graph computes something else."""


class CompileError(CaptureError):
    """A captured program that this machine can't compile."""


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
    batch: Sequence[Tensor],
) -> StepGraph:
    """Record loss, parts and gradients of ``evaluation(*batch)`` for batches of this shape.

    Nothing is computed (the tensors are fakes) and no random number is drawn.

    Args:
        evaluation: module of a batch's tensors that gives terms.
        places: its parameters and buffers by name; tied ones have several.
        tensors: the same, each once: in this order they are inputs of the graph, and those that
            require a gradient get one.
        batch: rows, labels, and what else the evaluation takes.

    Raises:
        CaptureError: a site that is not reparameterised, control flow that depends on data, or
            an operation that can't be traced.
    """
    order = {id(tensor): i for i, tensor in enumerate(tensors)}
    position = {name: order[id(tensor)] for name, tensor in places.items()}
    parts: list[str] = []
    has_gradient: list[bool] = []
    last = len(tensors)

    def evaluate(*inputs: Tensor) -> list[Tensor]:
        state = {name: inputs[i] for name, i in position.items()}
        # Pyro's checks look at values, which a fake has none of
        with _Reparameterised(), pyro.validation_enabled(False):
            terms = torch.func.functional_call(evaluation, state, inputs[last:], tie_weights=False)
        replaced = [name for name, i in position.items() if state[name] is not inputs[i]]
        if replaced:
            raise CaptureError(
                f"{own_name(replaced[0])} is replaced in each step instead of changed in place; "
                "such models are fitted with --engine svi"
            )
        wanted = [tensor for tensor in inputs[:last] if tensor.requires_grad]
        gradients = torch.autograd.grad(terms.loss, wanted, allow_unused=True)
        parts.extend(terms.parts)
        has_gradient.extend(g is not None for g in gradients)
        values = [terms.loss.detach(), *(v.detach() for v in terms.parts.values())]
        return [*values, *_as_accumulated(gradients, wanted, inputs)]

    try:
        graph = make_fx(evaluate, tracing_mode="fake")(*tensors, *batch)
    except CaptureError:
        raise
    except Exception as error:
        # whatever breaks the tracer means one thing to whoever asked for it
        raise CaptureError(f"the step can't be captured: {first_line(error)}") from error
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


def first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def own_name(name: str) -> str:
    """A tensor's name without what :class:`_Evaluation` adds to it."""
    return name.replace("module.", "", 1).replace("objective.", "", 1)
