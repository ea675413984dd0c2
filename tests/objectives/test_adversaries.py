"""Terms with a discriminator: their values where it is fitted, and the gradients of each side."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from pyro_gmmvae import runs
from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.distributions import Concrete
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models.covariates import Covariates
from pyro_gmmvae.objectives import (
    Adversary,
    ClassAdversary,
    LatentSite,
    LatentTerm,
    TotalCorrelationAdversary,
)
from pyro_gmmvae.runs.job import one_sided
from pyro_gmmvae.training import callbacks

from .test_latent_terms import correlated, site

D = 4
SIZES = {"z": D, "class": 3, "groups": 3}
CHANCE = math.log(2)


def fitted(term: Any, one: LatentSite, steps: int = 300) -> Any:
    """A term whose discriminator is fitted to the rows of a site."""
    adam = torch.optim.Adam(term.parameters(), 3e-3)
    for _ in range(steps):
        adam.zero_grad()
        term.discriminator_loss(one).backward()
        adam.step()
    return term


def test_a_fitted_discriminator_estimates_the_total_correlation() -> None:
    """-log(1 - r^2) / 2 of a Gaussian of correlation r."""
    term = TotalCorrelationAdversary({"z": 2}, hidden=(64, 64))
    found = fitted(term, site(correlated(2000, 0.9), 1e-3))(site(correlated(4000, 0.9), 1e-3))
    assert found.item() == pytest.approx(-0.5 * math.log(1 - 0.81), abs=0.15)
    free = site(torch.randn(2000, 2), 1e-3)
    apart = fitted(TotalCorrelationAdversary({"z": 2}, hidden=(64,)), free, 100)
    assert apart(free).item() == pytest.approx(0, abs=0.1)


def test_draws_of_the_prior_leave_a_discriminator_at_chance() -> None:
    equal, far = site(torch.zeros(1000, D), 1.0), site(torch.full((1000, D), 3.0), 0.1)
    for one, least, most in ((equal, 0.95 * CHANCE, CHANCE), (far, 0.0, 0.02)):
        term = fitted(Adversary(SIZES, hidden=(32,)), one)
        loss = term.discriminator_loss(one).item()
        assert least <= loss <= most + 0.01
        # what the model minimizes is -log D of its own rows
        expected = torch.nn.functional.softplus(-term.discriminator(one.z)).mean()
        torch.testing.assert_close(term(one), expected)


@pytest.mark.parametrize("term", [Adversary(SIZES), TotalCorrelationAdversary(SIZES)])
def test_each_side_has_the_gradient_of_its_own_loss(term: LatentTerm) -> None:
    loc = torch.randn(20, D, requires_grad=True)
    term.to(loc)
    one, weights = site(loc), list(term.parameters())
    (value, added), (own, loss) = term.summands("name", one).values()
    torch.testing.assert_close(added, term.weight * value)
    assert torch.autograd.grad(added, [loc, *weights], allow_unused=True, retain_graph=True)[
        0
    ].any()
    assert torch.autograd.grad(added, weights, allow_unused=True) == (None,) * len(weights)
    assert torch.autograd.grad(loss, loc, allow_unused=True, retain_graph=True) == (None,)
    assert all(g is not None and g.any() for g in torch.autograd.grad(loss, weights))
    assert torch.equal(own, loss)


def test_classes_are_compared_with_one_hot_draws_of_their_prior() -> None:
    share = torch.tensor([0.6, 0.3, 0.1])
    p = Concrete(torch.tensor(0.5), logits=share.log().expand(20_000, 3))
    q = Concrete(torch.tensor(0.5), logits=torch.zeros(20_000, 3))
    zero = torch.zeros(())
    one = LatentSite(q.rsample(), q, p, zero, zero + 1, torch.zeros(20_000, 1))
    draws = ClassAdversary(SIZES).to(share).draws(one)
    assert ((draws == 0) | (draws == 1)).all()
    torch.testing.assert_close(draws.sum(-1), torch.ones(20_000))
    torch.testing.assert_close(draws.mean(0), share, atol=0.02, rtol=0)
    # flat probabilities are far from one-hot ones, though their draws are not
    flat, sharp = 0.0 * share, torch.randint(0, 3, (2000,), device=share.device)
    for logits, least, most in (
        (flat.expand(2000, 3), 0.0, 0.3),
        (20 * torch.nn.functional.one_hot(sharp, 3).to(share), 0.6, 0.7),
    ):
        q = Concrete(torch.tensor(0.5), logits=logits)
        p = Concrete(torch.tensor(0.5), logits=torch.zeros(2000, 3))
        one = LatentSite(q.rsample(), q, p, zero, zero + 1, torch.zeros(2000, 1))
        term = fitted(ClassAdversary(SIZES, hidden=(16,)).to(share), one)
        assert least <= term.discriminator_loss(one).item() <= most


def groups(like: Tensor) -> Covariates:
    column = Column("g", "category", values=("a", "b", "c"), given=True)
    return Covariates([column]).to(like)


def test_a_discriminator_of_covariates_finds_them_in_z() -> None:
    x = (torch.arange(300) % 3).float().unsqueeze(-1)
    tied, free = site(3 * x + torch.randn(300, D), 0.1, x), site(torch.randn(300, D), 0.1, x)
    losses = []
    for one in (tied, free):
        term = fitted(Adversary(SIZES, groups(x).groups, of="covariates", hidden=(16,)), one)
        losses.append((term.discriminator_loss(one).item(), term(one).item()))
    (own, term_of_tied), (chance, term_of_free) = losses
    entropy = -(math.log(1 / 3) + 2 * math.log(2 / 3)) / 3
    assert own < 0.5 * entropy
    assert chance == pytest.approx(entropy, abs=0.1)
    # the model pays for the values that the discriminator finds
    assert term_of_tied > 2 * entropy
    assert term_of_free == pytest.approx(entropy, abs=0.1)
    with pytest.raises(GMMVAEError, match="adversary_of=covariates: name the columns"):
        Adversary(SIZES, of="covariates")


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GMMVAEError, match="adversary_hidden must be one or more widths"):
        Adversary(SIZES, hidden=())
    with pytest.raises(GMMVAEError, match="tc_adversary is of two or more entries"):
        TotalCorrelationAdversary({"z": 1})


# -- in a fit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["svi", "captured"])
@pytest.mark.parametrize("model", ["aae", "factor-vae"])
def test_a_resumed_fit_is_the_one_that_was_not_stopped(
    tmp_path: Path, model: str, engine: str
) -> None:
    if engine == "captured" and torch.get_default_device().type == "cuda":
        pytest.skip("test_recorded_steps is the test of steps on a device")
    keys = {"model": model, "labels": 0 if model == "factor-vae" else 50, "engine": engine}
    keys |= {"hidden": (16,), "latent_dim": D, "batch_size": 256, "decay": "constant"}
    whole = runs.train(runs.default_config("digits", keys, {"epochs": 4}), tmp_path / "whole")
    config = runs.default_config("digits", keys, {"epochs": 2})
    runs.train(config, tmp_path / "two")
    resumed = runs.resume(tmp_path / "two", epochs=4)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name
    assert resumed.path == tmp_path / "two"
    history = pd.read_csv(tmp_path / "two" / "history.csv").filter(like="discriminator")
    assert history.shape[1] >= 2
    assert history.gt(0).all(axis=None)


class _Lines(callbacks.Callback):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_start(self, line: str) -> None:
        self.lines.append(line)


def test_a_fit_says_that_its_discriminator_wins(tmp_path: Path) -> None:
    """With hardly any weight of the term z stays far from its prior."""
    lines = _Lines()
    keys = {"model": "aae", "labels": 50, "latent_dim": 40, "epochs": 20}
    keys |= {"adversary": 1e-6, "discriminator_rate": 5.0}
    config = runs.default_config("digits", keys)
    runs.train(config, tmp_path / "run", callbacks=[lines])
    said = [line for line in lines.lines if line.startswith("adversary: ")]
    assert len(said) == 1
    assert "lower discriminator_rate, or raise adversary" in said[0]


def test_losses_of_discriminators_in_words() -> None:
    assert one_sided("tc_adversary", 0.4) == ""
    losses = {"adversary": 0.01, "class_adversary": 0.6931, "tc_adversary": 40.0}
    won, lost, wild = (one_sided(term, loss) for term, loss in losses.items())
    assert won.startswith("adversary: ")
    assert "almost no error" in won
    assert lost.startswith("class_adversary: ")
    assert "chance" in lost
    assert "lower discriminator_rate" in wild
