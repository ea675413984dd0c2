"""The contract of models and guides, for every entry of the tables."""

import copy
import inspect
import re
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Bernoulli, Normal
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.inspect import get_model_relations
from pyro.optim import Adam
from torch import Tensor, nn

from pyro_gmmvae.config import Config
from pyro_gmmvae.distributions import GaussianProduct
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES, ConditionalGuide, MixtureGuide
from pyro_gmmvae.models import (
    AE,
    GMMVAE,
    JMVAE,
    M1,
    MODELS,
    VAE,
    VIB,
    GMVAEDiscrete,
    LatentModel,
    M2Gumbel,
)
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES, TraceObjective
from pyro_gmmvae.training import Batches, Fit, FitSettings

Build = Callable[..., Any]
SHAPE, K, D = (1, 8, 8), 4, 3
OPTIONS = NetworkOptions(hidden=(16,), channels=(4, 8))


def gmmvae(guide: str, **values: Any) -> Build:
    def build(**more: Any) -> GMMVAE:
        values_ = {"options": OPTIONS, "learn_prior": True} | values | more
        return GMMVAE(SHAPE, K, D, guide=GUIDES[guide], **values_)

    return build


def vae(**more: Any) -> VAE:
    return VAE(SHAPE, D, **({"options": OPTIONS} | more))


def plain(name: str) -> Build:
    """A model without a choice of guides."""
    sizes = {"components": K, "latent_dim": D, "factors": {"view": 2}}
    wanted = inspect.signature(MODELS[name]).parameters

    def build(**more: Any) -> Any:
        given = {k: v for k, v in sizes.items() if k in wanted}
        return MODELS[name](SHAPE, **given, **({"options": OPTIONS} | more))

    return build


def discrete(guide: str) -> Build:
    def build(**more: Any) -> GMVAEDiscrete:
        more = {"options": OPTIONS, "learn_prior": True} | more
        return GMVAEDiscrete(SHAPE, K, D, guide=GUIDES[guide], **more)

    return build


MIXTURES = {"gmmvae", "gmvae-discrete"}
VARIANTS: dict[str, Build] = {name: plain(name) for name in set(MODELS) - MIXTURES}
VARIANTS = dict(sorted(VARIANTS.items()))
VARIANTS |= {f"gmmvae:{name}": gmmvae(name) for name in GUIDES}
VARIANTS |= {f"gmvae-discrete:{n}": discrete(n) for n in GUIDES if not GUIDES[n].relaxed_only}
VARIANTS |= {"gmmvae:conv": gmmvae("product", network="conv")}
LIKELIHOODS = ("normal", "continuous-bernoulli", "binomial(4)", "categorical(3)")
VARIANTS |= {f"gmmvae:{name}": gmmvae("product", likelihood=name) for name in LIKELIHOODS}
VARIANTS |= {
    "m2:discretized": lambda **more: plain("m2")(likelihood="discretized-logistic(5)", **more)
}
VARIANTS |= {f"gmmvae:{g}:full": gmmvae(g, covariance="full") for g in ("product", "bayes")}
every_model = pytest.mark.parametrize("build", VARIANTS.values(), ids=VARIANTS)
AGAINST_DISCRIMINATORS = {name for name in MODELS if "adversary" in str(MODELS[name].key_defaults)}
OF_IMAGES = ("draw", "pixel-vae")  # without missing pixels
TRAINED_BY_PYRO = {name: VARIANTS[name] for name in VARIANTS if name not in AGAINST_DISCRIMINATORS}
every_model_of_pyro = pytest.mark.parametrize(
    "build", TRAINED_BY_PYRO.values(), ids=TRAINED_BY_PYRO
)


@pytest.mark.parametrize("name", MODELS)
def test_a_parameter_of_a_model_has_no_name_of_another_key(name: str) -> None:
    of_models = {"network", "components", "factors", "guide", "likelihood", "latent_dim"}
    keys = {
        k for k, p in inspect.signature(MODELS[name]).parameters.items() if p.kind == p.KEYWORD_ONLY
    }
    assert not (keys - of_models) & set(Config.model_fields)


def test_every_model_has_a_variant_here() -> None:
    assert {name.split(":")[0] for name in VARIANTS} == set(MODELS)


def rows(n: int = 12) -> tuple[Tensor, Tensor]:
    """K prototypes of black and white pixels; the second half of the rows is unlabelled."""
    y = torch.arange(n) % K
    prototypes = torch.rand(K, *SHAPE, generator=torch.Generator(y.device).manual_seed(1)).round()
    x = prototypes[y]
    y[n // 2 :] = -1
    return x, y


@pytest.mark.parametrize("name", sorted(AGAINST_DISCRIMINATORS))
def test_plain_svi_is_refused_where_it_would_leave_the_discriminator_out(name: str) -> None:
    model, (x, y) = VARIANTS[name](), rows()
    svi = SVI(model.model, model.guide, Adam({"lr": 0.01}), Trace_ELBO())
    with pytest.raises(GMMVAEError, match="is fitted with a discriminator"):
        svi.step(x, y)
    model.eval()
    assert svi.evaluate_loss(x, y) > 0


@every_model_of_pyro
def test_plain_svi_trains_it(build: Build) -> None:
    """Pyro's SVI, Adam and Trace_ELBO, without a part of this package."""
    model, (x, y) = build(), rows(24)
    svi = SVI(model.model, model.guide, Adam({"lr": 0.01}), Trace_ELBO())
    losses = [svi.step(x, y) for _ in range(150 if "h" in model.latents else 90)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@every_model
def test_pyro_finds_the_factors_of_the_docstring(build: Build) -> None:
    """The formula of the docstring, which ``repr`` prints, and the program have the same p(x|.)."""
    model, (x, y) = build().eval(), rows(5)
    relations = get_model_relations(model.model, (x, y))
    assert relations["observed"] == (["x", "y"] if isinstance(model, JMVAE | VIB) else ["x"])
    formula = repr(model).splitlines()[0]
    assert formula.startswith("p(x") or isinstance(model, AE)
    if len(model.factors) < 2 and model.latents:
        parents = re.findall(r"p\(x\|([^)]*)\)", formula)[0].split(",")
        assert set(relations["sample_sample"]["x"]) == set(parents) & set(model.latents)


@every_model
def test_pyro_renders_the_model(build: Build) -> None:
    pytest.importorskip("graphviz")
    graph = pyro.render_model(build().model, model_args=rows(5), render_distributions=True)
    assert "x [label=x fillcolor=gray" in graph.source


@every_model
def test_predictive_samples_from_the_guide(build: Build) -> None:
    """Posterior samples of the latents, and of the rows that Pyro predicts from them."""
    model, (x, y) = build().eval(), rows(5)
    if not model.latents:
        return
    samples = Predictive(model.model, guide=model.guide, num_samples=4)(x, y)
    assert set(samples) == {*model.latents, "x"} | ({"y"} if isinstance(model, JMVAE) else set())
    guide = Predictive(model.guide, num_samples=2)(x, y)
    assert set(guide) == set(model.latents)
    for site in model.latents:
        assert samples[site].shape == (4, *guide[site].shape[1:])
    for site in model.label_sites:
        torch.testing.assert_close(samples[site].sum(-1), torch.ones(4, len(x)))


def test_predictive_samples_have_the_mean_of_embed() -> None:
    model, (x, _) = vae().eval(), rows(5)
    torch.manual_seed(0)
    z = Predictive(model.model, guide=model.guide, num_samples=300, return_sites=["z"])(x)["z"]
    assert ((z.mean(0) - model.embed(x)).abs() < 5 * z.std(0) / 300**0.5).all()


@every_model
def test_condition_fixes_the_latents(build: Build) -> None:
    """Handlers compose: with all latents fixed, the model only scores, and decodes these values."""
    model, (x, y) = build().eval(), rows(5)
    with torch.no_grad():
        guide = poutine.trace(model.guide).get_trace(x, y)
    values = {site: guide.nodes[site]["value"] for site in model.latents}
    trace = poutine.trace(poutine.condition(model.model, data=values)).get_trace(x, y)
    trace.compute_log_prob()
    sites = {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}
    assert all(sites[name]["is_observed"] for name in (*model.latents, "x"))
    for name, value in values.items():
        torch.testing.assert_close(sites[name]["value"], value)
    replayed = poutine.trace(poutine.replay(model.model, trace=guide)).get_trace(x, y)
    torch.testing.assert_close(trace.log_prob_sum(), replayed.log_prob_sum())
    if set(model.latents) <= {"z", model.class_site} and not model.given_class:
        z = values.get("z", model.embed(x))
        torch.manual_seed(1)  # a mean of pixel-vae is drawn
        mean = model.decode(z, values.get(str(model.class_site)))
        if not isinstance(model, M2Gumbel):  # its decoder gets the label in place of y
            torch.manual_seed(1)
            torch.testing.assert_close(mean, sites["x"]["fn"].mean)


def test_a_plain_module_trains_by_svi_and_by_fit() -> None:
    """Two programs and latents are enough: no base class is needed to train."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.encoder = nn.Linear(D, 64), nn.Linear(64, D)

        def model(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
            pyro.module("decoder", self.decoder)
            with pyro.plate("rows", len(x)):
                z = pyro.sample("z", Normal(torch.zeros(len(x), D), 1.0).to_event(1))
                pixels = Bernoulli(logits=self.decoder(z)).to_event(1)
                pyro.sample("x", pixels, obs=x.flatten(1))

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
            pyro.module("encoder", self.encoder)
            with pyro.plate("rows", len(x)):
                pyro.sample("z", Normal(self.encoder(x.flatten(1)), 0.1).to_event(1))

    (x, y), plain = rows(24), Plain()
    svi = SVI(plain.model, plain.guide, Adam({"lr": 0.01}), Trace_ELBO())
    losses = [svi.step(x, y) for _ in range(60)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    plain = Plain()
    objective = TraceObjective(plain.model, plain.guide, latents=("z",))
    batches = Batches(x, y, batch_size=24, labelled=0, seed=0)
    before = objective(x, y).loss
    fit = Fit(objective, plain, batches, FitSettings(epochs=60, learning_rate=0.01, engine="svi"))
    assert fit.run() == "complete"
    assert objective(x, y).loss < 0.95 * before


@every_model
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_parameter_gets_a_gradient(build: Build, objective: str) -> None:
    model, (x, y) = build(), rows()
    if needs_trace(model) and objective in ("analytic", "categorical"):
        with pytest.raises(GMMVAEError, match="use the objective 'trace'"):
            build_objective(model, objective)(x, y)
        return
    build_objective(model, objective)(x, y).loss.backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert not missing


def needs_trace(model: Any) -> bool:
    guide = model.guide
    own = guide.default_objective if isinstance(guide, MixtureGuide) else model.default_objective
    return own == "trace"


def build_objective(model: Any, name: str) -> nn.Module:
    return OBJECTIVES[name](
        model.model, model.guide, latents=model.latents, label_sites=model.label_sites
    )


@every_model
def test_a_reloaded_model_gives_the_same_loss(build: Build) -> None:
    (x, y), first, second = rows(), build(), build()
    second.load_state_dict(first.state_dict())
    losses = []
    for model in (first, second):
        torch.manual_seed(3)
        losses.append(build_objective(model.eval(), "trace")(x, y).loss.item())
    assert losses[0] == losses[1]


@every_model
def test_shapes(build: Build) -> None:
    model, (x, _) = build().eval(), rows(5)
    z = model.embed(x)
    assert z.shape == (5, D * max(1, len(model.factors)))
    assert model.has_classes() == (model.components > 0)
    if model.components:
        log_probs = model.classify(x)
        assert log_probs.shape == (5, K)
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(5))
    if model.class_conditional:
        assert model.decode(z, torch.eye(K)[:1].expand(5, K)).shape == x.shape
        assert model.generate(7, 2).shape == (7, *SHAPE)
    else:
        assert model.decode(z).shape == x.shape
    if model.latents:
        assert model.generate(7).shape == (7, *SHAPE)


@pytest.mark.parametrize("name", MODELS)
def test_constructors_list_their_arguments(name: str) -> None:
    """Configuration keys are read from them, and editors show them."""
    parameters = inspect.signature(MODELS[name]).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    assert {"x_shape", "latent_dim", "network", "likelihood", "options"} <= parameters.keys()
    assert ("components" in parameters) == MODELS[name].has_classes()


def test_facts_have_defaults() -> None:
    (x, y), model = rows(5), vae()
    assert model.components == 0
    assert model.label_sites == ()
    for facts in (model.factors, model.mixture_priors, model.scheduled, model.classify_factors(x)):
        assert not facts
    model.fit_classifier(x, y)  # does nothing
    assert model.prior_of_z(torch.zeros(2, 0)).log_prob(torch.zeros(2, D)).shape == (2,)
    with pytest.raises(GMMVAEError, match="VAE has no class"):
        model.classify(x)
    with pytest.raises(GMMVAEError, match="VAE does not depend on a class"):
        model.generate(2, 1)
    with pytest.raises(GMMVAEError, match="AE has no prior"):
        plain("ae")().generate(2)
    with pytest.raises(GMMVAEError, match="M1 does not depend on a class"):
        M1(SHAPE, K, D, options=OPTIONS).generate(2, 1)
    with pytest.raises(GMMVAEError, match="M2 decodes z and a class"):
        plain("m2")().decode(torch.zeros(2, D))
    with pytest.raises(TypeError, match="abstract"):
        LatentModel(SHAPE, latent_dim=D)  # type: ignore[abstract]


@every_model
def test_the_prior_of_z_is_that_of_the_program(build: Build) -> None:
    model, (x, y) = build().eval(), rows(5)
    torch.manual_seed(0)
    sites = poutine.trace(model.model).get_trace(x, y).nodes
    if "z" not in model.latents or len(model.factors) > 1:
        return
    s = sites[model.class_site]["value"] if model.class_site else torch.zeros(5, 0)
    z = torch.randn(5, D)
    program = sites["z"]["fn"].log_prob(z)
    torch.testing.assert_close(model.prior_of_z(s).log_prob(z), program)


@every_model_of_pyro
def test_two_models_share_no_parameters_under_svi(build: Build) -> None:
    """A copy too, whose modules start equal: Pyro's store is global and keyed by name."""
    first = build()
    second, (x, y) = copy.deepcopy(first), rows()
    untouched = {k: v.clone() for k, v in second.state_dict().items()}
    svi = SVI(first.model, first.guide, Adam({"lr": 0.1}), Trace_ELBO())
    svi.step(x, y)
    assert all(torch.equal(v, untouched[k]) for k, v in second.state_dict().items())
    SVI(second.model, second.guide, Adam({"lr": 0.1}), Trace_ELBO()).step(x, y)
    changed = [k for k, v in second.named_parameters() if not torch.equal(v, untouched[k])]
    assert changed


@every_model
def test_objectives_leave_the_param_store_empty(build: Build) -> None:
    model, (x, y) = build(), rows()
    build_objective(model, "trace")(x, y)
    assert len(pyro.get_param_store()) == 0


@every_model
def test_no_labels_means_all_rows_unlabelled(build: Build) -> None:
    model, (x, _) = build().eval(), rows()
    losses = []
    for y in (None, torch.full((len(x),), -1)):
        torch.manual_seed(5)
        losses.append(Trace_ELBO().loss(model.model, model.guide, x, y))
    assert losses[0] == losses[1]


def test_a_label_is_the_prior_of_s() -> None:
    model = gmmvae("product", label_eps=0.1)(learn_prior=False)
    prior = model.prior_of_s(3, torch.tensor([2, -1, 0]))
    expected = torch.full((3, K), 0.1 / (K - 1))
    expected[0, 2] = expected[2, 0] = 0.9
    expected[1] = 1 / K
    torch.testing.assert_close(prior.probs, expected)


def test_labels_change_only_the_prior_of_s() -> None:
    """Same draws, other labels: log p(x|.), p(z|s) and the guide's densities stay."""
    model, (x, y) = gmmvae("product")().eval(), rows()
    parts = []
    for labels in (y, None):
        torch.manual_seed(7)
        parts.append(build_objective(model, "trace")(x, labels).parts)
    assert parts[0]["log_px"] == parts[1]["log_px"]
    assert parts[0]["kl_z"] == parts[1]["kl_z"]
    assert parts[0]["kl_s"] != parts[1]["kl_s"]


def test_prior_of_z_is_the_gaussian_product() -> None:
    model = gmmvae("product")()
    assert isinstance(model.mixture(torch.eye(K)), GaussianProduct)
    torch.testing.assert_close(model.mixture(torch.eye(K)).mean, model.mixture.loc.detach())


def test_a_guide_is_swapped_by_assignment() -> None:
    model, (x, y) = gmmvae("product")(), rows()
    model.guide = ConditionalGuide(model)
    SVI(model.model, model.guide, Adam({"lr": 0.01}), Trace_ELBO()).step(x, y)
    assert model.classify(x).shape == (len(x), K)


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_refuses_a_model_without_s(guide: str) -> None:
    with pytest.raises(GMMVAEError, match="has no s"):
        GUIDES[guide](vae())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"label_eps": 1.0}, "label_eps must be between"),
        ({"network": "mpl"}, "did you mean 'mlp'"),
        ({"likelihood": "gauss"}, "unknown likelihood"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(GMMVAEError, match=message):
        gmmvae("product")(**values)


def test_generating_an_unknown_class_is_refused() -> None:
    with pytest.raises(GMMVAEError, match=r"out of range 0\.\.3"):
        gmmvae("product")().generate(1, 4)


def test_moving_the_model_moves_its_scheduled_buffers() -> None:
    model = gmmvae("product")().double()
    assert {t.dtype for t in model.scheduled.values()} == {torch.float64}
    model.scheduled["temperature"].fill_(0.25)
    assert model.guide.temperature.item() == 0.25
