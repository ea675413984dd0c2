"""p(x | latents): a decoder network and a likelihood, the last factor of every model."""

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyro_gmmvae.distributions import LIKELIHOODS, positive_scale
from pyro_gmmvae.errors import unknown_name
from pyro_gmmvae.networks import NETWORKS, NetworkOptions, apply_to_rows, joined


def network_pair(name: str) -> tuple[type, type]:
    """Encoder and decoder classes of a network by name."""
    if name not in NETWORKS:
        raise unknown_name("network", name, list(NETWORKS))
    return NETWORKS[name]


def feature_encoder(
    network: str, x_shape: tuple[int, ...], options: NetworkOptions
) -> tuple[nn.Module, int]:
    """An encoder whose output is a hidden layer, for networks of x and other inputs; its width."""
    features = options.hidden[-1]
    encoder = network_pair(network)[0](x_shape, features, options)
    return nn.Sequential(encoder, *options.activate(nn.BatchNorm1d(features))), features


class Observation(nn.Module):
    """p(x | latents): Bernoulli logits, or Normal loc with a learnt scale per entry of x.

    Where ``options.missing``, entries of x that are NaN are missing and carry no term.

    Args:
        in_size: how many numbers the latents of one row hold together.
        x_shape: shape of one observation.
        network: a key of ``networks.NETWORKS``.
        likelihood: a key of ``distributions.LIKELIHOODS``.
        options: what the network is told besides its sizes.
    """

    def __init__(
        self,
        in_size: int,
        x_shape: tuple[int, ...],
        network: str,
        likelihood: str,
        options: NetworkOptions,
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise unknown_name("likelihood", likelihood, list(LIKELIHOODS))
        self.family: Any = LIKELIHOODS[likelihood]
        self.has_scale = "scale" in self.family.arg_constraints
        self.event_dim, self.missing = len(x_shape), options.missing
        self.decoder = network_pair(network)[1](in_size, x_shape, options)
        if self.has_scale:
            self.raw_scale = nn.Parameter(torch.zeros(x_shape))

    def forward(self, *latents: Tensor) -> TorchDistribution:
        """The likelihood given latents, each (..., size); leading axes broadcast."""
        parameter = apply_to_rows(self.decoder, joined(*latents))
        learnt = (positive_scale(self.raw_scale),) if self.has_scale else ()
        return self.family(
            parameter, *learnt, event_dim=self.event_dim, nan_is_missing=self.missing
        )
