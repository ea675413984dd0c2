"""PixelVAE: the pixels that each pixel depends on, and a density that sums to 1."""

import itertools

import pytest
import torch
from torch import Tensor

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import PixelVAE
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.networks.pixel_cnn import PixelCNN


@pytest.mark.parametrize("field", [1, 3])
def test_a_pixel_depends_on_those_before_it_in_the_field(field: int) -> None:
    options = NetworkOptions(activation="tanh")
    network, h = PixelCNN(1, 8, 2, field=field, options=options), torch.zeros(1, 8, 9, 9)
    x = torch.randn(1, 1, 9, 9)
    before, i, j = network(x, h), 4, 3
    x[0, 0, i, j] += 1
    changed = (network(x, h) != before).any(1)[0]
    assert changed.any()
    for row, column in itertools.product(range(9), range(9)):
        is_later = row > i or (row == i and column > j)
        is_near = row - i <= field and abs(column - j) <= field
        assert not changed[row, column] or (is_later and is_near), (row, column)
    assert changed[i, j + 1]
    assert changed[i + 1, j]


def images(height: int, width: int) -> Tensor:
    """All binary images."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=height * width))).reshape(
        -1, 1, height, width
    )


@pytest.mark.parametrize("field", [1, 3])
def test_draws_have_the_probabilities_of_the_density_and_these_sum_to_1(field: int) -> None:
    torch.manual_seed(0)
    model = PixelVAE((1, 2, 3), 2, field=field, pixel_channels=6)
    for parameter in model.parameters():
        parameter.data.mul_(2)
    p, every = model.observe(torch.randn(1, 2)), images(2, 3)
    probabilities = p.expand([64]).log_prob(every).exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    n = 20_000
    drawn = p.expand([n]).sample()
    counts = (drawn[:, None] == every[None]).flatten(2).all(-1).sum(0)
    expected = n * probabilities
    enough = expected > 20
    error = (counts - expected)[enough] / expected[enough].sqrt()
    assert error.abs().max() < 4.5
    assert error.square().mean() < 2


@pytest.mark.parametrize("likelihood", ["normal", "categorical(3)", "binomial(4)"])
def test_other_likelihoods_and_channels(likelihood: str) -> None:
    model = PixelVAE((2, 4, 5), 3, likelihood=likelihood, field=2)
    z = torch.randn(6, 3)
    x = model.observe(z).sample()
    assert x.shape == (6, 2, 4, 5)
    assert model.observe(z).log_prob(x).shape == (6,)
    # more draws of z than rows
    assert model.observe(z.expand(7, 6, 3)).log_prob(x).shape == (7, 6)
    assert model.decode(z).shape == x.shape
    assert model.generate(4).shape == (4, 2, 4, 5)


def test_a_draw_of_a_part_is_that_of_the_whole() -> None:
    """Only near pixels are evaluated; the draws are those of whole images."""
    model = PixelVAE((1, 6, 6), 2, likelihood="normal", field=2)
    p = model.observe(torch.randn(3, 2))
    x = p.sample()
    whole = p.observation.given_pixels(x, p.h).mean  # type: ignore[attr-defined]
    for i, j in ((0, 0), (2, 5), (5, 3)):
        near = p._near(i, j, 6, 6)  # type: ignore[attr-defined]
        part = p.observation.given_pixels(x[near], p.h[near], near).mean  # type: ignore[attr-defined]
        own = part[..., i - near[1].start, j - near[2].start]
        torch.testing.assert_close(own, whole[..., i, j])


def test_rows_that_are_no_whole_images_are_refused() -> None:
    with pytest.raises(GMMVAEError, match="pixel-vae needs images"):
        PixelVAE((6,), 2)
    with pytest.raises(GMMVAEError, match="rows of this data have missing ones"):
        PixelVAE((1, 4, 4), 2, options=NetworkOptions(missing=True))
    with pytest.raises(GMMVAEError, match="field must be from 1 to 64"):
        PixelVAE((1, 4, 4), 2, field=0)
