"""Networks of every kind and option: sizes in, sizes out."""

import pytest
import torch

from pyro_gmmvae.errors import GMMVAEError
from pyro_gmmvae.networks import (
    ACTIVATIONS,
    NETWORKS,
    ConvEncoder,
    JointMLP,
    NetworkOptions,
    joined,
)
from pyro_gmmvae.networks.options import InputNoise


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 9), (1, 8, 8)])
def test_encoder_and_decoder_fit_each_other(network: str, shape: tuple[int, ...]) -> None:
    options = NetworkOptions(hidden=(12,), channels=(4, 8, 6), batch_norm=True, dropout=0.1)
    encoder = NETWORKS[network][0](shape, 5, options)
    decoder = NETWORKS[network][1](5, shape, options)
    features = encoder(torch.rand(3, *shape))
    assert features.shape == (3, 5)
    assert decoder(features).shape == (3, *shape)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation: str) -> None:
    encoder = NETWORKS["mlp"][0]((6,), 2, NetworkOptions(hidden=(4,), activation=activation))
    assert encoder(torch.rand(3, 6)).isfinite().all()


def test_options_become_layers() -> None:
    plain = NETWORKS["mlp"][0]((6,), 2, NetworkOptions(hidden=(4, 4)))
    full = NETWORKS["mlp"][0]((6,), 2, NetworkOptions(hidden=(4, 4), batch_norm=True, dropout=0.5))
    kinds = [type(layer).__name__ for layer in full.layers]
    assert kinds.count("BatchNorm1d") == kinds.count("Dropout") == 2
    assert not {"BatchNorm1d", "Dropout"} & {type(layer).__name__ for layer in plain.layers}


def test_conv_refuses_rows_that_are_no_images() -> None:
    with pytest.raises(GMMVAEError, match="use the mlp network"):
        ConvEncoder((64,), 5, NetworkOptions())


def test_input_noise_is_for_training_only() -> None:
    noise, x = InputNoise(0.5), torch.zeros(10_000)
    assert noise(x).std().item() == pytest.approx(0.5, rel=0.05)
    assert torch.equal(noise.eval()(x), x)


def test_inputs_of_a_summed_out_class_meet_those_of_rows() -> None:
    """(K, 1, K) beside (B, d): every class with every row, in that order."""
    y, z = torch.eye(3).unsqueeze(1), torch.arange(8.0).view(4, 2)
    both = joined(z, y)
    assert both.shape == (3, 4, 5)
    assert torch.equal(both[1, 2], torch.tensor([4.0, 5.0, 0.0, 1.0, 0.0]))


def test_leading_axes_are_only_rows_to_a_network() -> None:
    network = JointMLP([2, 3], [4, 1], NetworkOptions(hidden=(6,), batch_norm=True)).eval()
    y, z = torch.eye(3).unsqueeze(1), torch.randn(4, 2)
    wide, narrow = network(z, y)
    assert wide.shape == (3, 4, 4)
    assert narrow.shape == (3, 4, 1)
    one, _ = network(z[1:2], y[2])
    torch.testing.assert_close(wide[2, 1], one[0])
