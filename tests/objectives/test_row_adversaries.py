"""Terms with a discriminator of rows: values where it is fitted, gradients, and rows refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyro.distributions import Normal
from torch import Tensor

from pyro_gmmvae import runs
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import ALI, VAEGAN
from pyro_gmmvae.objectives import LatentSite, LatentTerm, PairAdversary, RowAdversary
from pyro_gmmvae.runs import TrainingData

D = 2
SIZES = {"z": D, "x": D}
CHANCE = math.log(2)


def rows_of(x: Tensor, z: Tensor, mean: Tensor) -> LatentSite:
    """Rows x with draws z of their posteriors, and means of p(x|z)."""
    one = Normal(z, torch.ones_like(z)).to_event(1)
    px = Normal(mean, torch.ones_like(mean)).to_event(1)
    zero = x.new_zeros(())
    return LatentSite(z, one, one, zero, zero + 1, x, px)


def fitted(term: Any, draw: Any, steps: int = 250) -> Any:
    """A term whose discriminator is fitted to sites that ``draw`` makes."""
    adam = torch.optim.Adam(term.parameters(), 3e-3)
    name = f"{term.name}_discriminator"
    for _ in range(steps):
        adam.zero_grad()
        term.summands(term.name, draw())[name][1].backward()
        adam.step()
    return term


def loss_of(term: Any, site: LatentSite) -> float:
    return float(term.summands("t", site)["t_discriminator"][0].detach())


def same(x: Tensor) -> tuple[Tensor, Tensor]:
    z = torch.randn_like(x)
    return z, z


def test_a_discriminator_of_pairs_is_at_chance_where_the_posterior_is_that_of_the_decoder() -> None:
    """x' = z', x ~ N(0, I): the posterior of the decoder is z = x."""

    def right() -> LatentSite:
        x = torch.randn(500, D)
        return rows_of(x, x, x)

    def independent() -> LatentSite:
        x = torch.randn(500, D)
        return rows_of(x, torch.randn_like(x), x)

    losses = []
    for draw in (right, independent):
        term = PairAdversary(SIZES, same, noise=0.0, hidden=(32, 32))
        losses.append(loss_of(fitted(term.to(torch.zeros(())), draw), draw()))
    assert losses[0] == pytest.approx(CHANCE, abs=0.02)
    # rows and z are alike one by one, and not as pairs
    assert losses[1] < 0.35


def test_a_discriminator_of_rows_finds_those_of_another_distribution() -> None:
    def alike() -> LatentSite:
        x = torch.randn(500, D)
        return rows_of(x, x, torch.randn(500, D))

    def apart() -> LatentSite:
        x = torch.randn(500, D) + 4
        return rows_of(x, x, torch.randn(500, D))

    for draw, noise, least, most in (
        (alike, 0.0, 0.97 * CHANCE, 1.03 * CHANCE),
        (apart, 0.0, 0.0, 0.05),
        (apart, 8.0, 0.3, 0.67),
    ):
        term = RowAdversary(SIZES, same, noise=noise, hidden=(16,)).to(torch.zeros(()))
        assert least <= loss_of(fitted(term, draw), draw()) <= most


def test_the_distance_is_that_of_the_last_hidden_layer() -> None:
    x, mean = torch.randn(9, D), torch.randn(9, D)
    term = RowAdversary(SIZES, same, features=3.0, noise=0.0, hidden=(7, 5)).to(x)
    term.weight.fill_(2.0)
    found = term.summands("x_adversary", rows_of(x, x, mean))
    hidden = [term.discriminator[:-1](rows) for rows in (x, mean)]
    assert hidden[0].shape == (9, 5)
    expected = (hidden[0] - hidden[1]).square().sum(-1).mean() / 2
    value, added = found["x_adversary_distance"]
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(added, 6 * expected)
    plain = RowAdversary(SIZES, same, features=0.0)
    assert set(plain.to(x).summands("a", rows_of(x, x, mean))) == {"a", "a_discriminator"}


@pytest.mark.parametrize("kind", [RowAdversary, PairAdversary])
def test_each_side_has_the_gradient_of_its_own_loss(kind: Any) -> None:
    own = torch.randn(20, D, requires_grad=True)
    decoder = torch.ones((), requires_grad=True)

    def made(x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.randn_like(x)
        return z, decoder * z

    term: LatentTerm = kind(SIZES, made).to(own)
    found = term.summands("t", rows_of(torch.randn(20, D), own, decoder * own))
    weights, loss = list(term.parameters()), found["t_discriminator"][1]
    added = sum(one[1] for name, one in found.items() if name != "t_discriminator")
    assert isinstance(added, Tensor)
    for gradient in torch.autograd.grad(added, [own, decoder], retain_graph=True):
        assert gradient.any()
    unused = torch.autograd.grad(added, weights, allow_unused=True, retain_graph=True)
    assert unused == (None,) * len(weights)
    unused = torch.autograd.grad(loss, [own, decoder], allow_unused=True, retain_graph=True)
    assert unused == (None, None)
    assert all(g is not None and g.any() for g in torch.autograd.grad(loss, weights))


# -- in a model and a fit ----------------------------------------------------------------------


@pytest.mark.parametrize(("model", "weight"), [(VAEGAN, 1.0), (VAEGAN, 3.0), (ALI, 0.0)])
def test_rows_have_a_weight_while_training_alone(model: Any, weight: float) -> None:
    from pyro import poutine

    from pyro_gmmvae.param_store import LocalParams

    torch.manual_seed(0)
    one = model((4,), 2, likelihood="normal", x_weight=weight)
    x, z = torch.randn(5, 4), torch.randn(5, 2)
    terms = []
    for training in (True, False):
        one.train(training)
        with LocalParams():
            program = poutine.condition(one.model, data={"z": z})
            trace = poutine.trace(program).get_trace(x)
        trace.compute_log_prob()
        terms.append(trace.nodes["x"]["log_prob"])
    torch.testing.assert_close(terms[0], weight * terms[1])
    assert terms[1].abs().min() > 0


def test_ali_finds_z_without_a_term_of_reconstructions(tmp_path: Path) -> None:
    """Rows on a line: the discriminator alone makes decoder and encoder inverses."""
    generator = torch.Generator("cpu").manual_seed(0)
    t = torch.randn(600, 1, generator=generator, device="cpu")
    x = t.expand(-1, 6) + 0.1 * torch.randn(600, 6, generator=generator, device="cpu")
    table = tmp_path / "rows.csv"
    lines = [",".join("abcdef"), *(",".join(f"{v:.4f}" for v in row) for row in x.tolist())]
    table.write_text("\n".join(lines))
    keys: dict[str, Any] = {"model": "ali", "latent_dim": 1, "hidden": (16,), "epochs": 80}
    keys |= {"pair_adversary_hidden": (32, 32)}
    keys |= {"likelihood": "normal", "discriminator_rate": 3.0, "batch_size": 100}
    run = runs.train(runs.default_config(str(table), keys), tmp_path / "run")
    data = TrainingData.from_config(run.config, run.schema)
    rows = data.tensors(data.split.test, run.device)[0]
    made = run.model.decode(run.model.embed(rows))
    share = (made - rows).square().mean() / rows.var(0).mean()
    assert share < 0.3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": "ali", "pair_adversary": 0}, "x_weight=0 the decoder has no term"),
        (
            {"model": "gmmvae-factors", "factors": "view=3", "pair_adversary": 1},
            "pair_adversary needs one z for each row",
        ),
        ({"model": "vae", "labels": 30, "cv": 2}, "the model 'vae' has none; leave cv out"),
    ],
)
def test_fits_without_a_term_or_a_class_are_refused(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    data = tmp_path / "rows.npz"
    x = np.random.default_rng(0).random((60, 4), dtype=np.float32)
    np.savez(data, x=x, y=np.arange(60) % 3)
    config = runs.default_config(str(data), {"epochs": 1, "likelihood": "normal"} | keys)
    with pytest.raises(GMMVAEError, match=message):
        runs.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("keys", [{"likelihood": "columns"}, {"model": "pixel-vae"}])
def test_rows_that_it_cannot_take_are_refused(tmp_path: Path, keys: dict[str, Any]) -> None:
    data = "digits"
    if "likelihood" in keys:
        data = str(tmp_path / "rows.csv")
        text = "\n".join(f"{'ab'[i % 2]},{i}" for i in range(60))
        Path(data).write_text("color,size\n" + text)
    config = runs.default_config(data, {"model": "vae", "x_adversary": 1, "epochs": 1} | keys)
    with pytest.raises(GMMVAEError, match="x_adversary compares rows with means of p"):
        runs.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
