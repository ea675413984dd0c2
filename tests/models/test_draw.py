"""DRAW: filters, steps that depend on those before them, and the density of what was drawn."""

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import DRAW
from pyro_gmmvae.models.draw import Recurrent, _Filters
from pyro_gmmvae.networks import NetworkOptions

SHAPE = (1, 6, 8)


def model(attention: int = 3, likelihood: str = "bernoulli") -> DRAW:
    torch.manual_seed(0)
    made = DRAW(
        SHAPE,
        6,
        draw_steps=3,
        attention=attention,
        likelihood=likelihood,
        options=NetworkOptions((12,)),
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def posterior(one: DRAW, x: Tensor) -> Recurrent:
    return Recurrent(one.unroll, x, one.latent_dim)


def test_filters_of_unit_stride_and_little_blur_take_the_pixels() -> None:
    filters = _Filters(4, (7, 7), 7)
    with torch.no_grad():
        filters.numbers.weight.zero_()
        filters.numbers.bias.copy_(torch.tensor([0.0, 0.0, -8.0, 0.0, 0.0]))
    down, right, strength = filters(torch.zeros(2, 4))
    image = torch.randn(2, 1, 7, 7)
    torch.testing.assert_close(strength * (down @ image @ right.mT), image)
    with torch.no_grad():
        # far from the image a filter is finite, and still sums to 1
        filters.numbers.bias.copy_(torch.tensor([50.0, -50.0, -8.0, 3.0, 1.0]))
    down, right, strength = filters(torch.zeros(2, 4))
    torch.testing.assert_close(down.sum(-1), torch.ones(2, 1, 7))
    torch.testing.assert_close(right.sum(-1), torch.ones(2, 1, 7))
    torch.testing.assert_close(strength, torch.ones(2, 1, 1, 1).exp())


@pytest.mark.parametrize("attention", [0, 3])
def test_a_step_depends_on_the_steps_before_it_alone(attention: int) -> None:
    one, x = model(attention), torch.rand(1, *SHAPE)
    q = posterior(one, x)
    z = torch.randn(1, 6)
    before = q.along(z).base_dist  # type: ignore[attr-defined]
    moved = z.clone()
    moved[:, 2:4] += 1  # the second step's part
    after = q.along(moved).base_dist  # type: ignore[attr-defined]
    torch.testing.assert_close(after.loc[:, :4], before.loc[:, :4])
    assert (after.loc[:, 4:] != before.loc[:, 4:]).all()
    assert (after.scale[:, 4:] != before.scale[:, 4:]).all()


@pytest.mark.parametrize("attention", [0, 3])
def test_the_density_of_a_draw_is_that_of_its_value(attention: int) -> None:
    one, x = model(attention), torch.rand(5, *SHAPE)
    q = posterior(one, x)
    z = q.rsample()
    torch.testing.assert_close(posterior(one, x).log_prob(z.clone()), q.log_prob(z))
    # of a value that it did not draw, it does not give the density of the draw
    assert (q.log_prob(z + 0.1) != q.log_prob(z)).all()
    many = q.expand([4, 5])
    drawn = many.rsample()
    assert drawn.shape == (4, 5, 6)
    torch.testing.assert_close(
        many.log_prob(drawn)[2], posterior(one, x).log_prob(drawn[2].clone())
    )
    torch.testing.assert_close(q.mean, one.embed(x))


def test_the_kl_divergence_given_draws_has_the_mean_of_the_log_ratios() -> None:
    one, x = model(), torch.rand(1, *SHAPE)
    q, p = posterior(one, x).expand([20_000]), one.prior_of_z(torch.zeros(20_000, 0))
    with torch.no_grad():
        z = q.rsample()
        kl, ratio = kl_divergence(q, p), q.log_prob(z) - p.log_prob(z)
    error = (kl - ratio).std() / len(kl) ** 0.5
    assert (kl.mean() - ratio.mean()).abs() < 4 * error
    assert kl.var() < ratio.var()
    with pytest.raises(GMMVAEError, match="needs a draw"):
        kl_divergence(posterior(one, x), p)


@pytest.mark.parametrize("likelihood", ["normal", "categorical(3)", "binomial(4)"])
def test_other_likelihoods(likelihood: str) -> None:
    one = model(likelihood=likelihood)
    x = one.generate(4, mean=False)
    assert x.shape == (4, *SHAPE)
    z = posterior(one, x).rsample()
    assert one.observe(z).log_prob(x).shape == (4,)


def test_rows_and_steps_that_do_not_fit_are_refused() -> None:
    with pytest.raises(GMMVAEError, match="draw needs images"):
        DRAW((6,), 2)
    with pytest.raises(GMMVAEError, match="rows of this data have missing ones"):
        DRAW(SHAPE, 2, options=NetworkOptions(missing=True))
    with pytest.raises(GMMVAEError, match="draw_steps must be a divisor of latent_dim 6"):
        DRAW(SHAPE, 6, draw_steps=4)
    with pytest.raises(GMMVAEError, match="attention must be from 0 to 6"):
        DRAW(SHAPE, 6, attention=7)
    assert DRAW(SHAPE, 10).steps == 5
