"""Weights are copied component by component, exactly, for every model and guide with classes."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.runs.component_layout import _of_class, component_layouts, copy_weights

D = 3
Build = Callable[[int], Any]


def builder(name: str, guide: str | None = None, **options: Any) -> Build:
    wanted = inspect.signature(MODELS[name]).parameters

    def build(K: int) -> Any:
        sizes: dict[str, Any] = {"components": K, "latent_dim": D, "factors": {"view": 2}}
        given = {key: value for key, value in sizes.items() if key in wanted}
        of_guide = {} if guide is None else {"guide": GUIDES[guide]}
        more = {"options": NetworkOptions(hidden=(16, 8), activation="tanh", **options)}
        if name == "gmmvae":
            more["learn_prior"] = True
        return MODELS[name]((5,), likelihood="normal", **given, **of_guide, **more)

    return build


BUILDS = {
    **{f"gmmvae-{guide}": builder("gmmvae", guide) for guide in GUIDES},
    "gmmvae-skip": builder("gmmvae", skip=True, batch_norm=True),
    **{n: builder(n) for n in ("gmmvae-factors", "gmvae-discrete", "m2", "m2-gumbel", "m1m2")},
    **{n: builder(n) for n in ("adgm", "sdgm")},
}


@pytest.mark.parametrize("name", BUILDS)
def test_components_take_their_place(name: str) -> None:
    """Components 2, 0, 3 of a model with 4 are 0, 1, 2 of one with 3, with the same densities."""
    build, order = BUILDS[name], [2, 0, 3]
    if name == "gmmvae-conjugate":  # its q(z|x) is computed from all components
        order = [2, 0, 3, 1]
    K = len(order)
    torch.manual_seed(0)
    x, other, own = torch.randn(64, 5), build(4).eval(), build(K).eval()
    layouts = component_layouts(build, K, x), component_layouts(build, 4, x)
    assert copy_weights(own, other, layouts, np.array(order)) == []
    logits = other.classify(x)[:, order].log_softmax(-1)
    torch.testing.assert_close(own.classify(x), logits, atol=1e-5, rtol=1e-5)
    for k, old in enumerate(order):
        values = []
        for model, number in ((own, k), (other, old)):
            torch.manual_seed(1)
            values.append(_of_class(model, x, number))
        torch.testing.assert_close(*values, atol=1e-2, rtol=1e-4)


def test_a_component_without_a_source_stays_as_it_is() -> None:
    build = BUILDS["gmmvae-product"]
    torch.manual_seed(0)
    x, other, own = torch.randn(64, 5), build(2), build(3)
    before = own.mixture.loc.clone()
    layouts = component_layouts(build, 3, x), component_layouts(build, 2, x)
    kept = copy_weights(own, other, layouts, np.array([1, -1, 0]))
    assert "mixture.loc" in kept
    assert torch.equal(own.mixture.loc[1], before[1])
    assert torch.equal(own.mixture.loc[[0, 2]], other.mixture.loc[[1, 0]])
