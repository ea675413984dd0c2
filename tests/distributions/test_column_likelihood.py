"""Columns: torch's own densities, sums and integrals of 1 in the file's units, draws, missing."""

import math
import time
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as td

from pyro_gmmvae.column_spec import Column, outputs_of
from pyro_gmmvae.distributions import ColumnLayout, ColumnParameters, Columns
from pyro_gmmvae.distributions.column_likelihood import negative_binomial
from pyro_gmmvae.errors import GMMVAEError

UNIT = 250.0
VALUES = ("a", "b", "c", "d")
ONE = {
    "real": Column("c", "real", unit=UNIT),
    "student-t": Column("c", "student-t", unit=UNIT),
    "positive": Column("c", "positive", unit=UNIT),
    "count": Column("c", "count"),
    "binary": Column("c", "binary", ("no", "yes")),
    "category": Column("c", "category", VALUES),
    "ordinal": Column("c", "ordinal", VALUES),
}
TABLE = (
    Column("size", "real", unit=2.0),
    Column("color", "category", tuple("abc")),
    Column("site", "category", tuple("xy"), given=True),
    Column("visits", "count"),
    Column("grade", "ordinal", tuple("1234")),
    Column("price", "positive", unit=1e5),
    Column("smoker", "binary", ("no", "yes")),
    Column("zip", "category", tuple(str(code) for code in range(40))),
    Column("error", "student-t", unit=1e-3),
    Column("level", "ordinal", ("low", "high")),
    Column("age", "real", given=True),
)
every_kind = pytest.mark.parametrize("kind", ONE)


@pytest.fixture(autouse=True)
def _double() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def one(kind: str, parameters: Tensor, scale: float = 0.4) -> Columns:
    """A row of one column."""
    layout = ColumnLayout([ONE[kind]])
    scales = torch.tensor([scale]) if layout.scales else None
    cuts = torch.tensor([[-1.0], [0.3], [2.0]]) if layout.cuts else None
    return Columns(parameters, layout, scales, cuts)


def outputs(kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, ONE[kind].outputs, generator=generator)


def values(kind: str) -> Tensor:
    x = torch.tensor([0.0, 1.0, 2.0, 3.0, 1.0, 2.0])
    return {"binary": x % 2, "positive": x + 0.3, "real": x - 1.4}.get(kind, x)[:, None]


def reference(kind: str, p: Tensor, scale: float = 0.4) -> Any:
    """The distribution of torch of the file's values, and of the codes of ordinal columns."""
    loc = p[:, 0]
    if kind == "ordinal":
        below = torch.sigmoid(torch.tensor([-1.0, 0.3, 2.0]) - loc[:, None])
        edges = torch.cat([torch.zeros(len(p), 1), below, torch.ones(len(p), 1)], -1)
        return td.Categorical(probs=edges.diff(dim=-1))
    return {
        "real": lambda: td.Normal(UNIT * loc, UNIT * scale),
        "student-t": lambda: td.StudentT(4.0, UNIT * loc, UNIT * scale),
        "positive": lambda: td.LogNormal(loc + math.log(UNIT), scale),
        "count": lambda: td.NegativeBinomial(1 / scale, logits=loc + math.log(scale)),
        "binary": lambda: td.Bernoulli(logits=loc),
        "category": lambda: td.Categorical(logits=p),
    }[kind]()


@every_kind
def test_a_column_has_the_density_of_torch(kind: str) -> None:
    p, x = outputs(kind), values(kind)
    unit = ONE[kind].unit
    wanted = reference(kind, p).log_prob(x[:, 0] * unit)
    torch.testing.assert_close(one(kind, p).log_prob(x), wanted)
    torch.testing.assert_close(one(kind, p).log_prob_of_entries(x)[:, 0], wanted)
    single = one(kind, p.float()).log_prob(x.float())
    torch.testing.assert_close(single, wanted.float(), atol=1e-5, rtol=1e-5, check_dtype=False)


@pytest.mark.parametrize("kind", ["real", "student-t", "positive"])
def test_densities_integrate_to_one_in_the_file_units(kind: str) -> None:
    reach = torch.linspace(-8, 8, 40_001)
    x = torch.exp(reach) if kind == "positive" else torch.sinh(reach)  # far out for heavy tails
    density = one(kind, torch.tensor([[0.5]])).log_prob(x[:, None]).exp()
    assert torch.trapezoid(density, x * UNIT).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", ["count", "binary", "category", "ordinal"])
def test_probabilities_sum_to_one(kind: str) -> None:
    each = torch.arange(400.0 if kind == "count" else len(ONE[kind].values))
    total = one(kind, outputs(kind)[:, None]).log_prob(each[None, :, None]).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones(6))


@every_kind
def test_draws_have_the_mean(kind: str) -> None:
    torch.manual_seed(0)
    p = one(kind, outputs(kind))
    draws = p.sample((40_000,))
    assert draws.shape == (40_000, 6, 1)
    if kind in ("category", "ordinal"):  # the mean is the most probable code
        chosen = torch.stack([(draws == k).double().mean(0) for k in range(len(VALUES))])
        torch.testing.assert_close(p.mean, chosen.argmax(0).double())
        probs = torch.stack([p.log_prob(torch.full((6, 1), float(k))).exp() for k in range(4)])
        torch.testing.assert_close(chosen[..., 0], probs, atol=0.01, rtol=0)
        return
    error = draws.std(0) / 40_000**0.5
    assert ((draws.mean(0) - p.mean).abs() < 5 * error).all()
    wanted = reference(kind, outputs(kind))
    torch.testing.assert_close(p.mean[:, 0] * ONE[kind].unit, wanted.mean)
    if kind != "student-t":  # the fourth moment of the Student-t is infinite
        spread = draws.std(0)[:, 0] * ONE[kind].unit
        torch.testing.assert_close(spread, wanted.stddev, rtol=0.05, atol=0)


@every_kind
def test_no_value_is_more_probable_than_the_mode(kind: str) -> None:
    p = one(kind, 3 * outputs(kind))
    best = p.log_prob(p.mode)
    if ONE[kind].is_discrete:
        others = torch.arange(float(len(ONE[kind].values)))
    else:
        others = torch.arange(60.0) if kind == "count" else torch.linspace(0.01, 9, 300)
    tried = one(kind, 3 * outputs(kind)[:, None]).log_prob(others[None, :, None])
    if kind == "positive":  # the mode is that of the density of the value
        torch.testing.assert_close(p.mode, (3 * outputs(kind) - 0.16).exp())
    assert (tried <= best[:, None] + 1e-9).all()


@pytest.mark.parametrize("log_mean", [-25.0, -3.0, 0.0, 4.0])
@pytest.mark.parametrize("log_dispersion", [-40.0, -9.0, -4.0, 0.0, 5.0])
def test_counts_are_stable_at_all_means_and_dispersions(
    log_mean: float, log_dispersion: float
) -> None:
    """Against torch's Poisson and its own; below 1e-8 a dispersion has no effect."""
    a = torch.tensor(log_dispersion, requires_grad=True)
    eta = torch.tensor(log_mean, requires_grad=True)
    x = torch.tensor([0.0, 1.0, 7.0, 300.0, math.ceil(math.exp(log_mean))])
    found = negative_binomial(x, eta, a)
    gradients = torch.autograd.grad(found.sum(), [eta, a])
    assert all(g.isfinite() for g in gradients)
    if log_dispersion < -30:
        wanted = td.Poisson(eta.exp()).log_prob(x)
    else:
        wanted = td.NegativeBinomial((-a).exp(), logits=eta + a).log_prob(x)
    torch.testing.assert_close(
        found, wanted, rtol=1e-6, atol=1e-3 if log_dispersion < -30 else 1e-6
    )
    if log_dispersion > -8:
        other = torch.autograd.grad(wanted.sum(), [eta, a])
        torch.testing.assert_close(gradients, other, rtol=1e-4, atol=1e-4)
    single = negative_binomial(x.float(), eta.detach().float(), a.detach().float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), found.detach(), rtol=1e-4, atol=1e-4)


def rows(n: int = 5) -> Tensor:
    """Rows of the table in the model's units."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, len(TABLE), generator=generator) + 0.1
    for place, column in enumerate(TABLE):
        top = len(column.values) or 20
        if column.is_discrete or column.kind == "count":
            x[:, place] = torch.randint(top, (n,), generator=generator)
    return x


def table(*batch: int) -> Columns:
    torch.manual_seed(2)
    parameters = ColumnParameters(TABLE)
    with torch.no_grad():
        for raw in parameters.parameters():
            raw.add_(torch.randn_like(raw))
    made: Columns = parameters(torch.randn(*batch, outputs_of(TABLE), requires_grad=True))
    return made


def test_a_row_is_the_sum_of_its_columns() -> None:
    """Each column alone, with its slice of the parameters, has the entry of the whole row."""
    p, x = table(5), rows()
    entries = p.log_prob_of_entries(x)
    torch.testing.assert_close(entries.sum(-1), p.log_prob(x))
    start = 0
    mean, mode = p.mean, p.mode
    numbers = [
        c
        for kind in ("real", "positive", "student-t", "count")
        for c in TABLE
        if c.kind == kind and not c.given
    ]
    ordinals = [c for c in TABLE if c.kind == "ordinal"]
    assert p.scales is not None
    assert p.cuts is not None
    for place, column in enumerate(TABLE):
        if column.given:
            assert (entries[:, place] == 0).all()
            assert mean[:, place].isnan().all()
            assert p.sample()[:, place].isnan().all()
            continue
        own = p.parameters[:, start : start + column.outputs]
        scale = p.scales[numbers.index(column)][None] if column in numbers else None
        cuts = (
            p.cuts[: len(column.values) - 1, [ordinals.index(column)]]
            if (column in ordinals)
            else None
        )
        single = Columns(own, ColumnLayout([column]), scale, cuts)
        torch.testing.assert_close(entries[:, place], single.log_prob(x[:, [place]]))
        torch.testing.assert_close(mean[:, [place]], single.mean)
        torch.testing.assert_close(mode[:, [place]], single.mode)
        start += column.outputs
    assert start == outputs_of(TABLE)


def test_probabilities_of_codes_are_those_of_the_density() -> None:
    p = table(3, 1)
    probs = p.code_probs()
    assert sorted(probs) == [n for n, c in enumerate(TABLE) if c.is_discrete and not c.given]
    for number, found in probs.items():
        assert found.shape == (3, 1, len(TABLE[number].values))
        for code in range(found.shape[-1]):
            x = torch.full((1, len(TABLE)), float(code))
            wanted = p.log_prob_of_entries(x)[..., number]
            torch.testing.assert_close(found[..., code].log(), wanted)


def test_missing_cells_carry_no_term_and_no_gradient() -> None:
    p, x = table(5), rows()
    hidden = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.4
    hidden[4] = True
    entries = p.log_prob_of_entries(x)
    left = p.log_prob(torch.where(hidden, math.nan, x))
    torch.testing.assert_close(left, entries.masked_fill(hidden, 0).sum(-1))
    assert left[4] == 0
    leaf = p.parameters
    leaf.retain_grad()
    left.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    assert (leaf.grad[4] == 0).all()
    starts = torch.tensor([c.outputs for c in TABLE]).cumsum(0)
    for place, column in enumerate(TABLE):
        own = leaf.grad[:, starts[place] - column.outputs : starts[place]]
        assert ((own == 0).all(-1) == (hidden[:, place] | column.given)).all(), column


def test_leading_axes_broadcast() -> None:
    x = rows()
    x[0, :3] = math.nan
    p = table(3, 1)  # of a class that is summed out, in front of the rows
    assert p.batch_shape == (3, 1)
    each = torch.stack([p.log_prob_of_entries(row) for row in x], 2)[:, 0]
    found = p.log_prob_of_entries(x)
    assert found.shape == (3, 5, len(TABLE))
    torch.testing.assert_close(found, each)
    torch.testing.assert_close(p.log_prob(x), found.sum(-1))
    torch.testing.assert_close(p.expand([3, 5]).log_prob(x), p.log_prob(x))
    assert p.expand([3, 5]).sample((2,)).shape == (2, 3, 5, len(TABLE))
    wide = table(5)  # rows with an axis that the parameters lack
    torch.testing.assert_close(wide.log_prob(torch.stack([x, x])), wide.log_prob(x).expand(2, 5))


def test_values_outside_the_support_have_no_probability_and_no_broken_gradient() -> None:
    for kind, value in (("positive", 0.0), ("positive", -1.0), ("count", -2.0)):
        p = outputs(kind).requires_grad_()
        found = one(kind, p).log_prob(torch.full((6, 1), value))
        assert (found == -math.inf).all()
        found.sum().backward()
        assert p.grad is not None
        assert p.grad.isfinite().all()


def test_wide_categories_of_different_sizes() -> None:
    """Padded to one another or not, each is torch's own."""
    sizes = (2, 3, 16, 17, 200, 5, 256)
    columns = [Column(f"c{n}", "category", tuple(map(str, range(n)))) for n in sizes]
    p = torch.randn(9, sum(sizes), requires_grad=True)
    x = torch.stack([torch.arange(9.0) * 31 % n for n in sizes], -1)
    found = Columns(p, ColumnLayout(columns)).log_prob_of_entries(x)
    for place, own in enumerate(p.split(sizes, -1)):
        wanted = td.Categorical(logits=own).log_prob(x[:, place])
        torch.testing.assert_close(found[:, place], wanted)
    found.sum().backward()
    assert p.grad is not None
    assert p.grad.isfinite().all()


def test_ordered_columns_of_different_sizes() -> None:
    """Those with fewer cut points have no other codes, and finite gradients."""
    columns = [Column(f"c{n}", "ordinal", tuple(map(str, range(n)))) for n in (2, 9, 4)]
    parameters = ColumnParameters(columns)
    p = torch.randn(7, 3, requires_grad=True)
    each = torch.arange(9.0)[:, None, None].expand(9, 1, 3)
    found = parameters(p).log_prob_of_entries(each).exp()
    for place, column in enumerate(columns):
        total = found[: len(column.values), :, place].sum(0)
        torch.testing.assert_close(total, torch.ones(7))
        assert parameters(p).sample((50,))[..., place].max() < len(column.values)
    found.sum().backward()
    assert all(raw.grad.isfinite().all() for raw in (p, *parameters.parameters()))


def test_the_start_is_that_of_the_training_rows() -> None:
    """At outputs of 0: a count's mean, equal shares of ordered values; outputs are bounded."""
    columns = [Column("n", "count", knots=(0.0, 100.0, 5000.0)), ONE["ordinal"]]
    parameters = ColumnParameters(columns)
    start = parameters(torch.zeros(1, 2))
    assert start.mean[0, 0].item() == pytest.approx(1700)
    each = torch.tensor([[math.nan, float(k)] for k in range(4)])
    torch.testing.assert_close(start.log_prob(each).exp(), torch.full((4,), 0.25))
    far = parameters(torch.tensor([[1e6, 0.0], [-1e6, 0.0]])).mean[:, 0]
    torch.testing.assert_close(far, 1700 * torch.tensor([10.0, -10.0]).exp())


def test_only_numbers_have_scales_and_all_covariates_are_refused() -> None:
    assert not list(ColumnParameters([ONE["category"], ONE["binary"]]).parameters())
    assert list(ColumnParameters(TABLE).state_dict()) == ["raw_scale", "raw_cuts"]
    with pytest.raises(GMMVAEError, match="all columns are covariates"):
        ColumnLayout([column for column in TABLE if column.given])


def test_many_columns_are_laid_out_in_linear_time() -> None:
    started = time.monotonic()
    assert ColumnLayout([Column(f"c{n}", "real") for n in range(20_000)]).outputs == 20_000
    assert time.monotonic() - started < 10  # 0.2 s, and 30 s when it was the square of the number
