"""DC-IGN: entries of z that are clamped to the mean of rows with the same label."""

import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import DCIGN
from pyro_gmmvae.objectives import AnalyticObjective


def test_entries_of_rows_with_a_label_are_their_mean() -> None:
    model = DCIGN((6,), 3, class_dim=2)
    z = torch.randn(6, 3, requires_grad=True)
    y = torch.tensor([0, 1, 0, -1, -1, 2])
    clamped, distance = model.clamped(z, y)
    mean = (z[0, :2] + z[2, :2]) / 2
    torch.testing.assert_close(clamped[[0, 2], :2], torch.stack([mean, mean]))
    torch.testing.assert_close(distance[0], (z[0, :2] - mean).square().sum())
    # alone, or without a label
    torch.testing.assert_close(clamped[[1, 3, 4, 5]], z[[1, 3, 4, 5]])
    assert (distance[[1, 3, 4, 5]] == 0).all()
    torch.testing.assert_close(clamped[:, 2], z[:, 2])
    (gradient,) = torch.autograd.grad(distance.sum() / 2, z)
    torch.testing.assert_close(gradient[0, :2], (z[0, :2] - mean).detach())


def test_labels_change_a_step_and_not_the_bound() -> None:
    torch.manual_seed(0)
    model, x = DCIGN((6,), 4), torch.rand(8, 6)
    y = torch.arange(8) % 2
    objective = AnalyticObjective(model.model, model.guide, latents=("z",), networks=model)
    losses = []
    for training in (True, False):
        model.train(training)
        for labels in (y, None):
            torch.manual_seed(1)
            losses.append(objective(x, labels).loss.item())
    assert losses[0] != pytest.approx(losses[1])
    assert losses[1] == pytest.approx(losses[2])
    assert losses[2] == pytest.approx(losses[3])


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GMMVAEError, match="two or more entries of z"):
        DCIGN((6,), 1)
    with pytest.raises(GMMVAEError, match="class_dim must be from 1 to below latent_dim 4"):
        DCIGN((6,), 4, class_dim=4)
    with pytest.raises(GMMVAEError, match="invariance must be from 0"):
        DCIGN((6,), 4, invariance=-1.0)
