"""GaussianProduct against Normals, the textbook product, torch's KL, and its own samples."""

import pytest
import torch
from scipy import stats
from torch.distributions import Independent, Normal, kl_divergence

from pyro_gmmvae.distributions import GaussianProduct


def random_product(*batch: int, K: int = 4, d: int = 3, shared: bool = False) -> GaussianProduct:
    weights = torch.rand(*batch, K).softmax(-1)
    shape = (K, d) if shared else (*batch, K, d)
    return GaussianProduct(weights, torch.randn(shape), torch.rand(shape) + 0.3)


@pytest.mark.parametrize("shared", [False, True])
def test_a_vertex_is_its_component(shared: bool) -> None:
    product = random_product(4, shared=shared)
    vertices = GaussianProduct(torch.eye(4), product.loc, product.scale)
    k = torch.arange(4)
    loc = product.loc if shared else product.loc[k, k]
    scale = product.scale if shared else product.scale[k, k]
    torch.testing.assert_close(vertices.mean, loc)
    torch.testing.assert_close(vertices.stddev, scale)
    z = torch.randn(4, 3)
    torch.testing.assert_close(vertices.log_prob(z), Normal(loc, scale).log_prob(z).sum(-1))


def test_one_component_is_a_normal() -> None:
    loc, scale = torch.randn(1, 3), torch.rand(1, 3) + 0.5
    product = GaussianProduct(torch.ones(5, 1), loc, scale)
    z = torch.randn(5, 3)
    torch.testing.assert_close(product.log_prob(z), Normal(loc, scale).log_prob(z).sum(-1))
    torch.testing.assert_close(product.entropy(), Normal(loc, scale).entropy().sum(-1).expand(5))


def test_weights_of_one_give_the_textbook_product() -> None:
    """N(z; 1, 2^2) N(z; -3, 0.5^2): precision 1/4 + 4, mean (1/4 - 12) / (1/4 + 4)."""
    product = GaussianProduct(
        torch.tensor([1.0, 1.0]), torch.tensor([[1.0], [-3.0]]), torch.tensor([[2.0], [0.5]])
    )
    assert product.variance.item() == pytest.approx(1 / 4.25, rel=1e-5)
    assert product.mean.item() == pytest.approx((0.25 - 12) / 4.25, rel=1e-5)


def test_log_density_is_the_weighted_sum_of_log_densities_up_to_a_constant() -> None:
    product = random_product(6)
    z = torch.randn(50, 6, 3)
    components = Normal(product.loc, product.scale).log_prob(z.unsqueeze(-2)).sum(-1)
    weighted = (product.weights * components).sum(-1)
    constant = product.log_prob(z) - weighted
    torch.testing.assert_close(constant, constant[:1].expand_as(constant), rtol=1e-3, atol=1e-3)


def test_shared_components_equal_repeated_ones() -> None:
    shared = random_product(5, shared=True)
    repeated = GaussianProduct(
        shared.weights, shared.loc.expand(5, 4, 3), shared.scale.expand(5, 4, 3)
    )
    torch.testing.assert_close(shared.mean, repeated.mean)
    torch.testing.assert_close(shared.precision, repeated.precision)


def test_density_integrates_to_one() -> None:
    product = GaussianProduct(
        torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [2.0]]), torch.tensor([[0.5], [1.5]])
    )
    z = torch.linspace(-20, 20, 40_001)
    density = product.log_prob(z.unsqueeze(-1)).exp()
    assert torch.trapezoid(density, z).item() == pytest.approx(1, abs=1e-4)


def test_samples_follow_the_density() -> None:
    product = random_product()
    draws = product.rsample((20_000,))
    uniform = Normal(product.mean, product.stddev).cdf(draws).double().cpu().numpy()
    for j in range(3):
        assert stats.kstest(uniform[:, j], "uniform").pvalue > 1e-3


def test_kl_is_torchs() -> None:
    q, p = random_product(6), random_product(6, shared=True)
    normal_q = Independent(Normal(q.mean, q.stddev), 1)
    normal_p = Independent(Normal(p.mean, p.stddev), 1)
    expected = kl_divergence(normal_q, normal_p)
    for left in (q, normal_q):
        for right in (p, normal_p):
            torch.testing.assert_close(kl_divergence(left, right), expected, rtol=1e-4, atol=1e-5)


def test_kl_to_anything_else_is_refused() -> None:
    with pytest.raises(NotImplementedError):
        kl_divergence(
            random_product(2), Independent(torch.distributions.Laplace(torch.zeros(2, 3), 1.0), 1)
        )
    with pytest.raises(NotImplementedError):
        kl_divergence(random_product(2), Normal(torch.zeros(3), 1.0))


def test_gradients_in_float64() -> None:
    weights = torch.rand(2, 3, dtype=torch.float64).softmax(-1).requires_grad_()
    loc = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    scale = (torch.rand(2, 3, 2, dtype=torch.float64) + 0.5).requires_grad_()
    z = torch.randn(2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *a: GaussianProduct(*a, validate_args=False).log_prob(z), (weights, loc, scale)
    )


def test_draws_are_reparameterized() -> None:
    weights = torch.tensor([0.4, 0.6], requires_grad=True)
    loc, scale = torch.randn(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    GaussianProduct(weights, loc, scale, validate_args=False).rsample().sum().backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in (weights, loc))


def test_expand() -> None:
    product = random_product(shared=True)
    many = product.expand(torch.Size([5, 2]))
    assert many.batch_shape == (5, 2)
    assert many.rsample().shape == (5, 2, 3)
    z = torch.randn(5, 2, 3)
    torch.testing.assert_close(many.log_prob(z), product.log_prob(z))


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="K or d disagree"):
        GaussianProduct(torch.ones(3), torch.zeros(4, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="must be"):
        GaussianProduct(torch.ones(3), torch.zeros(3), torch.ones(3))
    with pytest.raises(ValueError, match="scale"):
        GaussianProduct(torch.ones(2), torch.zeros(2, 2), -torch.ones(2, 2), validate_args=True)
