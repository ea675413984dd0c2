"""The texts that name likelihoods: families, numbers and the errors for wrong ones."""

import subprocess
import sys
from inspect import signature

import pytest

from pyro_gmmvae.distributions import LIKELIHOODS, elbo_scale, parse_likelihood
from pyro_gmmvae.errors import GMMVAEError


@pytest.mark.parametrize(
    ("text", "number", "largest", "scale"),
    [
        ("bernoulli", None, None, 1.0),
        ("continuous-bernoulli", None, None, 1.0),
        ("normal", None, None, 1.0),
        ("binomial(16)", 16, 16, 1 / 16),
        ("categorical(17)", 17, 16, 1.0),
        ("discretized-logistic(256)", 256, 255, 1.0),
    ],
)
def test_each_family_is_read_and_written(
    text: str, number: int | None, largest: int | None, scale: float
) -> None:
    spec = parse_likelihood(text)
    assert (str(spec), spec.number, spec.largest) == (text, number, largest)
    assert elbo_scale(text) == scale
    assert parse_likelihood(f" {text.replace('(', ' ( ')} ") == spec
    assert spec.completed(3, "rows") == spec  # a number that is given stays
    assert spec.family in LIKELIHOODS


@pytest.mark.parametrize(
    ("family", "wanted"),
    [("binomial", 20), ("categorical", 21), ("discretized-logistic", 21), ("bernoulli", None)],
)
def test_the_unit_gives_the_number(family: str, wanted: int | None) -> None:
    assert parse_likelihood(family).completed(20.0, "rows").number == wanted


def test_facts_of_families() -> None:
    specs = [parse_likelihood(family) for family in LIKELIHOODS]
    assert {s.family for s in specs if not s.bounded} == {"normal", "columns"}
    density = {"normal", "continuous-bernoulli", "columns"}
    assert {s.family for s in specs if s.density} == density
    for spec in specs:  # the class takes the number by its name
        names = signature(LIKELIHOODS[spec.family]).parameters.keys()
        assert names & {"count", "levels"} == {spec.number_name} - {None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gauss", "unknown likelihood 'gauss'"),
        ("binomail(16)", "did you mean 'binomial'"),
        ("binomial 16", "unknown likelihood"),
        ("binomial(16", "unknown likelihood"),
        ("", "unknown likelihood"),
        ("binomial(0)", "from 1 to 65536"),
        ("binomial(-3)", "from 1 to 65536"),
        ("binomial(2.5)", "its total count must be a whole number"),
        ("binomial()", "its total count must be a whole number"),
        ("categorical(1)", "its number of levels must be a whole number from 2"),
        ("discretized-logistic(65536)", "from 2 to 4096"),
        ("binomial(١٦)", "its total count must be a whole number"),
        ("discretized-logistic(70000)", "4096"),
        ("bernoulli(2)", "bernoulli takes no number; write bernoulli"),
        ("normal(1)", "normal takes no number"),
    ],
)
def test_texts_that_cannot_be_used(text: str, words: str) -> None:
    with pytest.raises(GMMVAEError) as refusal:
        parse_likelihood(text)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("unit", [None, 2.5])
def test_a_number_that_no_unit_gives(unit: float | None) -> None:
    with pytest.raises(
        GMMVAEError, match=r"rows\.csv is not known; write it, as in binomial\(16\)"
    ):
        parse_likelihood("binomial").completed(unit, "rows.csv")


def test_a_text_is_read_without_torch() -> None:
    code = (
        "import sys; from pyro_gmmvae.distributions import parse_likelihood as p;"
        "s = p('binomial(3)'); assert s.bounded and s.largest == 3;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
