"""Bounds on log p(x) for models with a known log p(x)."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from pyro_gmmvae.evaluation import accuracy, log_weights, pareto_k
from pyro_gmmvae.models import VAE

D_X, D_Z = 5, 2


class LinearGaussian:
    """x = W z + noise with a Gaussian log p(x), and a guide with a small error."""

    def __init__(self, slip: float) -> None:
        generator = torch.Generator(device=torch.get_default_device()).manual_seed(1)
        self.W = torch.randn(D_X, D_Z, generator=generator)
        self.noise, self.slip = 0.7, slip
        precision = torch.eye(D_Z) + self.W.T @ self.W / self.noise**2
        self.covariance = precision.inverse()

    def model(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), D_Z), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ self.W.T, self.noise).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:  # noqa: ARG002
        loc = x @ self.W @ self.covariance / self.noise**2 + self.slip
        scale = self.covariance.diagonal().sqrt() * 1.2
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.expand_as(loc)).to_event(1))

    def exact(self, x: Tensor) -> Tensor:
        covariance = self.W @ self.W.T + self.noise**2 * torch.eye(D_X)
        return MultivariateNormal(torch.zeros(D_X), covariance).log_prob(x)


def test_importance_weighted_bound_reaches_log_px() -> None:
    """Within 0.05 nats with 2,000 samples; the ELBO is lower, and neither exceeds log p(x)."""
    case = LinearGaussian(slip=0.3)
    x = torch.randn(20, D_Z) @ case.W.T + 0.7 * torch.randn(20, D_X)
    bounds = log_weights(case.model, case.guide, x, samples=2000)
    exact = case.exact(x).mean().item()
    assert bounds.iwae.mean().item() == pytest.approx(exact, abs=0.05)
    assert bounds.elbo.mean().item() < exact - 0.1


def test_the_bound_of_a_linear_vae_reaches_log_px() -> None:
    """The package's VAE with a linear decoder and a Normal likelihood; log p(x) in closed form."""
    from pyro_gmmvae.distributions import positive_scale
    from pyro_gmmvae.networks import NetworkOptions

    vae = VAE((D_X,), D_Z, likelihood="normal", options=NetworkOptions(hidden=())).eval()
    linear = vae.observation.decoder.layers[0]
    scale = positive_scale(vae.observation.raw_scale).detach()
    covariance = linear.weight @ linear.weight.T + torch.diag(scale**2)
    exact = MultivariateNormal(linear.bias, covariance.detach())
    x = exact.sample((20,))
    bounds = log_weights(vae.model, vae.guide, x, samples=100_000)  # the guide is untrained
    assert bounds.iwae.mean().item() == pytest.approx(exact.log_prob(x).mean().item(), abs=0.05)
    assert (bounds.elbo <= bounds.iwae).all()


def test_the_bound_of_one_sample_is_the_elbo_and_rows_keep_their_order() -> None:
    case = LinearGaussian(slip=0.0)
    x = torch.cat([torch.zeros(1, D_X), 5 * torch.ones(1, D_X), torch.zeros(1, D_X)])
    bounds = log_weights(case.model, case.guide, x, samples=400, rows_at_once=500)
    assert bounds.log_w.shape == (400, 3)
    torch.testing.assert_close(bounds.iwae, case.exact(x), atol=0.2, rtol=0)


def test_pareto_k_distinguishes_a_good_guide_from_a_bad_one() -> None:
    x = torch.zeros(4, D_X)
    good, bad = LinearGaussian(slip=0.0), LinearGaussian(slip=3.0)
    k_good = pareto_k(log_weights(good.model, good.guide, x, samples=1000).log_w)
    k_bad = pareto_k(log_weights(bad.model, bad.guide, x, samples=1000).log_w)
    assert (k_good < 0.5).all()
    assert k_bad.mean() > k_good.mean() + 0.3


def test_accuracy_ignores_unlabelled_rows() -> None:
    log_probs = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    assert accuracy(log_probs, np.array([0, 0, -1])) == 0.5
    assert accuracy(log_probs, np.array([-1, -1, -1])) is None
