"""Entries of a model's parameters that belong to one component, found from gradients."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from pyro_gmmvae.data.transform import Labels
from pyro_gmmvae.models import LatentModel
from pyro_gmmvae.objectives.draws import sum_of
from pyro_gmmvae.param_store import LocalParams

ALL, NONE = -1, -2


@dataclass(frozen=True)
class ComponentLayout:
    """Where the components of a class are in a parameter.

    Attributes:
        axis: whose length depends on the number of components.
        component: (n,) the component of each entry along the axis, -1 for an entry that all of
            them share, -2 where that is not known.
    """

    axis: int
    component: Labels

    def places(self, component: int) -> Tensor:
        """Entries along the axis that belong to a component, or to all (-1)."""
        return torch.from_numpy(np.flatnonzero(self.component == component))


def component_layouts(
    build: Callable[[int], LatentModel], K: int, x: Tensor
) -> dict[str, ComponentLayout]:
    """The layout of each parameter of a model whose shape depends on its number of components.

    With the class set to k, the densities of a row depend on entries of component k and on shared
    ones. So the gradient tells the two apart for any model and guide. No such density depends on
    the class's own logits: K entries without a gradient are these, in order.

    Args:
        build: a new model of K components.
        K: of the model in question.
        x: some rows, (n, *x_shape).
    """
    model, larger = build(K).eval(), dict(build(K + 1).named_parameters())
    parameters = {n: p for n, p in model.named_parameters() if larger[n].shape != p.shape}
    axes = {
        name: next(a for a, n in enumerate(p.shape) if larger[name].shape[a] != n)
        for name, p in parameters.items()
    }
    seen = {name: np.zeros((K, p.shape[axes[name]]), bool) for name, p in parameters.items()}
    for k in range(K):
        total = _of_class(model, x, k)
        gradients = torch.autograd.grad(total, [*parameters.values()], allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                entries = (gradient != 0).movedim(axes[name], 0)
                seen[name][k] = entries.reshape(len(entries), -1).any(1).cpu().numpy()
    return {name: ComponentLayout(axes[name], _components(seen[name])) for name in parameters}


def _components(seen: np.ndarray) -> Labels:
    """(n,) components from (K, n): which entries have a gradient with each class."""
    K, n = seen.shape
    if n == K:
        return np.arange(K)
    count = seen.sum(0)
    found = np.where(count == 1, seen.argmax(0), NONE)
    found[np.isin(count, (0, K))] = ALL  # a mask can switch an entry off for all
    if (count == 0).sum() == K:
        found[count == 0] = np.arange(K)
    return found


def _of_class(model: LatentModel, x: Tensor, k: int) -> Tensor:
    """Sum over rows of the log-densities of x and the latents where s is a class."""
    site = str(model.class_site)
    s = torch.zeros(len(x), model.components, dtype=x.dtype, device=x.device)
    s[:, k] = 1
    with LocalParams():
        guide = poutine.trace(poutine.condition(model.guide, {site: s})).get_trace(x)
        values = {name: guide.nodes[name]["value"] for name in model.latents}
        joint = poutine.trace(poutine.condition(model.model, values)).get_trace(x)
    nodes = [
        trace.nodes[name]
        for trace in (guide, joint)
        for name in ("x", *model.latents)
        if name != site and name in trace.nodes
    ]
    return sum_of([node["fn"].log_prob(node["value"]).sum() for node in nodes])


def copy_weights(
    model: LatentModel,
    other: LatentModel,
    layouts: tuple[dict[str, ComponentLayout], dict[str, ComponentLayout]],
    of_component: Labels,
) -> list[str]:
    """Fill a model with what fits of another, component by component.

    Buffers that have entries for each component are no weights, and stay.

    Args:
        model: to fill.
        other: with other components, or other sizes of some layers.
        layouts: of the parameters of both, by :func:`component_layouts`.
        of_component: (K,) the other model's component of each, -1 where it has none.

    Returns:
        The names of the parameters that keep entries of their own.
    """
    own, theirs = model.state_dict(), other.state_dict()
    here, there = layouts
    alike = {n: t for n, t in theirs.items() if n in own and own[n].shape == t.shape}
    copied = alike.keys() - here.keys() - there.keys()
    model.load_state_dict({name: alike[name] for name in copied}, strict=False)
    for name in here.keys() & there.keys() & theirs.keys():
        axis = here[name].axis
        if own[name].narrow(axis, 0, 1).shape == theirs[name].narrow(axis, 0, 1).shape and (
            _copy_components(own[name], here[name], theirs[name], there[name], of_component)
        ):
            copied.add(name)
    return [name for name, _ in model.named_parameters() if name not in copied]


@torch.no_grad()
def _copy_components(
    own: Tensor,
    layout: ComponentLayout,
    other: Tensor,
    of_other: ComponentLayout,
    of_component: Labels,
) -> bool:
    """Copy a parameter component by component, and what they share; whether nothing is left."""
    axis, whole = layout.axis, not (layout.component == NONE).any()
    for k, theirs in [(ALL, ALL), *enumerate(of_component.tolist())]:
        here, there = layout.places(k), of_other.places(theirs)
        if (k != ALL and theirs < 0) or len(here) != len(there):
            whole = False
            continue
        values = other.index_select(axis, there.to(other.device)).to(own)
        own.index_copy_(axis, here.to(own.device), values)
    return whole
