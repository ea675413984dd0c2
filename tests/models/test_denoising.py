"""DAE: which rows are corrupted, and which are explained."""

import pytest
import torch
from pyro import poutine

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import DAE, VLAAE
from pyro_gmmvae.networks import NetworkOptions

SHAPE, OPTIONS = (40,), NetworkOptions(hidden=(16,))


def test_training_rows_are_corrupted_and_explained_as_they_are() -> None:
    model, x = DAE(SHAPE, 3, corruption_level=0.5, options=OPTIONS), torch.rand(50, *SHAPE) + 0.1
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    trace = poutine.trace(model.model).get_trace(x)
    hidden = seen[0] == 0
    assert hidden.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(seen[0][~hidden], x[~hidden])
    assert torch.equal(trace.nodes["x"]["value"], x)
    model.eval().model(x)
    assert torch.equal(seen[1], x)


def test_noise_has_its_standard_deviation() -> None:
    model = DAE(SHAPE, 3, corruption="gaussian", corruption_level=2.0, options=OPTIONS)
    noise = model.corrupted(torch.zeros(500, *SHAPE))
    assert noise.std().item() == pytest.approx(2.0, rel=0.03)
    missing = torch.full((2, *SHAPE), torch.nan)
    assert model.corrupted(missing).isnan().all()


def test_levels_are_checked() -> None:
    with pytest.raises(GMMVAEError, match="corruption_level must be from 0 to below 1, not 1"):
        DAE(SHAPE, 3, corruption_level=1.0)
    assert DAE(SHAPE, 3, corruption="gaussian", corruption_level=1.5).corruption_level == 1.5


def test_parts_of_z_come_from_different_depths() -> None:
    """The deepest part passes all layers of the encoder, the first one the features alone."""
    model, x = VLAAE(SHAPE, 6, layers=3, options=OPTIONS).eval(), torch.rand(5, *SHAPE)
    before = model.embed(x)
    with torch.no_grad():
        model.encoder.deeper[-1][0].weight.mul_(2)
    changed = (model.embed(x) - before).abs().sum(0) > 0
    assert changed.tolist() == [False] * 4 + [True] * 2
    # in the decoder it is the other way round: the first step of the deepest part gets it alone
    inputs = [step.layers[0].in_features for step in model.observation.decoder[0].steps]
    assert inputs == [2 + 16, 2 + 16, 2]
    assert [VLAAE(SHAPE, d).layers for d in (8, 9, 7)] == [2, 3, 1]
    with pytest.raises(GMMVAEError, match="layers must be a divisor of latent_dim 6, not 4"):
        VLAAE(SHAPE, 6, layers=4)
