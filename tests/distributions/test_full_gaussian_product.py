"""FullGaussianProduct against torch's MultivariateNormal, NumPy, and the diagonal product."""

import math
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import (
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    kl_divergence,
)
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyro_gmmvae.distributions import (
    FullGaussianProduct,
    GaussianProduct,
    positive_scale,
    positive_tril,
)

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def random_tril(*shape: int, d: int = 3) -> Tensor:
    return torch.randn(*shape, d, d).tril(-1) + torch.diag_embed(torch.rand(*shape, d) + 0.5)


def random_full(*batch: int, K: int = 4, shared: bool = False) -> FullGaussianProduct:
    weights = torch.rand(*batch, K).softmax(-1)
    shape = (K,) if shared else (*batch, K)
    return FullGaussianProduct(weights, torch.randn(*shape, 3), random_tril(*shape))


def random_diagonal(*batch: int) -> GaussianProduct:
    return GaussianProduct(
        torch.rand(*batch, 4).softmax(-1), torch.randn(4, 3), torch.rand(4, 3) + 0.3
    )


def as_torch(product: GaussianProduct) -> MultivariateNormal:
    """Torch's distribution, computed outside the code under test."""
    if not isinstance(product, FullGaussianProduct):
        return MultivariateNormal(product.mean, torch.diag_embed(product.stddev.square()))
    mean, precision = by_numpy(product)
    return MultivariateNormal(mean, precision_matrix=precision)


def by_numpy(product: FullGaussianProduct) -> tuple[Tensor, Tensor]:
    """Mean and precision by the formula, in float64, a sum over i as it is written."""
    s, loc, tril = (
        t.detach().double().cpu().numpy()
        for t in (product.weights, product.loc, product.precision_tril)
    )
    precision, shift = np.zeros(1), np.zeros(1)
    for i in range(s.shape[-1]):
        P_i = tril[..., i, :, :] @ np.swapaxes(tril[..., i, :, :], -1, -2)
        precision = precision + s[..., i, None, None] * P_i
        shift = shift + s[..., i, None] * (P_i @ loc[..., i, :, None])[..., 0]
    mean = np.linalg.solve(precision, shift[..., None])[..., 0]
    return torch.tensor(mean).to(product.mean), torch.tensor(precision).to(product.mean)


@pytest.mark.parametrize("shared", [False, True])
def test_a_vertex_is_its_component(shared: bool) -> None:
    product = random_full(4, shared=shared)
    vertices = FullGaussianProduct(torch.eye(4), product.loc, product.precision_tril)
    k = torch.arange(4)
    loc = product.loc if shared else product.loc[k, k]
    tril = product.precision_tril if shared else product.precision_tril[k, k]
    component = MultivariateNormal(loc, precision_matrix=tril @ tril.mT)
    torch.testing.assert_close(vertices.mean, loc, **CLOSE)
    torch.testing.assert_close(vertices.precision_matrix, tril @ tril.mT, **CLOSE)
    z = torch.randn(4, 3)
    torch.testing.assert_close(vertices.log_prob(z), component.log_prob(z), **CLOSE)


@pytest.mark.parametrize("shared", [False, True])
def test_between_the_vertices_it_is_the_formula(shared: bool) -> None:
    product = random_full(6, shared=shared)
    mean, precision = by_numpy(product)
    torch.testing.assert_close(product.mean, mean, **CLOSE)
    torch.testing.assert_close(product.precision_matrix, precision, **CLOSE)


def test_one_shared_argument_is_broadcast() -> None:
    both, one = random_full(5, shared=True), random_full(5)
    for product in (
        FullGaussianProduct(one.weights, one.loc, both.precision_tril),
        FullGaussianProduct(one.weights[0], one.loc, both.precision_tril),
        FullGaussianProduct(one.weights, both.loc, one.precision_tril),
    ):
        mean, precision = by_numpy(product)
        assert product.batch_shape == product.entropy().shape == (5,)
        torch.testing.assert_close(product.mean, mean, **CLOSE)
        torch.testing.assert_close(
            product.precision_matrix, precision.expand_as(product.precision_matrix), **CLOSE
        )


@pytest.mark.parametrize("shared", [False, True])
def test_density_entropy_and_marginals_are_torchs(shared: bool) -> None:
    product = random_full(2, 6, shared=shared)
    expected = as_torch(product)
    z = torch.randn(5, 2, 6, 3)
    torch.testing.assert_close(product.log_prob(z), expected.log_prob(z), **CLOSE)
    torch.testing.assert_close(product.entropy(), expected.entropy(), **CLOSE)
    torch.testing.assert_close(product.variance, expected.variance, **CLOSE)
    torch.testing.assert_close(product.stddev, expected.stddev, **CLOSE)


def test_covariances_are_numpys_inverses_of_precisions() -> None:
    full = random_full(2)
    expected = np.linalg.inv(full.precision_matrix.cpu().double().numpy())
    assert np.allclose(full.covariance_matrix.cpu().numpy(), expected, **CLOSE)
    weights = torch.rand(2, 4).softmax(-1)
    diagonal = GaussianProduct(weights, torch.randn(4, 3), torch.rand(4, 3) + 0.5)
    expected = np.stack([np.diag(1 / p) for p in diagonal.precision.cpu().numpy()])
    assert np.allclose(diagonal.covariance_matrix.cpu().numpy(), expected, **CLOSE)


def test_log_density_is_the_weighted_sum_of_log_densities_up_to_a_constant() -> None:
    product = random_full(6)
    tril = product.precision_tril
    z = torch.randn(50, 6, 3)
    components = MultivariateNormal(product.loc, precision_matrix=tril @ tril.mT)
    weighted = (product.weights * components.log_prob(z.unsqueeze(-2))).sum(-1)
    constant = product.log_prob(z) - weighted
    torch.testing.assert_close(constant, constant[:1].expand_as(constant), rtol=1e-3, atol=1e-3)


def test_diagonal_factors_give_the_diagonal_product() -> None:
    diagonal = random_diagonal(6)
    full = FullGaussianProduct(
        diagonal.weights, diagonal.loc, torch.diag_embed(diagonal.scale.reciprocal())
    )
    z = torch.randn(6, 3)
    torch.testing.assert_close(full.mean, diagonal.mean, **CLOSE)
    torch.testing.assert_close(full.variance, diagonal.variance, **CLOSE)
    torch.testing.assert_close(full.log_prob(z), diagonal.log_prob(z), **CLOSE)
    torch.testing.assert_close(full.entropy(), diagonal.entropy(), **CLOSE)


def test_samples_follow_the_density() -> None:
    """Whitened by NumPy's mean and precision they are N(0, I): each axis, and uncorrelated."""
    product = random_full()
    mean, precision = (t.double().cpu().numpy() for t in by_numpy(product))
    draws = product.rsample((20_000,)).double().cpu().numpy()
    white = (draws - mean) @ np.linalg.cholesky(precision)
    for j in range(3):
        assert stats.kstest(white[:, j], "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(white.T) - np.eye(3)).max() < 5 / math.sqrt(20_000)


def test_kl_is_torchs() -> None:
    pairs: list[tuple[Any, MultivariateNormal]] = []
    for product in (random_full(6), random_full(6, shared=True), random_diagonal(6)):
        pairs.append((product, as_torch(product)))
    normal = Normal(torch.randn(6, 3), torch.rand(6, 3) + 0.3)
    pairs.append(
        (Independent(normal, 1), MultivariateNormal(normal.loc, torch.diag_embed(normal.variance)))
    )
    for q, torchs_q in pairs:
        for p, torchs_p in pairs:
            expected = kl_divergence(torchs_q, torchs_p)
            torch.testing.assert_close(kl_divergence(q, p), expected, rtol=1e-3, atol=1e-3)


def test_kl_never_falls_to_the_diagonal_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    """The diagonal formula would call a product and its marginals equal."""

    def forbidden(*_: Tensor) -> Tensor:
        raise AssertionError("a full product reached the diagonal formula")

    monkeypatch.setattr("pyro_gmmvae.distributions.gaussian_product._diagonal_kl", forbidden)
    full = random_full(6)
    marginals = Independent(Normal(full.mean, full.stddev), 1)
    diagonal = GaussianProduct(torch.ones(6, 1), full.mean.unsqueeze(-2), full.stddev.unsqueeze(-2))
    for other in (marginals, diagonal):
        assert (kl_divergence(full, other) > 1e-2).all()
        assert (kl_divergence(other, full) > 1e-2).all()
    same = kl_divergence(full, full.expand(torch.Size([6])))
    torch.testing.assert_close(same, torch.zeros(6), **CLOSE)


def test_kl_to_anything_else_is_refused() -> None:
    for other in (Independent(Laplace(torch.zeros(2, 3), 1.0), 1), Normal(torch.zeros(3), 1.0)):
        with pytest.raises(NotImplementedError):
            kl_divergence(random_full(2), other)
        with pytest.raises(NotImplementedError):
            kl_divergence(other, random_full(2))


def test_it_has_no_vector_of_precisions() -> None:
    product = random_full(2)
    assert isinstance(product, GaussianProduct)
    with pytest.raises(AttributeError, match="precision_matrix"):
        product.precision  # noqa: B018


@pytest.mark.parametrize("shared", [False, True])
def test_weights_of_an_enumerated_site(shared: bool) -> None:
    """One-hot (K, 1, K) in front of a batch of 5: row k of the result is component k."""
    product = random_full(5, shared=shared)
    vertices = torch.eye(4).unsqueeze(1)
    enumerated = FullGaussianProduct(vertices, product.loc, product.precision_tril)
    assert enumerated.batch_shape == (4, 1 if shared else 5)
    z = torch.randn(5, 3)
    assert enumerated.log_prob(z).shape == (4, 5)
    q = random_diagonal(5)
    assert kl_divergence(q, enumerated).shape == (4, 5)
    for k in range(4):
        tril = product.precision_tril[..., k, :, :]
        component = MultivariateNormal(product.loc[..., k, :], precision_matrix=tril @ tril.mT)
        torch.testing.assert_close(enumerated.log_prob(z)[k], component.log_prob(z), **CLOSE)
        torch.testing.assert_close(
            kl_divergence(q, enumerated)[k],
            kl_divergence(as_torch(q), component),
            rtol=1e-3,
            atol=1e-3,
        )


class _Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation returns, including views."""

    numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(found) if isinstance(t, Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return found


def test_shared_components_are_not_repeated_for_the_batch() -> None:
    B, K, d = 64, 5, 3
    weights = torch.rand(B, K).softmax(-1).requires_grad_()
    loc, tril = torch.randn(K, d, requires_grad=True), random_tril(K, d=d).requires_grad_()
    q = Independent(Normal(torch.zeros(B, d), torch.ones(B, d)), 1)
    with _Largest() as largest:
        p = FullGaussianProduct(weights, loc, tril, validate_args=False)
        loss = (p.log_prob(p.rsample()) + kl_divergence(q, p)).sum()
        torch.autograd.grad(loss, (weights, loc, tril))
    assert largest.numel == B * d * d


def float64_arguments(shared: bool) -> tuple[Tensor, Tensor, Tensor]:
    shape = (3,) if shared else (2, 3)
    weights, loc, tril = torch.rand(2, 3) + 0.1, torch.randn(*shape, 2), random_tril(*shape, d=2)
    return weights.double(), loc.double(), tril.double()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("what", ["log_prob", "entropy", "variance", "rsample", "kl"])
def test_gradients_in_float64(what: str, shared: bool) -> None:
    z = torch.randn(2, 2, dtype=torch.float64)
    diagonal = Independent(Normal(z, z.exp()), 1)
    other = FullGaussianProduct(*float64_arguments(shared=True))

    def outcome(weights: Tensor, loc: Tensor, raw: Tensor) -> Any:
        product = FullGaussianProduct(weights, loc, raw.tril(), validate_args=False)
        if what == "log_prob":
            return product.log_prob(z)
        if what == "rsample":
            torch.manual_seed(0)
            return product.rsample()
        if what == "kl":
            return tuple(
                kl_divergence(*pair)
                for pair in (
                    (diagonal, product),
                    (product, diagonal),
                    (other, product),
                    (product, other),
                )
            )
        return product.entropy() if what == "entropy" else product.variance

    arguments = [a.requires_grad_() for a in float64_arguments(shared)]
    assert torch.autograd.gradcheck(outcome, arguments)


def test_a_step_can_be_traced_without_values() -> None:
    """The graph made from fakes gives the loss and gradients of eager evaluation."""

    def step(weights: Tensor, loc: Tensor, raw: Tensor, z: Tensor) -> list[Tensor]:
        with pyro.validation_enabled(False):
            p = FullGaussianProduct(weights, loc, positive_tril(raw))
            q = Independent(Normal(z, torch.ones_like(z)), 1)
            loss = (p.log_prob(p.rsample()) + p.entropy() + kl_divergence(q, p)).sum()
            return [loss, *torch.autograd.grad(loss, (weights, loc, raw))]

    parameters = (torch.rand(7, 4), torch.randn(4, 3), torch.randn(4, 3, 3))
    inputs = [*(p.requires_grad_() for p in parameters), torch.randn(7, 3)]
    graph = make_fx(step, tracing_mode="fake")(*inputs)
    torch.manual_seed(1)
    found = graph(*inputs)
    torch.manual_seed(1)
    for traced, eager in zip(found, step(*inputs), strict=True):
        torch.testing.assert_close(traced, eager)


def test_expand() -> None:
    product = random_full(shared=True)
    many = product.expand(torch.Size([5, 2]))
    assert isinstance(many, FullGaussianProduct)
    assert many.batch_shape == many.entropy().shape == (5, 2)
    assert many.rsample((7,)).shape == (7, 5, 2, 3)
    assert many.precision_matrix.shape == (5, 2, 3, 3)
    assert many.precision_tril.shape == (5, 2, 4, 3, 3)
    z = torch.randn(5, 2, 3)
    torch.testing.assert_close(many.log_prob(z), product.log_prob(z))


@pytest.mark.parametrize(
    ("weights", "loc", "tril", "match"),
    [
        ((3,), (4, 2), (4, 2, 2), "K or d disagree"),
        ((4,), (4, 2), (3, 2, 2), "K or d disagree"),
        ((4,), (4, 2), (4, 3, 3), "K or d disagree"),
        ((4,), (4, 2), (4, 2, 3), "K or d disagree"),
        ((4,), (4, 2), (2, 2), "must be"),
        ((4,), (4,), (4, 2, 2), "must be"),
        ((), (4, 2), (4, 2, 2), "must be"),
        ((5, 4), (6, 4, 2), (4, 2, 2), "batch shapes disagree"),
    ],
)
def test_shapes_that_disagree_are_refused(
    weights: tuple[int, ...], loc: tuple[int, ...], tril: tuple[int, ...], match: str
) -> None:
    with pytest.raises(ValueError, match=match) as refusal:
        FullGaussianProduct(torch.ones(weights), torch.zeros(loc), torch.ones(tril))
    assert "\n" not in str(refusal.value)


def test_an_invalid_factor_is_refused() -> None:
    for wrong in (torch.ones(2, 2), -torch.eye(2)):
        with pytest.raises(ValueError, match="precision_tril"):
            FullGaussianProduct(
                torch.ones(3), torch.zeros(3, 2), wrong.expand(3, 2, 2), validate_args=True
            )


def test_tril_link() -> None:
    raw = torch.randn(5, 4, 4) * 3
    tril = positive_tril(raw)
    diagonal = raw.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(
        tril.diagonal(dim1=-2, dim2=-1) * positive_scale(diagonal), torch.ones(5, 4)
    )
    assert torch.equal(tril.tril(-1), raw.tril(-1))
    assert torch.equal(tril.triu(1), torch.zeros_like(raw))
    torch.testing.assert_close(positive_tril(torch.zeros(3, 3)), torch.eye(3), atol=1e-3, rtol=0)
    assert positive_tril(torch.full((2, 2), -1000.0)).diagonal().max() <= 1.001e4
