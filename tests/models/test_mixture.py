"""Mixtures against torch's own multivariate normal."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from pyro_gmmvae.distributions import positive_tril
from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.models.mixture import FullMixture, build_mixture

K, D, B = 4, 3, 5


def full() -> FullMixture:
    mixture = FullMixture(K, D)
    with torch.no_grad():
        mixture.raw_tril.copy_(0.5 * torch.randn(K, D, D))
    return mixture


def component(mixture: FullMixture, k: int) -> MultivariateNormal:
    tril = positive_tril(mixture.raw_tril)[k]
    return MultivariateNormal(mixture.loc[k], precision_matrix=tril @ tril.T)


@torch.no_grad()
def test_a_vertex_is_its_component() -> None:
    mixture, z = full(), torch.randn(B, D)
    for k in range(K):
        s = torch.eye(K)[k].expand(B, K)
        expected = component(mixture, k).log_prob(z)
        torch.testing.assert_close(mixture(s).log_prob(z), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_class_scores_are_expected_log_densities() -> None:
    """By many draws of z, and exactly where z has no spread."""
    mixture = full()
    loc, scale = torch.randn(B, D), torch.rand(B, D) + 0.1
    draws = loc + scale * torch.randn(100_000, B, D)
    for k in range(K):
        log_p = component(mixture, k).log_prob(draws)
        found = (mixture.class_scores(loc, scale) - mixture.log_prior)[:, k]
        error = 5 * log_p.std(0) / 100_000**0.5
        assert ((found - log_p.mean(0)).abs() <= error + 1e-3).all()


def test_a_given_prior_is_normalized_and_kept() -> None:
    mixture = build_mixture("diagonal", 3, D, class_prior=(3, 2, 5))
    torch.testing.assert_close(mixture.prior_logits.exp(), torch.tensor([0.3, 0.2, 0.5]))
    assert "prior_offsets" not in dict(mixture.named_parameters())
    learned = build_mixture("full", 3, D, class_prior=(3, 2, 5), learn_prior=True)
    assert "prior_offsets" in dict(learned.named_parameters())


def test_an_invalid_prior_is_refused() -> None:
    with pytest.raises(GMMVAEError, match="each of the 3 components"):
        build_mixture("diagonal", 3, D, class_prior=(0.5, 0.5))
    with pytest.raises(GMMVAEError, match="did you mean 'full'"):
        build_mixture("fulll", 3, D)
