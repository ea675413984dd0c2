"""The ladder VAE: its posterior is the product of two Gaussians, and both layers are generated."""

import torch
from pyro import poutine
from torch.distributions import kl_divergence

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.models import LVAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import AnalyticObjective, TraceObjective

SHAPE, D, OPTIONS = (6,), 2, NetworkOptions(hidden=(16,))
X = torch.rand(5, *SHAPE)


def nodes(model: LVAE) -> tuple[dict, dict]:
    guide = poutine.trace(model.guide).get_trace(X)
    replayed = poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(X)
    return guide.nodes, replayed.nodes


def test_precisions_of_prior_and_rows_are_summed() -> None:
    model = LVAE(SHAPE, D, options=OPTIONS).eval()
    guide, prior = nodes(model)
    q, p = guide["h"]["fn"].base_dist, prior["h"]["fn"].base_dist
    loc, raw = model.to_h(model.encoder(X))
    own = q.scale**-2 - p.scale**-2
    torch.testing.assert_close(own, positive_scale(raw) ** -2, rtol=1e-3, atol=1e-3)
    expected = loc * positive_scale(raw) ** -2
    found = q.loc * q.scale**-2 - p.loc * p.scale**-2
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert (q.scale < p.scale).all()


def test_without_information_in_the_rows_the_posterior_is_the_prior() -> None:
    """Of the lower layer: its KL term is 0, while the plain layers pay for p(h|z)."""
    model = LVAE(SHAPE, D, options=OPTIONS).eval()
    with torch.no_grad():
        model.to_h.layers[-1].weight.zero_()
        model.to_h.layers[-1].bias.copy_(torch.cat([torch.zeros(2 * D), torch.full((2 * D,), 1e3)]))
    guide, prior = nodes(model)
    torch.testing.assert_close(guide["h"]["fn"].base_dist.scale, prior["h"]["fn"].base_dist.scale)
    kl = kl_divergence(guide["h"]["fn"], prior["h"]["fn"])
    assert kl.abs().max() < 1e-4


def test_plain_layers_are_inferred_from_below() -> None:
    model = LVAE(SHAPE, D, lower_dim=3, top_down=False, options=OPTIONS).eval()
    guide, _ = nodes(model)
    assert [name for name in guide if name in "hz"] == ["h", "z"] == list(model.latents)
    assert guide["h"]["value"].shape == (5, 3)
    terms = TraceObjective(model.model, model.guide, latents=model.latents)(X)
    terms.loss.backward()
    assert {"kl_h", "kl_z"} <= terms.parts.keys()
    assert all(p.grad is not None for p in model.parameters())


def test_the_closed_form_has_the_mean_of_the_sampled_terms() -> None:
    torch.manual_seed(0)
    model = LVAE(SHAPE, D, options=OPTIONS).eval()
    pair = {}
    for objective in (AnalyticObjective, TraceObjective):
        made = objective(model.model, model.guide, latents=model.latents, particles=3000)
        with torch.no_grad():
            pair[objective] = made(X).parts["elbo"]
    torch.testing.assert_close(*pair.values(), atol=0.05, rtol=0)


def test_draws_vary_in_both_layers() -> None:
    model = LVAE(SHAPE, D, options=OPTIONS).eval()
    z = torch.zeros(200, D)
    assert model.decode(z).std(0).max() < 1e-6
    assert model.generate(200).std(0).min() > 0
