"""Rows of tables with missing cells: all models, guides and objectives take them."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import Tensor

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.guides import GUIDES
from pyro_gmmvae.models import MODELS, VAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import OBJECTIVES
from pyro_gmmvae.training.capture import CapturedStep
from tests.models.test_captured import evaluate
from tests.models.test_contract import OF_IMAGES, build_objective, needs_trace

COLUMNS = (
    Column("size", "real", knots=(-2.0, 0.0, 2.0)),
    Column("price", "positive", unit=1e4, knots=(0.1, 1.0, 9.0)),
    Column("error", "student-t", knots=(-2.0, 0.0, 2.0)),
    Column("visits", "count", knots=(0.0, 2.0, 40.0)),
    Column("smoker", "binary", ("no", "yes")),
    Column("color", "category", tuple("abc")),
    Column("zip", "category", tuple("abcdefg")),
    Column("grade", "ordinal", tuple("1234"), knots=(0.0, 1.0, 3.0)),
)
K, D = 3, 2
OPTIONS = NetworkOptions(hidden=(16,), missing=True, columns=COLUMNS)


def build(name: str, guide: str | None = None) -> Any:
    wanted = inspect.signature(MODELS[name]).parameters
    sizes = {"components": K, "latent_dim": D, "factors": {"view": 2}}
    given: dict[str, Any] = {k: v for k, v in sizes.items() if k in wanted}
    if guide is not None:
        given["guide"] = GUIDES[guide]
    return MODELS[name]((len(COLUMNS),), likelihood="columns", options=OPTIONS, **given)


GUIDED = {
    "gmmvae": list(GUIDES),
    "gmvae-discrete": [name for name in GUIDES if not GUIDES[name].relaxed_only],
}
VARIANTS: dict[str, Callable[[], Any]] = {
    f"{name}:{guide or 'own'}": lambda name=name, guide=guide: build(name, guide)
    for name in MODELS
    if name not in OF_IMAGES
    for guide in GUIDED.get(name, [None])
}
every_variant = pytest.mark.parametrize("make", VARIANTS.values(), ids=VARIANTS)


def rows(n: int = 12) -> tuple[Tensor, Tensor]:
    """Rows with missing cells, one of them empty; the second half is unlabelled."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, len(COLUMNS), generator=generator) + 0.1
    for place, column in enumerate(COLUMNS):
        if column.is_discrete or column.kind == "count":
            x[:, place] = torch.arange(n) % (len(column.values) or 30)
    x[torch.rand(x.shape, generator=generator) < 0.3] = math.nan
    x[5] = math.nan
    y = torch.arange(n) % K
    y[n // 2 :] = -1
    return x, y


@every_variant
def test_a_step_of_svi(make: Callable[[], Any]) -> None:
    (x, y), model = rows(), make()
    if "adversary" in str(model.key_defaults):
        return  # refused: see test_contract
    svi = SVI(model.model, model.guide, Adam({"lr": 0.01}), Trace_ELBO())
    assert math.isfinite(svi.step(x, y))
    assert all(p.isfinite().all() for p in model.parameters())
    z = model.eval().embed(x)
    assert z.isfinite().all()
    if model.latents:
        draws = model.generate(4, mean=False)
        assert draws.shape == (4, len(COLUMNS))
        assert (draws[:, 5] == draws[:, 5].round()).all()


@every_variant
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_give_every_parameter_a_gradient(
    make: Callable[[], Any], objective: str
) -> None:
    (x, y), model = rows(), make()
    if needs_trace(model) and objective in ("analytic", "categorical"):
        return  # refused; see test_contract
    terms = build_objective(model, objective)(x, y)
    terms.loss.backward()
    assert terms.loss.isfinite()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert not [n for n, g in gradients.items() if g is None or not g.isfinite().all()]
    assert not [n for n, g in gradients.items() if g is not None and g.abs().sum() == 0]


@pytest.mark.parametrize("name", ["vae:own", "gmmvae:product", "gmvae-discrete:own", "m2:own"])
def test_the_captured_step_equals_eager_evaluation(name: str) -> None:
    name = name if name in VARIANTS else name.replace("own", "mean-field")
    (x, y), model = rows(), VARIANTS[name]()
    objective = build_objective(model, "analytic")
    with pyro.validation_enabled(False):
        captured = evaluate(CapturedStep(objective, model), objective, model, x, y)
        eager = evaluate(objective, objective, model, x, y)
    for key, wanted in eager.items():
        if wanted is not None:
            torch.testing.assert_close(captured[key], wanted, msg=lambda m, k=key: f"{k}: {m}")


def test_the_columns_are_needed_and_fit_the_rows() -> None:
    with pytest.raises(GMMVAEError, match=r"got 8 columns for rows of shape \(5,\)"):
        VAE((5,), D, likelihood="columns", options=OPTIONS)
    with pytest.raises(GMMVAEError, match="got 0 columns"):
        VAE((5,), D, likelihood="columns")
