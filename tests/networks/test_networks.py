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
from pyro_gmmvae.networks.mlp import InputNoise, MissingMask
from pyro_gmmvae.networks.skeleton_graph import adjacency


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 9), (1, 8, 8)])
def test_encoder_and_decoder_fit_each_other(network: str, shape: tuple[int, ...]) -> None:
    options = NetworkOptions(
        hidden=(12,), channels=(4, 8, 6), batch_norm=True, dropout=0.1, edges=((0, 1), (1, 2))
    )
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


def test_conv_refuses_rows_that_are_not_images() -> None:
    with pytest.raises(GMMVAEError, match="use the mlp network"):
        ConvEncoder((64,), 5, NetworkOptions())


def test_input_noise_is_for_training_only() -> None:
    noise, x = InputNoise(0.5), torch.zeros(10_000)
    assert noise(x).std().item() == pytest.approx(0.5, rel=0.05)
    assert torch.equal(noise.eval()(x), x)


def test_inputs_of_a_summed_out_class_broadcast_with_rows() -> None:
    """(K, 1, K) with (B, d): every class with every row, in that order."""
    y, z = torch.eye(3).unsqueeze(1), torch.arange(8.0).view(4, 2)
    both = joined(z, y)
    assert both.shape == (3, 4, 5)
    assert torch.equal(both[1, 2], torch.tensor([4.0, 5.0, 0.0, 1.0, 0.0]))


def test_leading_axes_are_flattened_for_a_network() -> None:
    network = JointMLP([2, 3], [4, 1], NetworkOptions(hidden=(6,), batch_norm=True)).eval()
    y, z = torch.eye(3).unsqueeze(1), torch.randn(4, 2)
    wide, narrow = network(z, y)
    assert wide.shape == (3, 4, 4)
    assert narrow.shape == (3, 4, 1)
    one, _ = network(z[1:2], y[2])
    torch.testing.assert_close(wide[2, 1], one[0])


WINDOWS = (7, 4, 2)
MISSING = NetworkOptions(
    hidden=(12,),
    channels=(4, 6),
    activation="tanh",  # a gradient everywhere
    missing=True,
    edges=((0, 1), (1, 2)),
    skip=True,
    input_noise=0.1,
)


def test_the_mask_distinguishes_missing_entries_from_zeros() -> None:
    x = torch.tensor([[0.0, torch.nan, 2.0]])
    assert MissingMask(True)(x).tolist() == [[0, 0, 2, 1, 0, 1]]
    assert MissingMask(True, 0)(x).tolist() == [[0, 0, 2], [1, 0, 1]]
    assert MissingMask(False)(x) is x


@pytest.mark.parametrize("network", NETWORKS)
def test_missing_entries_change_the_output_and_have_no_gradient(network: str) -> None:
    encoder = NETWORKS[network][0](WINDOWS, 5, MISSING)
    x = torch.randn(3, *WINDOWS)
    x[0, 2], x[1], x[2, :, 1] = torch.nan, torch.nan, torch.nan
    seen = encoder(x.requires_grad_())
    assert seen.isfinite().all()
    seen.square().sum().backward()
    assert x.grad is not None
    known = ~x.isnan()
    assert (x.grad[~known] == 0).all()
    assert (x.grad[known] != 0).float().mean() > 0.9
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    encoder.eval()
    zeros = encoder(x.detach().nan_to_num())
    assert (encoder(x.detach()) - zeros).abs().flatten(1).amax(1).min() > 1e-6


def test_the_skip_is_a_linear_path() -> None:
    """With the hidden layers switched off, the encoder is linear in x."""
    encoder = NETWORKS["mlp"][0]((6,), 3, NetworkOptions(hidden=(5,), skip=True))
    with torch.no_grad():
        encoder.layers[-1].one[-1].weight.zero_()
    zero, x = encoder(torch.zeros(1, 6)), torch.randn(4, 6)
    torch.testing.assert_close(encoder(2 * x) - zero, 2 * (encoder(x) - zero))
    assert (encoder(x) - zero).abs().min() > 0


@pytest.mark.parametrize("network", ["temporal", "skeleton-graph"])
def test_a_decoder_has_embeddings_of_frames_and_joints(network: str) -> None:
    decoded = NETWORKS[network][1](5, WINDOWS, MISSING)(torch.randn(3, 5))
    assert decoded.shape == (3, *WINDOWS)
    assert len(torch.unique(decoded[0].flatten(1), dim=0)) == WINDOWS[0]
    assert len(torch.unique(decoded[0].transpose(0, 1).flatten(1), dim=0)) == WINDOWS[1]


def test_a_temporal_encoder_depends_on_the_order_of_frames() -> None:
    encoder = NETWORKS["temporal"][0]((9, 5), 3, NetworkOptions(channels=(4, 4))).eval()
    x = torch.randn(2, 9, 5)
    assert encoder(x).shape == (2, 3)
    assert not torch.allclose(encoder(x), encoder(x.flip(1)), atol=1e-5)
    assert NETWORKS["temporal"][1](3, (9, 5), NetworkOptions())(torch.randn(2, 3)).shape == (
        2,
        9,
        5,
    )


def test_a_layer_passes_information_along_one_bone() -> None:
    chain = NetworkOptions(channels=(3, 3), edges=((0, 1), (1, 2), (2, 3), (3, 4)))
    encoder = NETWORKS["skeleton-graph"][0]((4, 5, 2), 3, chain).eval()
    x = torch.randn(1, 4, 5, 2)
    moved = x.clone()
    moved[:, :, 0] += 1
    features = [encoder.layers(rows.permute(0, 3, 1, 2)) for rows in (x, moved)]
    changed = (features[0] - features[1]).abs().sum((0, 1, 2))
    assert (changed > 1e-6).tolist() == [True, True, True, False, False]


def test_neighbors_are_averaged() -> None:
    near = adjacency(4, ((0, 1), (2, 0)))
    assert torch.equal(near[0], torch.eye(4))
    assert near[1].tolist() == [[0, 0.5, 0.5, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("network", "shape", "edges"),
    [
        ("temporal", (12,), ()),
        ("skeleton-graph", (12,), ((0, 1),)),
        ("skeleton-graph", (5, 4), ((0, 1),)),
        ("skeleton-graph", (5, 4, 2), ()),
    ],
)
def test_networks_of_windows_refuse_other_rows(
    network: str, shape: tuple[int, ...], edges: tuple[tuple[int, int], ...]
) -> None:
    options = NetworkOptions(edges=edges)
    for build in (lambda c: c[0](shape, 3, options), lambda c: c[1](3, shape, options)):
        with pytest.raises(GMMVAEError, match="or use the mlp network"):
            build(NETWORKS[network])
