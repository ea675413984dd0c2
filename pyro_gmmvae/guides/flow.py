"""A guide with a normalizing flow for z."""

from typing import Any

import pyro
import torch
from pyro.distributions import Normal, TransformedDistribution
from pyro.distributions.transforms import ConditionalAffineAutoregressive
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn

from pyro_gmmvae.distributions import positive_scale
from pyro_gmmvae.errors import GMMVAEError, check_range
from pyro_gmmvae.guides.base import MixtureGuide, MixtureModel
from pyro_gmmvae.networks import joined
from pyro_gmmvae.param_store import register


class FlowGuide(MixtureGuide):
    """q(z, s|x) = q(z|s,x) q(s|x), with inverse-autoregressive flows on z::

        q(s|x)    Concrete(logits(x), temperature)                          s (B, K)
        e         N(loc(x), scale(x)^2)                                     e (B, d)
        z         flows of e, each one e_j -> m_j(e_<j; x, s) + c_j(e_<j; x, s) e_j

    The flows are Pyro's ``ConditionalAffineAutoregressive``; sampling and scoring a sample take
    one pass each. No closed-form KL exists, so the objective is ``trace`` (or ``iwae``).

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior; d at least 2.
        flows: number of flows; the order of z is reversed between them.
        feature_size: number of features of x that condition the flows.

    Raises:
        GMMVAEError: d = 1, which has nothing autoregressive.

    Reference:
        Kingma et al. 2016, arXiv:1606.04934.
    """

    name = "flow"
    default_objective = "trace"

    def __init__(self, model: MixtureModel, *, flows: int = 2, feature_size: int = 32) -> None:
        super().__init__(model)
        K, d = self.components, self.latent_dim
        if d < 2:
            raise GMMVAEError("the guide 'flow' needs latent_dim of at least 2")
        check_range("flows", flows, 0 <= flows <= 100, "between 0 and 100")
        check_range("feature_size", feature_size, feature_size >= 1, "at least 1")
        self.encoder = model.build_encoder(K + 2 * d + feature_size)
        self.activation = model.options.new_activation()
        self.feature_size = feature_size
        width, order = [max(2 * d, 32)], torch.arange(d)
        self.flows = nn.ModuleList(
            ConditionalAffineAutoregressive(
                # fixed orders, where Pyro's default is random
                ConditionalAutoRegressiveNN(
                    d, feature_size + K, width, permutation=order if i % 2 == 0 else order.flip(0)
                )
            )
            for i in range(flows)
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        register(encoder=self.encoder, flows=self.flows)
        logits, loc, scale, h = self.heads(x)
        with pyro.plate("rows", len(x)):
            s = self.sample_s(logits)
            context = joined(h, s)
            base = Normal(loc, scale).expand([*context.shape[:-1], self.latent_dim]).to_event(1)
            pyro.sample("z", TransformedDistribution(base, self.given(context)))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """logits (B, K), loc (B, d), scale (B, d) and features for the flows (B, F)."""
        d = self.latent_dim
        sizes = [self.components, d, d, self.feature_size]
        logits, loc, raw_scale, h = self.encoder(x).split(sizes, -1)
        return logits, loc, positive_scale(raw_scale), self.activation(h)

    def given(self, context: Tensor) -> list[Any]:
        """The flows for one context of x and s, (..., F + K)."""
        flows: Any = self.flows
        return [flow.condition(context) for flow in flows]

    def class_logits(self, x: Tensor) -> Tensor:
        return self.heads(x)[0]

    def embed(self, x: Tensor) -> Tensor:
        """z, (B, d), for the mean of e and s = softmax(logits(x)), in place of the mean of z."""
        logits, z, _, h = self.heads(x)
        context = joined(h, logits.softmax(-1))
        for flow in self.given(context):
            z = flow(z)
        return z
