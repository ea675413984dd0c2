"""VQ-VAE: nearest codes, moving averages, gradients straight through, and codes that are used."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import VQVAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.objectives import AnalyticObjective
from pyro_gmmvae.runs import Run, TrainingData, default_config, train

SHAPE, D, OPTIONS = (6,), 4, NetworkOptions(hidden=(16,))


def build(**options: float) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(SHAPE, D, **({"codes": 5, "groups": 2, "options": OPTIONS} | options))  # type: ignore[arg-type]


def test_z_is_the_nearest_code_of_each_group() -> None:
    model, x = build().eval(), torch.rand(7, *SHAPE)
    e = model.encoder(x).view(7, 2, 2)
    distances = (e[:, :, None] - model.codebooks[None]).norm(dim=-1)
    assert torch.equal(model.codes(x), distances.argmin(-1))
    chosen = torch.stack([model.codebooks[g, model.codes(x)[:, g]] for g in range(2)], 1)
    torch.testing.assert_close(model.embed(x), chosen.flatten(1))
    assert len(model.embed(x).unique(dim=0)) <= 25


def test_codes_are_moving_averages_of_their_rows() -> None:
    model = build(code_decay=0.0)  # the means of one batch
    e = torch.randn(50, 2, 2)
    codes = model.codes_of(e)
    model._move_codes(e)
    for group in range(2):
        for code in range(5):
            own = e[:, group][codes[:, group] == code]
            if len(own):
                torch.testing.assert_close(model.codebooks[group, code], own.mean(0))
            else:  # where a row is
                assert (e[:, group] == model.codebooks[group, code]).all(-1).any()


def test_the_encoder_gets_the_gradient_of_the_decoder() -> None:
    model, x = build(commitment=0.0), torch.rand(9, *SHAPE)
    AnalyticObjective(model.model, model.guide, latents=())(x).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    assert not model.codebooks.requires_grad


def test_the_commitment_is_a_term_of_training_alone() -> None:
    x = torch.rand(9, *SHAPE)
    values = {}
    for commitment in (0.0, 4.0):
        model = build(commitment=commitment)
        objective = AnalyticObjective(model.model, model.guide, latents=())
        model.eval()
        before = model.codebooks.clone()
        off = objective(x).loss
        assert torch.equal(before, model.codebooks)
        e = model.encoder(x).view(9, 2, 2)
        distance = (e - model.nearest(e, model.codes_of(e))).square().sum((-2, -1)).mean()
        model.train()
        values[commitment] = objective(x).loss - off
        torch.testing.assert_close(values[commitment], commitment * distance)
        assert not torch.equal(before, model.codebooks)


def test_unused_codes_are_used_again() -> None:
    model = build()
    with torch.no_grad():
        model.codebooks[:, 1:] += 100  # nothing is near them
        model.sums.copy_(model.codebooks)
    x = torch.rand(64, *SHAPE)
    for _ in range(300):
        model._move_codes(model.encoder(x).detach().view(64, 2, 2))
    assert all(len(model.codes(x)[:, group].unique()) == 5 for group in range(2))


def test_groups_divide_z() -> None:
    assert VQVAE(SHAPE, 12).groups == 6
    assert VQVAE(SHAPE, 3).groups == 3
    with pytest.raises(GMMVAEError, match="groups must be a divisor of latent_dim 4, not 3"):
        build(groups=3)
    with pytest.raises(GMMVAEError, match="codes must be from 2"):
        build(codes=1)


def test_perplexity_counts_the_codes_in_use(tmp_path: Path) -> None:
    keys = {"model": "vq-vae", "epochs": 3, "hidden": "16", "codes": 8, "preset": "paper"}
    train(default_config("digits", keys), tmp_path / "run")
    run = Run.load(tmp_path / "run")
    numbers = run.evaluate(nll_rows=0, draws=0)
    rows = TrainingData.from_config(run.config, run.schema)
    codes = run.model.codes(rows.tensors(rows.split.test, run.device)[0]).cpu()  # type: ignore[operator]
    shares = [codes[:, g].bincount(minlength=8) / len(codes) for g in range(8)]
    expected = np.mean([torch.distributions.Categorical(s).entropy().exp() for s in shares])
    assert numbers["code_perplexity"] == pytest.approx(expected, rel=1e-4)
    assert 1 < numbers["code_perplexity"] <= 8
    assert numbers["elbo"] is None
