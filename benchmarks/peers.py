"""Peers of the speed benchmark: hand-written PyTorch, and Pyro's examples."""

import itertools
import math
from typing import Any

import pyro
import torch
from pyro.distributions import Bernoulli, Normal, OneHotCategorical
from torch import Tensor, nn
from torch.nn import functional as F

from pyro_gmmvae.distributions import positive_scale

PIXELS = 784


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class HandWritten(nn.Module):
    """The ELBO of the Gaussian-mixture VAE, hand-written in PyTorch without Pyro.

    Parameters have the order of ``GMMVAE``, and it draws the same random numbers.
    """

    def __init__(self, hidden: tuple[int, ...], K: int, d: int, temperature: float) -> None:
        super().__init__()
        self.K, self.d, self.temperature = K, d, temperature
        self.loc, self.raw_scale = nn.Parameter(torch.randn(K, d)), nn.Parameter(torch.zeros(K, d))
        self.decoder = mlp(d + K, *hidden, PIXELS)
        self.encoder = mlp(PIXELS, *hidden, K * (1 + 2 * d))

    def forward(self, x: Tensor) -> Tensor:
        """Minus the ELBO, nats per row; every term sampled."""
        K, d, t = self.K, self.d, self.temperature
        logits, loc, raw = self.encoder(x).split([K, K * d, K * d], -1)
        loc, scale = loc.view(-1, K, d), positive_scale(raw.view(-1, K, d))
        log_q, log_p = logits.log_softmax(-1), math.log(1 / K)

        gumbel = -torch.empty_like(logits).exponential_().log()
        log_s = ((log_q + gumbel) / t).log_softmax(-1)
        s = log_s.exp()
        scores, prior_scores = log_q - t * log_s, log_p - t * log_s
        log_ratio_s = (scores - scores.logsumexp(-1, keepdim=True)).sum(-1)
        log_ratio_s -= (prior_scores - prior_scores.logsumexp(-1, keepdim=True)).sum(-1)

        precisions = s.unsqueeze(-1) / scale.square()
        q_precision = precisions.sum(1)
        q_mean = (precisions * loc).sum(1) / q_precision
        noise = torch.randn_like(q_mean)
        z = q_mean + noise * q_precision.rsqrt()
        p = positive_scale(self.raw_scale).square().reciprocal()
        p_precision = s @ p
        p_mean = (s @ (p * self.loc)) / p_precision
        log_ratio_z = 0.5 * (
            q_precision.log()
            - p_precision.log()
            - noise.square()
            + (z - p_mean).square() * p_precision
        ).sum(-1)

        decoded = self.decoder(torch.cat([z, s], -1))
        distortion = F.binary_cross_entropy_with_logits(decoded, x, reduction="none").sum(-1)
        return (distortion + log_ratio_s + log_ratio_z).mean()


class PyroVAE(nn.Module):
    """The structure of Pyro's example ``vae.py``."""

    def __init__(self, hidden: tuple[int, ...], K: int, d: int) -> None:  # noqa: ARG002
        super().__init__()
        self.d = d
        self.decoder, self.encoder = mlp(d, *hidden, PIXELS), mlp(PIXELS, *hidden, 2 * d)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            loc = x.new_zeros(len(x), self.d)
            z = pyro.sample("latent", Normal(loc, torch.ones_like(loc)).to_event(1))
            image = self.decoder(z).sigmoid()
            pyro.sample("obs", Bernoulli(image, validate_args=False).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("latent", Normal(loc, log_scale.exp()).to_event(1))


class PyroM2(nn.Module):
    """The structure of Pyro's example ``ss_vae_M2.py``, its unsupervised loss, y enumerated."""

    def __init__(self, hidden: tuple[int, ...], K: int, d: int) -> None:
        super().__init__()
        self.K, self.d = K, d
        self.decoder = mlp(d + K, *hidden, PIXELS)
        self.encoder_y = mlp(PIXELS, *hidden, K)
        self.encoder_z = mlp(PIXELS + K, *hidden, 2 * d)

    def model(self, x: Tensor) -> None:
        pyro.module("ss_vae", self)
        with pyro.plate("data", len(x)):
            zeros = x.new_zeros(len(x), self.d)
            z = pyro.sample("z", Normal(zeros, torch.ones_like(zeros)).to_event(1))
            y = pyro.sample("y", OneHotCategorical(x.new_full((len(x), self.K), 1 / self.K)))
            image = self.decoder(_joined(z, y)).sigmoid()
            pyro.sample("x", Bernoulli(image, validate_args=False).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample(
                "y",
                OneHotCategorical(logits=self.encoder_y(x)),
                infer={"enumerate": "parallel"},
            )
            loc, log_scale = self.encoder_z(_joined(x, y)).chunk(2, -1)
            pyro.sample("z", Normal(loc, log_scale.exp()).to_event(1))


def _joined(*tensors: Tensor) -> Tensor:
    shape: Any = torch.broadcast_shapes(*(t.shape[:-1] for t in tensors))
    return torch.cat([t.expand(*shape, t.shape[-1]) for t in tensors], -1)
