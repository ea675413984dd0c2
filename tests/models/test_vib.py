"""VIB and information dropout: their terms, and the information that beta leaves in z."""

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models import VIB, InformationDropout
from pyro_gmmvae.objectives import OBJECTIVES

K, D, SHAPE = 3, 4, (12,)
BOTH = pytest.mark.parametrize("kind", [VIB, InformationDropout])


def rows(n: int = 30) -> tuple[Tensor, Tensor]:
    """Noisy prototypes of K classes; the second half of the rows has no label."""
    y = torch.arange(n) % K
    noise = torch.Generator(y.device).manual_seed(1)
    prototypes = torch.rand(K, *SHAPE, generator=noise).round()
    x = (prototypes[y] + (torch.rand(n, *SHAPE, generator=noise) < 0.05)) % 2
    return x, torch.where(torch.arange(n) < n // 2, y, -1)


def fitted(model: VIB, steps: int = 200) -> VIB:
    pyro.set_rng_seed(0)
    x, y = rows()
    svi = SVI(model.model, model.guide, Adam({"lr": 0.01}), Trace_ELBO())
    for _ in range(steps):
        svi.step(x, y)
    return model.eval()


def test_the_information_of_vib_is_the_kl_term() -> None:
    model, (x, _) = VIB(SHAPE, K, D), rows()
    loc, scale = model.heads(x)
    expected = kl_divergence(Normal(loc, scale), Normal(torch.zeros(D), torch.ones(D))).sum(-1)
    torch.testing.assert_close(model.noisy(x)[1], expected)


def test_the_noise_of_information_dropout_is_log_normal() -> None:
    model = InformationDropout(SHAPE, K, D)
    x = rows()[0][:1].expand(20_000, *SHAPE)
    (f, a), (z, information) = model.heads(x), model.noisy(x)
    assert (f > 0).all()
    assert ((a > 0) & (a <= 0.7)).all()
    log_noise = (z / f).log()
    torch.testing.assert_close(log_noise.std(0), a[0], rtol=0.05, atol=0)
    torch.testing.assert_close(log_noise.mean(0), torch.zeros(D), atol=0.02, rtol=0)
    torch.testing.assert_close(information, -(a / 0.7).log().sum(-1))


@BOTH
def test_the_decoder_does_not_change_z(kind: type[VIB]) -> None:
    model, (x, y) = kind(SHAPE, K, D), rows()
    objective = OBJECTIVES["analytic"](model.model, model.guide, latents=model.latents)
    objective(x, torch.full_like(y, -1)).loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.encoder.parameters())
    assert any(p.grad is not None and p.grad.any() for p in model.observation.parameters())
    objective(x, y).loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.parameters())


@BOTH
def test_beta_leaves_less_information_in_z(kind: type[VIB]) -> None:
    x, y = rows()
    known, left = y >= 0, []
    for beta in (1e-4, 10.0):
        model = fitted(kind(SHAPE, K, D, beta=beta))
        with torch.no_grad():
            left.append(model.noisy(x)[1].mean().item())
        right = (model.classify(x).argmax(-1) == torch.arange(len(x)) % K).float()
        if beta < 1:
            assert right[known].mean() == 1
            assert right[~known].mean() > 0.9
    assert left[1] < 0.1 * left[0]


def test_numbers_that_are_out_of_range() -> None:
    with pytest.raises(GMMVAEError, match="beta must be from 0 to 1000000"):
        VIB(SHAPE, K, D, beta=-1.0)
