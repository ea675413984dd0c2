"""FactorGMMVAE: with the class alone it is GMMVAE, with more factors its density is the formula."""

import inspect
from typing import Any

import pytest
import torch
from pyro import poutine
from torch import Tensor

from pyro_gmmvae.distributions import Concrete, GaussianProduct
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import ProductGuide
from pyro_gmmvae.models import GMMVAE, MODELS
from pyro_gmmvae.models.factors import FactorGMMVAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES
from tests.models.test_contract import OF_IMAGES

SHAPE, K, D = (6,), 3, 2
OPTIONS = NetworkOptions(hidden=(8,), dropout=0.2, skip=True)


def build(**values: Any) -> FactorGMMVAE:
    given: dict[str, Any] = {"factors": {"view": 2, "pace": 4}, "likelihood": "normal"}
    return FactorGMMVAE(SHAPE, K, D, **({"options": OPTIONS} | given | values))


def objective(model: Any, name: str = "analytic") -> Any:
    found = OBJECTIVES[name](
        model.model, model.guide, latents=model.latents, label_sites=model.label_sites
    )
    found.alpha.fill_(2.0)
    return found


def rows() -> tuple[Tensor, Tensor]:
    return torch.randn(10, *SHAPE), torch.tensor([0, 1, 2, -1, -1, 0, -1, 2, -1, 1])


@pytest.mark.parametrize("learn_prior", [False, True])
@pytest.mark.parametrize("name", ["analytic", "trace", "iwae"])
def test_without_further_factors_it_is_the_gmmvae(name: str, learn_prior: bool) -> None:
    """Same weights, same noise: same loss, same gradients."""
    one = GMMVAE(
        SHAPE, K, D, guide=ProductGuide, likelihood="normal", learn_prior=learn_prior,
        options=OPTIONS,
    )  # fmt: skip
    other = build(factors=None, learn_prior=learn_prior)
    names = {
        "guide.encoder": "encoder",
        "mixture": "mixtures.0",
        "guide.temperature": "temperature",
    }

    def renamed(key: str) -> str:
        for old, new in names.items():
            key = new + key[len(old) :] if key.startswith(old) else key
        return key

    other.load_state_dict({renamed(key): value for key, value in one.state_dict().items()})
    assert other.latents == one.latents
    (x, y), losses = rows(), []
    for model in (one, other):
        torch.manual_seed(3)
        terms = objective(model, name)(x, y)
        terms.loss.backward()
        losses.append(terms)
    assert losses[0].loss.item() == losses[1].loss.item()
    assert losses[0].parts == losses[1].parts
    gradients = {renamed(key): p.grad for key, p in one.named_parameters()}
    for key, parameter in other.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[key], rtol=0, atol=0)
    one.eval(), other.eval()
    torch.testing.assert_close(one.classify(x), other.classify(x), rtol=0, atol=0)
    torch.testing.assert_close(one.embed(x), other.embed(x), rtol=0, atol=0)


def priors(model: FactorGMMVAE, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
    trace = poutine.trace(model.model).get_trace(x, y)
    return {site: trace.nodes[site]["fn"].probs for site in model.label_sites}


def test_a_label_is_the_prior_of_its_site_and_unlabelled_sites_are_flat() -> None:
    model, (x, _) = build(label_eps=0.1), rows()
    y = torch.full((10, 3), -1)
    y[0], y[1, 2] = torch.tensor([2, 1, 0]), 3
    found = priors(model, x, y)
    sizes = {"s": 3, "s_view": 2, "s_pace": 4}
    expected = {site: torch.full((10, size), 1 / size) for site, size in sizes.items()}
    for site, row, label in (("s", 0, 2), ("s_view", 0, 1), ("s_pace", 0, 0), ("s_pace", 1, 3)):
        expected[site][row] = 0.1 / (sizes[site] - 1)
        expected[site][row, label] = 0.9
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["analytic", "trace"])
def test_labels_of_the_class_alone_are_a_first_column(name: str) -> None:
    model, (x, y) = build().eval(), rows()
    forms = [y, y.unsqueeze(1), torch.stack([y, torch.full_like(y, -1)], 1)]
    forms += [torch.cat([y.unsqueeze(1), torch.full((10, 2), -1)], 1)]
    losses = []
    for form in forms:
        torch.manual_seed(4)
        losses.append(objective(model, name)(x, form).loss.item())
    assert losses == [pytest.approx(losses[0], rel=1e-6)] * 4


def test_the_joint_density_is_the_formula() -> None:
    """log p(x, z.., s..) and log q by hand, a term per factor."""
    model, (x, y) = build().eval(), rows()
    labels = torch.stack([y, y.clamp_max(1), y], 1)
    guide = poutine.trace(model.guide).get_trace(x, labels)
    trace = poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(x, labels)
    trace.compute_log_prob(), guide.compute_log_prob()
    names = ("", "_view", "_pace")
    p = q = torch.zeros(10)
    z, s = ([guide.nodes[f"{letter}{n}"]["value"] for n in names] for letter in "zs")
    for k, head in enumerate(model.heads(x).values()):
        mixture = model.mixtures[k]
        p = p + mixture.prior(10, labels[:, k], relaxed=True).log_prob(s[k])
        p = p + mixture(s[k]).log_prob(z[k])
        q = q + Concrete(model.temperature, logits=head[0]).log_prob(s[k])
        q = q + GaussianProduct(s[k], *head[1:]).log_prob(z[k])
    p = p + model.observation(torch.cat([*z, *s], -1)).log_prob(x)
    for found, expected in ((trace, p), (guide, q)):
        sites = [n for n in found.nodes.values() if n["type"] == "sample" and n["name"] != "rows"]
        torch.testing.assert_close(sum(n["log_prob"] for n in sites), expected)


def test_every_factor_has_its_classification_term() -> None:
    model, (x, _) = build().eval(), rows()
    y = torch.full((10, 3), -1)
    y[:4, 0], y[2:9, 2] = torch.tensor([0, 1, 2, 0]), torch.arange(7) % 4
    terms = objective(model)(x, y)
    heads = list(model.heads(x).values())
    expected = sum(
        torch.nn.functional.cross_entropy(heads[k][0][seen], y[seen, k])
        for k, seen in ((0, y[:, 0] >= 0), (2, y[:, 2] >= 0))
    )
    torch.testing.assert_close(terms.parts["classification"], expected.detach())


def test_decode_takes_what_embed_returns() -> None:
    model, (x, _) = build().eval(), rows()
    z, s = model.embed(x), model.classify(x).exp()
    assert z.shape == (10, 3 * D)
    undecided = torch.cat([s, torch.full((10, 2), 1 / 2), torch.full((10, 4), 1 / 4)], -1)
    torch.testing.assert_close(model.decode(z, s), model.decode(z, undecided))
    prior = model.prior_of_z(s)
    loc, scale = prior.mean, prior.stddev
    assert loc.shape == scale.shape == (10, 3 * D)
    product = model.mixtures[0](s)
    torch.testing.assert_close(loc[:, :D], product.mean)
    torch.testing.assert_close(scale[:, :D], product.stddev)
    probs = model.classify_factors(x)
    assert {name: tuple(p.shape) for name, p in probs.items()} == {"view": (10, 2), "pace": (10, 4)}
    for p in probs.values():
        torch.testing.assert_close(p.exp().sum(1), torch.ones(10))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"factors": {"view": 0}}, "components_view"),
        ({"factors": {"camera view": 2}}, "'camera view': a name of letters"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"likelihood": "gauss"}, "unknown likelihood"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(GMMVAEError, match=message):
        build(**values)


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(OF_IMAGES)))
def test_missing_entries_give_finite_losses_and_gradients(name: str) -> None:
    """For every model, rows with NaN have a finite loss, and weights finite gradients."""
    values: dict[str, Any] = {"components": K, "latent_dim": D, "factors": {"view": 2}}
    values |= {"likelihood": "normal", "options": NetworkOptions(hidden=(8,), missing=True)}
    wanted = inspect.signature(MODELS[name]).parameters
    model = MODELS[name](SHAPE, **{k: v for k, v in values.items() if k in wanted})
    x, y = rows()
    x[torch.rand(10, *SHAPE) < 0.4], x[3] = torch.nan, torch.nan
    chosen = model.default_objective
    terms = objective(model, chosen)(x, y)
    terms.loss.backward()
    assert terms.loss.isfinite()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)
    model.eval()
    assert model.embed(x).isfinite().all()
    if model.components:
        assert model.classify(x).isfinite().all()


def test_a_tilted_posterior_of_factors_has_categorical_divergences() -> None:
    """The KL of each factor is exact: that of its class probabilities, from the row's prior."""
    torch.manual_seed(0)
    options = NetworkOptions(hidden=(8,))
    model = build(factors={"view": 2}, tilted=True, options=options)
    x, y = torch.randn(8, 6), torch.tensor([[0, -1], [-1, 1], [-1, -1], [2, 0]] * 2)
    found = objective(model)
    kl = found.estimate(x, y).kl
    for column, (name, mixture) in enumerate(model.mixture_priors.items()):
        log_q = model.heads(x)[name][0].log_softmax(-1)
        log_p = mixture.prior(8, y[:, column], relaxed=True).logits.log_softmax(-1)
        expected = (log_q.exp() * (log_q - log_p)).sum(-1)
        torch.testing.assert_close(kl[f"s_{name}".rstrip("_")], expected)
    found(x, y).loss.backward()
    assert all(p.grad is not None for p in model.encoder.parameters())
