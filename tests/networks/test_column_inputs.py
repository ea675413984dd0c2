"""Inputs of networks for rows of tables."""

import numpy as np
import torch
from sklearn.preprocessing import QuantileTransformer

from pyro_gmmvae.column_spec import Column
from pyro_gmmvae.data import ColumnTable
from pyro_gmmvae.networks import NetworkOptions
from pyro_gmmvae.networks.columns import ColumnInputs
from pyro_gmmvae.networks.mlp import MLPEncoder, without_noise

NAN = float("nan")
COLUMNS = (
    Column("height", "real"),
    Column("visits", "count"),
    Column("smoker", "binary", ("n", "y")),
    Column("city", "category", ("Kraków", "Osaka", "São Paulo")),
)


def rows(count: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    height, visits = rng.normal(170, 9, count), rng.poisson(2, count)
    return np.stack(
        [height, visits, rng.integers(0, 2, count), rng.integers(0, 3, count)], 1
    ).astype(float)


def inputs_of(x: np.ndarray, noise: float = 0.0) -> tuple[ColumnInputs, torch.Tensor]:
    kind, transform = ColumnTable(COLUMNS).fitted_on(x)
    return ColumnInputs(kind.specs, noise), torch.tensor(transform(x))


def test_numbers_have_the_quantiles_of_scikit_learn() -> None:
    x = rows()
    inputs, scaled = inputs_of(x)
    made = QuantileTransformer(n_quantiles=101, output_distribution="normal")
    expected = made.fit_transform(x[:, :1]).clip(-3, 3)
    np.testing.assert_allclose(inputs(scaled)[:, :1].cpu().numpy(), expected, atol=1e-4)


def test_tied_numbers_have_the_mean_of_their_ranks() -> None:
    x = rows()
    inputs, scaled = inputs_of(x)
    made = inputs(scaled)[:, 1].cpu().numpy()
    share = (x[:, 1] < 1).mean()  # of the rows with no visits
    normal = torch.special.ndtri(torch.tensor(share / 2)).item()
    np.testing.assert_allclose(made[x[:, 1] == 0], normal, atol=0.05)
    assert np.abs(made).max() <= 3


def test_categories_are_one_hot_and_missing_cells_are_masked() -> None:
    inputs, _ = inputs_of(rows())
    made = inputs(torch.tensor([[0.0, 2.0, 1.0, 2.0], [NAN, NAN, NAN, NAN]]))
    assert made.shape == (2, inputs.width) == (2, 3 + 3 + 4)
    assert made[0, 2:].tolist() == [1, 0, 0, 1, 1, 1, 1, 1]
    assert made[1].tolist() == [0] * inputs.width


def test_values_beyond_the_training_rows_stay_finite() -> None:
    inputs, _ = inputs_of(rows())
    made = inputs(torch.tensor([[1e30, -5.0, 0.0, 0.0], [-1e30, 1e9, 0.0, 0.0]]))
    assert made[:, :2].tolist() == [[3, -3], [-3, 3]]


def test_noise_is_for_training_only() -> None:
    inputs, scaled = inputs_of(rows(), noise=0.5)
    clean = inputs.eval()(scaled)
    assert not torch.equal(inputs.train()(scaled), clean)
    with without_noise(inputs):
        assert torch.equal(inputs(scaled), clean)


def test_an_encoder_takes_columns() -> None:
    kind, transform = ColumnTable(COLUMNS).fitted_on(rows())
    options = NetworkOptions(hidden=(8,), columns=kind.specs, skip=True)
    encoder = MLPEncoder(kind.x_shape, 5, options)
    assert encoder(torch.tensor(transform(rows(7)))).shape == (7, 5)
