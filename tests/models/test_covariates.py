"""Covariates: given to the decoder of every model, no part of x, and drawn where none are given."""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pyro import poutine
from torch import Tensor

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.evaluation.latent_draws import guide_draws, predictive_draws, prior_draws
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS, Covariates
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.param_store import LocalParams
from tests.models.test_columns_contract import GUIDED
from tests.models.test_contract import OF_IMAGES, build_objective, needs_trace

SITES = tuple("ABC")
COLUMNS = (
    Column("site", "category", SITES, knots=(0.0,) * 5 + (2.0,) * 5, given=True),
    Column("size", "real", knots=(-2.0, 0.0, 2.0)),
    Column("age", "real", knots=(-2.0, 0.0, 0.5, 2.0), given=True),
    Column("color", "category", tuple("abcd")),
)
GIVEN = [0, 2]
K, D = 3, 2
OPTIONS = NetworkOptions(hidden=(16,), missing=True, columns=COLUMNS)


def build(name: str, guide: str | None = None, options: NetworkOptions = OPTIONS) -> Any:
    wanted = inspect.signature(MODELS[name]).parameters
    sizes = {"components": K, "latent_dim": D, "factors": {"view": 2}}
    given: dict[str, Any] = {k: v for k, v in sizes.items() if k in wanted}
    if guide is not None:
        given["guide"] = GUIDES[guide]
    return MODELS[name]((len(COLUMNS),), likelihood="columns", options=options, **given)


VARIANTS: dict[str, Callable[[], Any]] = {
    f"{name}:{guide or 'own'}": lambda name=name, guide=guide: build(name, guide)
    for name in MODELS
    if name not in OF_IMAGES
    for guide in GUIDED.get(name, [None])
}
every_variant = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)


def rows(n: int = 9) -> tuple[Tensor, Tensor]:
    """Rows with missing cells, also of covariates; the second half is unlabelled."""
    places = torch.arange(n)
    x = torch.stack([places % 3, places / n, places / n - 0.5, places % 4], -1)
    x[1, 0] = x[2, 2] = x[3, 3] = math.nan
    y = places % K
    y[n // 2 :] = -1
    return x, y


def at_site(x: Tensor, site: float) -> Tensor:
    return torch.cat([torch.full_like(x[:, :1], site), x[:, 1:]], -1)


def log_px(model: Any, x: Tensor, y: Tensor, latents: dict[str, Tensor]) -> Tensor:
    with torch.no_grad(), LocalParams():
        trace = poutine.trace(poutine.condition(model.model, data=latents)).get_trace(x, y)
        trace.compute_log_prob()
    return trace.nodes["x"]["log_prob"]


@every_variant
def test_every_model_decodes_with_the_covariates_of_its_rows(make: Callable[[], Any]) -> None:
    (x, y), model = rows(), make()
    objective = build_objective(model, "trace" if needs_trace(model) else "analytic")
    terms = objective(x, y)
    terms.loss.backward()
    assert terms.loss.isfinite()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert not [n for n, g in gradients.items() if g is None or not g.isfinite().all()]
    assert not [n for n, g in gradients.items() if g is not None and g.abs().sum() == 0]

    model.eval()
    with torch.no_grad(), LocalParams():
        guide = poutine.trace(model.guide).get_trace(x, y)
        z = model.embed(x)
        s = (
            torch.cat([model.classify(x).exp(), *model.classify_factors(x).values()], -1)
            if (model.class_conditional)
            else None
        )
        means = [model.decode(z, s, at_site(x, site)) for site in (0.0, 1.0)]
        typical = model.decode(z, s)
    latents = {site: guide.nodes[site]["value"] for site in model.latents}
    # a labelled row of an autoencoder has no latent: its encoder gets the covariate as well
    sites = [log_px(model, at_site(x, site), y, latents) for site in (0.0, 1.0)]
    assert ((sites[0] != sites[1]) | (model.given_class & (y < 0))).all()
    assert (means[0][:, 1] != means[1][:, 1]).all()
    for mean, site in zip(means, (0.0, 1.0), strict=True):
        torch.testing.assert_close(mean[:, GIVEN], at_site(x, site)[:, GIVEN], equal_nan=True)
    assert typical.isfinite().all()
    assert typical[0, 0] in (0, 2)  # both are as frequent
    assert (typical[:, 2] == typical[0, 2]).all()


@every_variant
def test_every_model_generates_with_given_covariates(make: Callable[[], Any]) -> None:
    model = make().eval()
    if not model.latents:
        return
    made = []
    for site in (0.0, 1.0):
        torch.manual_seed(0)
        row = torch.tensor([[site, math.nan, math.nan, math.nan]])
        made.append(model.generate(6, 1 if model.class_conditional else None, given=row))
    assert (made[0][:, 0] == 0).all()
    assert (made[1][:, 0] == 1).all()
    assert (made[0][:, 2] == made[1][:, 2]).all()  # a draw of age
    assert (made[0][:, 1] != made[1][:, 1]).all()
    draws = model.generate(400, mean=False)
    assert draws.isfinite().all()
    assert set(draws[:, 0].tolist()) == {0.0, 2.0}
    assert set(draws[:, 2].tolist()) == {-2.0, 0.0, 0.5, 2.0}


def test_a_covariate_has_no_term_and_no_output() -> None:
    model, (x, _) = build("vae").eval(), rows()
    p = model.observe(torch.zeros(len(x), D), given=x)
    assert torch.equal(p.log_prob(x), p.log_prob(at_site(x, 1.0)))
    entries = p.log_prob_of_entries(x)
    assert (entries[:, GIVEN] == 0).all()
    assert (entries[:, 1] != 0).all()
    assert torch.equal(p.sample((2,))[0][:, GIVEN].isnan(), x[:, GIVEN].isnan())
    torch.testing.assert_close(p.expand((3, len(x))).mean[2], p.mean, equal_nan=True)
    assert p.parameters.shape == (len(x), 1 + 4)


def test_draws_for_arviz_hold_the_covariates_of_their_rows() -> None:
    x, _ = rows()
    for model in (build("sdgm").eval(), build("adgm").eval()):
        latents = guide_draws(model.model, model.guide, x, 3, 2).latents
        parts = [*predictive_draws(model.model, latents, x), prior_draws(model.model, x, 3)[1]]
        for part in parts:
            own = torch.tensor(part)[..., GIVEN]
            wanted = x[:, GIVEN].expand(own.shape)
            torch.testing.assert_close(own, wanted, equal_nan=True, rtol=0, atol=0)


def test_models_without_covariates_have_no_part_for_them() -> None:
    columns = tuple(replace(column, given=False) for column in COLUMNS)
    model = build("vae", options=replace(OPTIONS, columns=columns))
    assert model.observation.covariates is None
    x, _ = rows()
    z = torch.zeros(len(x), D)
    assert torch.equal(model.decode(z, given=x), model.decode(z))


def test_covariates_are_drawn_by_their_shares() -> None:
    columns = (
        Column("count", "count", knots=(0.0, 1.5, 7.0), given=True),
        Column("x", "real", knots=(0.0, 1.0)),
        Column("sex", "binary", ("f", "m"), given=True),
        Column("grade", "category", tuple("abc"), knots=(0.0, 2.0, 2.0), given=True),
    )
    covariates = Covariates(columns)
    torch.manual_seed(0)
    drawn = covariates.draw(3000)
    assert drawn[:, 1].isnan().all()
    for place, shares in {0: {0: 1, 2: 1, 7: 1}, 2: {0: 1.5, 1: 1.5}, 3: {0: 1, 2: 2}}.items():
        for value, share in shares.items():
            found = (drawn[:, place] == value).double().mean()
            assert found.item() == pytest.approx(share / 3, abs=0.04)
    assert covariates.typical[0].nan_to_num(-1).tolist()[0] == 2
    assert covariates.typical[0, 3] == 2
    given = torch.full((1, 4), math.nan)
    given[0, 3] = 1
    torch.manual_seed(0)
    again = covariates.draw(3000, given)
    assert (again[:, 3] == 1).all()
    assert torch.equal(again[:, [0, 2]], drawn[:, [0, 2]])
