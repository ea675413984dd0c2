"""The default guide, a Gaussian product of K heads, and three guides that differ only in s."""

from typing import ClassVar

import pyro
from torch import Tensor

from pyro_gmmvae.distributions import (
    GaussianProduct,
    StraightThroughConcrete,
    Tilted,
    positive_scale,
)
from pyro_gmmvae.guides.base import MixtureGuide, MixtureModel
from pyro_gmmvae.param_store import register


class ProductGuide(MixtureGuide):
    """q(z, s|x) = q(z|s,x) q(s|x), a product of K Gaussians raised to s::

        q(s|x)    Concrete(logits(x), temperature)                    s (B, K)
        q(z|s,x)  prod_i N(z; loc_i(x), scale_i(x)^2)^(s_i) / const   z (B, d)

    One network of x gives logits and all heads: O(B K d) memory.

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior.
    """

    name = "product"

    def __init__(self, model: MixtureModel) -> None:
        super().__init__(model)
        self.encoder = model.build_encoder(self.components * (1 + 2 * self.latent_dim))

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        register(encoder=self.encoder)
        logits, loc, scale = self.heads(x)
        with pyro.plate("rows", len(x)):
            s = self.sample_s(logits)
            pyro.sample("z", GaussianProduct(s, loc, scale))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """logits (B, K), loc (B, K, d) and scale (B, K, d)."""
        K, d = self.components, self.latent_dim
        logits, loc, raw_scale = self.encoder(x).split([K, K * d, K * d], -1)
        return logits, loc.view(-1, K, d), positive_scale(raw_scale.view(-1, K, d))

    def class_logits(self, x: Tensor) -> Tensor:
        return self.heads(x)[0]

    def embed(self, x: Tensor) -> Tensor:
        """Mean of z, (B, d), at s = softmax(logits(x))."""
        logits, loc, scale = self.heads(x)
        return GaussianProduct(logits.softmax(-1), loc, scale).mean


class StraightThroughGuide(ProductGuide):
    """The product guide with s rounded to a vertex, and the gradient of the unrounded s::

        q(s|x)    onehot(argmax u), u ~ Concrete(logits(x), temperature)
        q(z|s,x)  N(loc_i(x), scale_i(x)^2) at the vertex i

    The model gets only one-hot s, as when it generates a class; the density of s remains that of
    u, in guide and model, so the ELBO is that of a model whose s is u rounded.

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior.

    Raises:
        GMMVAEError: a model with a discrete s.

    Reference:
        Jang, Gu, Poole 2017, arXiv:1611.01144.
    """

    name = "straight-through"
    family = StraightThroughConcrete
    relaxed_only = True


class EnumeratedGuide(ProductGuide):
    """The product guide with a discrete s that is summed out instead of relaxed::

        q(s|x)    Categorical(logits(x)), summed over all values by their probabilities
        q(z|s,x)  N(loc_i(x), scale_i(x)^2) for s = i

    The model's p(s) is then the Categorical of the same weights. The estimate has no sampling
    noise of s, and needs K decodings per row.

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior.
    """

    name = "enumerated"

    def __init__(self, model: MixtureModel) -> None:
        super().__init__(model)
        self.relaxed = False


class TiltedGuide(ProductGuide):
    """The product guide with a q(s|x) that is p(s) given its class, times q of the class::

        q(s|x)    sum_c q_c(x) p(s | argmax s = c)                    s (B, K)
        q(z|s,x)  prod_i N(z; loc_i(x), scale_i(x)^2)^(s_i) / const   z (B, d)

        KL(q(s|x) || p(s)) = sum_c q_c(x) log(q_c(x) / pi_c), exactly

    p(s) is the prior of the row, with its label. So s has the prior's temperature, there is no key
    ``temperature``, and the KL of the relaxed model is that of two Categoricals: at most
    -log min pi (log K where pi is flat), and without the noise of a density ratio. See
    :class:`pyro_gmmvae.distributions.Tilted`.

    Args:
        model: the Gaussian-mixture VAE of which this is a posterior.
        sum_classes: sum over the classes, with a draw of s and a decoding for each; otherwise
            draw one class, with a straight-through gradient, which costs one decoding and suits a
            large K.

    Raises:
        GMMVAEError: a model with a discrete s.
    """

    name = "tilted"
    relaxed_only = True
    unused_keys: ClassVar[tuple[str, ...]] = ("temperature",)

    def __init__(self, model: MixtureModel, *, sum_classes: bool = True) -> None:
        super().__init__(model)
        self.sum_classes = sum_classes
        # in a tuple: the mixture belongs to the model, and is not a submodule of the guide
        self._mixture = (model.mixture,)

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        register(encoder=self.encoder)
        logits, loc, scale = self.heads(x)
        infer = {"sum_out": True, "expand": True} if self.sum_classes else {}
        with pyro.plate("rows", len(x)):
            prior = self._mixture[0].prior(len(x), y, relaxed=True)
            s = pyro.sample("s", Tilted(prior, logits), infer=infer)
            pyro.sample("z", GaussianProduct(s, loc, scale))
